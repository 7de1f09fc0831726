"""A cloud that refuses, stumbles, forgets or is another one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from bakflow import errors
from tests.functional.faults.conftest import MIB, Room, told


@contextlib.contextmanager
def _limit(room: Room, what: str) -> Iterator[None]:
    """A real quota that leaves no room for one more."""
    dev = room.dev
    if what == 'images':
        dev.image_limit = 0
        try:
            yield
        finally:
            dev.image_limit = None
        return
    quota = dev.state.quota(dev.project_id('demo'))
    before = getattr(quota, what)
    setattr(quota, what, {'snapshots': 0, 'volumes': 1, 'gigabytes': 2
                          }[what])
    try:
        yield
    finally:
        setattr(quota, what, before)


@pytest.mark.parametrize('what', ['snapshots', 'volumes', 'gigabytes',
                                  'images'])
def test_quota(room: Room, what: str) -> None:
    """Told, kept, and gone on with once there is room."""
    with _limit(room, what):
        backup = room.back_up()
        flow = room.rest(backup['flow_id'])
        assert flow['status'] == 'queued', flow
        assert flow['run_after']
        told(flow['error'], 'cloud-quota', '', request_id=True)
    room.resume(flow['id'])
    room.whole(backup['id'])


def test_quota_and_abandoned(room: Room) -> None:
    with _limit(room, 'volumes'):
        flow = room.rest(room.back_up()['flow_id'])
        room.abandon(flow['id'])
    room.only_source()
    assert room.api.audit()['clean']


@pytest.mark.parametrize('status', [429, 503])
def test_reads_that_are_refused_for_a_moment(room: Room, status: int
                                             ) -> None:
    for on in ('snapshot.show', 'volume.show', 'image.show',
               'image.download', 'snapshot.list', 'volume.list',
               'image.list'):
        room.dev.faults.add('status', on, status=status, count=2,
                            retry_after=0.1)
    backup = room.back_up()
    room.done(backup)
    room.whole(backup['id'])


def test_401_in_mid_flow(room: Room) -> None:
    hold = room.dev.faults.add('hold', 'image.download', when='body',
                               after_bytes=4 * MIB)
    backup = room.back_up()
    hold.wait_held()
    room.dev.revoke_tokens()
    room.dev.faults.add('cut', 'image.download', after_bytes=MIB)
    hold.release()
    room.done(backup)
    room.whole(backup['id'])


def test_credentials_refused_for_good(room: Room) -> None:
    hold = room.dev.faults.add('hold', 'snapshot.create')
    backup = room.back_up()
    hold.wait_held()
    refused = room.dev.faults.add('status', 'token.create', status=401,
                                  count=None)
    room.dev.revoke_tokens()
    hold.release()
    flow = room.rest(backup['flow_id'])
    assert flow['status'] == 'held'
    told(flow['error'], 'cloud-auth', '')
    room.dev.faults.remove(refused)
    room.resume(flow['id'])
    room.whole(backup['id'])


def test_a_cut_download_goes_on_where_it_was(room: Room) -> None:
    for after in (2 * MIB, 3 * MIB, 4 * MIB):
        room.dev.faults.add('cut', 'image.download', after_bytes=after)
    room.dev.requests.clear()
    backup = room.back_up()
    room.done(backup)
    starts = [int((r.range or 'bytes=0-')[6:].partition('-')[0])
              for r in room.dev.requests.find('image.download')]
    assert max(starts) >= 2 * MIB
    room.whole(backup['id'])


def test_image_deleted_under_us(room: Room) -> None:
    """Another copy of the same snapshot is made."""
    hold = room.dev.faults.add('hold', 'image.download', when='body',
                               after_bytes=4 * MIB)
    backup = room.back_up()
    hold.wait_held()
    (image,) = room.dev.inventory('demo')['images']
    room.dev.remove(image)
    hold.release()
    flow = room.rest(backup['flow_id'])
    if flow['status'] == 'held':
        told(flow['error'], 'resource-vanished', image)
        room.resume(flow['id'])
    room.whole(backup['id'])


@pytest.mark.parametrize('call', ['image.delete', 'volume.delete',
                                  'snapshot.delete'])
def test_deletion_refused_once(room: Room, call: str) -> None:
    room.dev.faults.add('refuse', call)
    backup = room.back_up()
    flow = room.done(backup)
    assert {t['status'] for t in flow['temporaries']} == {'gone'}
    room.whole(backup['id'])


@pytest.mark.parametrize('kind', ['volume', 'snapshot'])
def test_a_deletion_that_ends_in_an_error(room: Room, kind: str) -> None:
    """Orphaned, named by audit, and fixed once the cloud lets it."""
    fault = room.dev.faults.add('error', f'{kind}.delete', count=None)
    backup = room.back_up()
    flow = room.done(backup)
    (orphan,) = [t for t in flow['temporaries']
                 if t['kind'] == kind and t['status'] == 'orphaned']
    assert 'error_deleting' in orphan['last_error']
    assert room.api.show_backup(backup['id'])['status'] == 'available'
    found = room.api.audit()
    assert not found['clean']
    assert {s['id'] for s in found['strays']} >= {orphan['cloud_id']}
    assert {s['where'] for s in found['strays']} == {'cloud', 'ledger'}
    fixed = room.api.audit(fix=True)
    assert not fixed['clean'], 'the cloud still refuses'
    room.dev.faults.remove(fault)
    things = getattr(room.dev, kind)    # an operator resets its state
    room.dev.state.set_status(things(orphan['cloud_id']), 'error')
    fixed = room.api.audit(fix=True)
    assert fixed['clean'], json.dumps(fixed, indent=1)
    room.whole(backup['id'])


@pytest.mark.parametrize('kind', ['snapshot', 'volume'])
def test_error_then_resumed(room: Room, kind: str) -> None:
    room.dev.faults.add('error', f'{kind}.create')
    backup = room.back_up()
    flow = room.rest(backup['flow_id'])
    assert flow['status'] == 'held'
    told(flow['error'], 'resource-failed', kind)
    room.resume(flow['id'])
    room.whole(backup['id'])


def test_a_failure_that_reverts(room: Room) -> None:
    """--on-failure revert: nothing is left, the cause stays."""
    room.dev.faults.add('error', 'volume.create')
    backup = room.api.create_backup(room.source, name='b',
                                    on_failure='revert')
    flow = room.rest(backup['flow_id'])
    assert flow['status'] == 'reverted'
    told(flow['error'], 'resource-failed', 'volume')
    found = room.api.show_backup(backup['id'])
    assert found['status'] == 'error'
    told(found['error'], 'resource-failed', 'volume')
    room.only_source()
    assert room.api.audit()['clean']


def test_resumed_with_another_cloud(room: Room) -> None:
    """The same project, but not the same cloud: refused both ways."""
    room.dev.faults.add('error', 'volume.create')
    backup = room.back_up()
    flow = room.rest(backup['flow_id'])
    assert flow['status'] == 'held'
    for what in _elsewhere(room):
        for move in (room.api.resume_flow, room.api.abandon_flow):
            with pytest.raises((errors.WrongCloud, errors.NotFound)
                               ) as caught:
                move(flow['id'])
            if what == 'admin of the project':
                assert isinstance(caught.value, errors.WrongCloud)
                assert 'OS_CLOUD' in str(caught.value.hint)
    room.open()
    room.resume(flow['id'])
    room.whole(backup['id'])


def _elsewhere(room: Room) -> Iterator[str]:
    """Rooms with other credentials than the flow's."""
    room.open('devcloud-other')
    yield 'another project'
    import os
    import pathlib

    import yaml
    path = pathlib.Path(os.environ['OS_CLIENT_CONFIG_FILE'])
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    cloud = {**config['clouds']['devcloud']}
    cloud['auth'] = {**cloud['auth'], 'auth_url': cloud['auth'][
        'auth_url'].replace('127.0.0.1', 'localhost')}
    config['clouds']['elsewhere'] = cloud
    path.write_text(yaml.safe_dump(config))
    room.open('elsewhere')
    yield 'admin of the project'
