"""Requests that cannot be carried out: refused, with nothing begun."""

from __future__ import annotations

import pytest

from bakflow import errors
from tests.functional.faults.conftest import Room, told

NOWHERE = '00000000-1111-2222-3333-444444444444'


def _refused(room: Room, cls: type[errors.BakflowError], volume: str,
             **more: str) -> errors.BakflowError:
    with pytest.raises(cls) as caught:
        room.api.create_backup(volume, **more)
    assert room.api.list_backups() == []
    assert room.api.list_flows() == []
    return caught.value


@pytest.mark.parametrize('ref', ['nosuch', NOWHERE])
def test_unknown_volume(room: Room, ref: str) -> None:
    error = _refused(room, errors.NotFound, ref)
    assert ref in error.message
    assert error.hint


def test_two_of_one_name(room: Room) -> None:
    ids = [room.dev.make_volume('demo', 'twin') for _ in range(2)]
    error = _refused(room, errors.NotUnique, 'twin')
    assert all(id in str(error) for id in ids)
    assert error.hint


def test_a_volume_of_another_project(room: Room) -> None:
    other = room.dev.make_volume('other', 'theirs')
    _refused(room, errors.NotFound, other)
    _refused(room, errors.NotFound, 'theirs')


@pytest.mark.parametrize('status', [
    'error', 'deleting', 'creating', 'error_deleting', 'maintenance'])
def test_volume_that_is_not_usable(room: Room, status: str) -> None:
    volume = room.dev.make_volume('demo', 'odd', status=status)
    error = _refused(room, errors.Conflict, 'odd')
    told(error.to_dict(), 'conflict', volume)
    assert status in error.message


def test_encrypted_volume(room: Room) -> None:
    volume = room.dev.make_volume('demo', 'secret')
    kind = room.dev.volume(volume).type
    before, kind.encryption = kind.encryption, {'provider': 'luks'}
    try:
        error = _refused(room, errors.InvalidRequest, 'secret')
    finally:
        kind.encryption = before
    told(error.to_dict(), 'invalid', volume)
    assert 'encrypted' in error.message


def test_no_such_target(room: Room) -> None:
    error = _refused(room, errors.NotFound, room.source, target='moon')
    assert 'moon' in error.message
    assert error.hint
    assert 'local' in error.hint


def test_words_that_are_none(room: Room) -> None:
    _refused(room, errors.InvalidRequest, room.source, image_format='vmdk')
    _refused(room, errors.InvalidRequest, room.source, on_failure='pray')


def test_unknown_backup_restore_and_flow(room: Room) -> None:
    for ask in (room.api.show_backup, room.api.delete_backup,
                room.api.verify_backup, room.api.show_restore,
                room.api.show_flow, room.api.resume_flow,
                room.api.abandon_flow, room.api.cancel_flow):
        with pytest.raises(errors.NotFound) as caught:
            ask(NOWHERE)
        assert NOWHERE in caught.value.message


def test_backup_of_another_project(room: Room) -> None:
    backup = room.back_up()
    flow = room.done(backup)['id']
    room.open('devcloud-other')
    assert room.api.list_backups() == []
    where = {'kind': 'new-volume', 'name': 'mine'}
    for ask in (room.api.show_backup, room.api.delete_backup,
                room.api.verify_backup,
                lambda ref: room.api.create_restore(ref, where)):
        for ref in (backup['id'], 'b'):
            with pytest.raises(errors.NotFound):
                ask(ref)
    for ask in (room.api.show_flow, room.api.resume_flow,
                room.api.abandon_flow):
        with pytest.raises(errors.NotFound):
            ask(flow)


def test_destinations_that_do_not_fit(room: Room) -> None:
    room.done(room.back_up())
    attached = room.dev.make_volume('demo', 'attached', attached=True)
    for where, cls in (
            ({'kind': 'moon'}, errors.InvalidRequest),
            ({'kind': 'new-volume'}, errors.InvalidRequest),
            ({'kind': 'existing-volume', 'volume_id': NOWHERE},
             errors.NotFound),
            ({'kind': 'existing-volume', 'volume_id': attached},
             errors.Conflict)):
        with pytest.raises(cls) as caught:
            room.api.create_restore('b', where)
        assert caught.value.hint or where['kind'] == 'new-volume'
    assert room.api.list_restores() == []


def test_the_preview_tells_of_quotas(room: Room) -> None:
    quota = room.dev.state.quota(room.dev.project_id('demo'))
    before = quota.snapshots
    quota.snapshots = 0
    try:
        seen = room.api.preview('backup', {'volume': room.source})
    finally:
        quota.snapshots = before
    (short,) = [q for q in seen['quotas'] if not q['enough']]
    assert short['what'] == 'snapshots'
    assert any('snapshots' in w for w in seen['warnings'])


def test_the_preview_tells_of_a_huge_image(room: Room) -> None:
    huge = room.dev.make_volume('demo', 'huge', 1025)
    seen = room.api.preview('backup', {'volume': huge})
    assert any('image_size_cap' in w for w in seen['warnings'])
    seen = room.api.preview('backup', {'volume': room.source})
    assert not any('image_size_cap' in w for w in seen['warnings'])
