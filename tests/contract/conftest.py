"""The same calls against the simulated cloud and, when named, a real one.

``BAKFLOW_TEST_CLOUD`` names a cloud of clouds.yaml (``OS_CLIENT_CONFIG_FILE``
says where that is): a project with the role member. ``BAKFLOW_TEST_TYPES``
lists its volume types to go through (default ``nfs``). All that a test makes
there it also deletes. Where the two differ, the simulated one is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import openstack
import pytest

from bakflow.devcloud import DevCloud
from contract.site import Site

REAL = os.environ.get('BAKFLOW_TEST_CLOUD')
REAL_TYPES = os.environ.get('BAKFLOW_TEST_TYPES', 'nfs').split(',')
#: what a GiB is in the simulated cloud: hashing 1 GiB takes 4 CPU seconds
GIB = 32 << 20
_TYPES = [('devcloud', 'nfs'), ('devcloud', 'rbd')]
if REAL:
    _TYPES += [('real', t) for t in REAL_TYPES]


def _real() -> Iterator[Site]:
    conn = openstack.connect(cloud=REAL)
    made = Site(conn, real=True, volume_type=REAL_TYPES[0])
    yield made
    made.clean()
    conn.close()


def _simulated(folder: Path) -> Iterator[Site]:
    with DevCloud(folder, gib=GIB) as cloud:
        conn = openstack.connect(
            load_yaml_config=False, load_envvars=False, auth=cloud.auth(),
            region_name='RegionOne')
        made = Site(conn, real=False, volume_type='nfs', gib=GIB)
        yield made
        made.clean()
        conn.close()
        left = cloud.inventory()
        assert left == {'volumes': {}, 'snapshots': {}, 'images': {}}


@pytest.fixture(params=['devcloud'] + (['real'] if REAL else []))
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A cloud, with its default type."""
    yield from (_real() if request.param == 'real'
                else _simulated(tmp_path / 'cloud'))


@pytest.fixture(params=_TYPES, ids='-'.join)
def typed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A cloud and each of its types in turn."""
    kind, volume_type = request.param
    for made in (_real() if kind == 'real'
                 else _simulated(tmp_path / 'cloud')):
        made.volume_type = volume_type
        yield made
