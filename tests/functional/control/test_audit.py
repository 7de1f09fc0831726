"""Audit deletes what nobody needs, and nothing else."""

from __future__ import annotations

import pytest

from bakflow import errors
from bakflow.cloud.naming import Tag
from bakflow.conductor import audit
from bakflow.db import models


def make_flow(house, status):
    with house.db.transaction() as session:
        row = models.Flow(
            id=models.new_id(), kind='restore-volume', project_id='p',
            owner_id=models.new_id(), status=status)
        session.add(row)
    return row


def renamed(house, flow_id, owner_id):
    """A volume in the middle of its mending: named, still marked."""
    volumes = house.conductor.cloud().volumes
    tag = Tag(house.db.deployment, owner_id, flow_id, 'target')
    made = volumes.create(tag, name=tag.name, size_gib=1)
    house.until(lambda: volumes.get(made.id).status == 'available')
    volumes.update(made.id, name='mine', description='')
    return made.id


def is_there(house, volume_id):
    try:
        return house.conductor.cloud().volumes.get(volume_id) is not None
    except errors.ResourceVanished:
        return False


@pytest.mark.parametrize('status', ['queued', 'running', 'held'])
def test_a_volume_that_a_living_flow_renamed_stays(house, status):
    flow = make_flow(house, status)
    volume = renamed(house, flow.id, flow.owner_id)
    found = audit.run(house.conductor, fix=True)
    assert is_there(house, volume)
    assert found['clean']


def test_one_whose_flow_has_ended_goes(house):
    flow = make_flow(house, 'reverted')
    volume = renamed(house, flow.id, flow.owner_id)
    found = audit.run(house.conductor, fix=True)
    assert [s['verdict'] for s in found['strays']] == [audit.NOT_NEEDED]
    assert not is_there(house, volume)


def test_one_of_a_flow_that_the_database_does_not_know_is_only_told(house):
    volume = renamed(house, models.new_id(), models.new_id())
    found = audit.run(house.conductor, fix=True)
    assert [s['verdict'] for s in found['strays']] == [audit.UNKNOWN]
    assert is_there(house, volume)


def test_what_a_flow_makes_while_audit_looks_stays(house, gate):
    """The flow began after audit had read the database."""
    look = audit._Audit(house.conductor, True)
    held = gate('volume:usable')
    house.conductor.start()
    made = house.call('create_backup', volume=house.volume())
    assert held.reached.wait(30)
    assert list(look.cloud()) == []
    assert list(look.ledger()) == []
    held.opened.set()
    assert house.ended(made['flow_id']).status == 'done'
