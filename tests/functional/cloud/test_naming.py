"""Our own resources are known again, and nobody else's are taken for ours."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakflow.cloud import naming
from bakflow.cloud.resources import Resource

ids = st.uuids().map(str)
roles = st.from_regex(r'[a-z][a-z0-9_]{0,15}', fullmatch=True)
tags = st.builds(naming.Tag, ids, ids, ids, roles, st.integers(0, 99))


def resource(name: str, metadata: dict[str, str]) -> Resource:
    return Resource('volume', 'i', name, 'available', metadata, 0, '', {})


@given(tags)
def test_a_tag_is_read_back(tag: naming.Tag) -> None:
    made = resource(tag.name, {**tag.metadata, 'more': 'x'})
    assert naming.parse(made) == tag
    assert tag.fits(made)
    assert naming.ours(made, tag.deployment) == tag
    assert naming.ours(made, str(uuid.uuid4())) is None
    assert len(tag.name) <= 255


@given(tags)
def test_by_name_alone(tag: naming.Tag) -> None:
    made = resource(tag.name, {'hw_x': 'y'})
    known = naming.ours(made, tag.deployment)
    assert known is not None
    assert known.by_name_only
    assert (known.owner, known.role, known.ordinal) == (
        tag.owner, tag.role, tag.ordinal)
    assert not tag.fits(made)
    assert naming.ours(made, 'any other') == known


@given(tags, tags)
def test_one_tag_fits_one_resource(one: naming.Tag, two: naming.Tag
                                   ) -> None:
    made = resource(one.name, one.metadata)
    assert two.fits(made) == (one == two)


@pytest.mark.parametrize('name', [
    '', 'bakflow', 'bakflow-', 'my-volume', 'bakflow-demo-volume',
    'bakflow-8b8f0a0e-0000-4000-8000-000000000000',
    'bakflow-8b8f0a0e-0000-4000-8000-000000000000-',
    'bakflow-8b8f0a0e-0000-4000-8000-000000000000-Volume',
    'bakflow-8b8f0a0e-0000-4000-8000-000000000000-volume-0',
    'bakflow-8b8f0a0e-0000-4000-8000-000000000000-volume-x',
    ' bakflow-8b8f0a0e-0000-4000-8000-000000000000-volume',
    'bakflow-8b8f0a0e-0000-4000-8000-000000000000-volume\n'])
def test_names_of_others(name: str) -> None:
    assert naming.parse(resource(name, {})) is None


@given(st.dictionaries(
    st.sampled_from(['bakflow_deployment', 'bakflow_owner', 'bakflow_flow',
                     'bakflow_role', 'x']), st.text(max_size=40)),
       st.text(max_size=60))
def test_any_metadata_is_survived(metadata: dict[str, str], name: str
                                  ) -> None:
    """Users can write what they like into it."""
    naming.parse(resource(name, metadata))


def test_a_tag_that_would_not_be_known_again_is_not_made() -> None:
    with pytest.raises(ValueError, match='known again'):
        naming.Tag('d', 'no uuid', 'f', 'volume')
    with pytest.raises(ValueError, match='known again'):
        naming.Tag('d', str(uuid.uuid4()), 'f', 'Volume-1')
