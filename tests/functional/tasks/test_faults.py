"""What goes wrong on the way, and what is left of it: nothing."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import pytest

from bakflow import errors
from bakflow.db import models
from tests.contract import contents

from .world import MIB, REVERT, SIZE, Crash, World, fill

BACKUP_POINTS = [
    'open:begin', 'snapshot:intended', 'snapshot:created',
    'snapshot:recorded', 'snapshot:usable', 'volume:intended',
    'volume:created', 'volume:recorded', 'image:intended', 'image:created',
    'image:recorded', 'image:end', 'upload:started', 'upload:segment',
    'upload:end', 'commit:begin', 'commit:head', 'commit:end',
    'image:releasing', 'image:deleted', 'image:released',
    'volume:releasing', 'volume:released', 'snapshot:deleted',
    'cleanup:end']

COMMITTED = BACKUP_POINTS.index('commit:end')


# -- crashes --------------------------------------------------------------

@pytest.mark.parametrize('point', BACKUP_POINTS)
def test_backup_killed_and_resumed(world: World, random_volume: str,
                                   point: str) -> None:
    backup, flow = world.backup(random_volume)
    world.crash_at(point)
    with pytest.raises(Crash):
        world.run(flow)
    world.go(flow)
    assert world.status(backup) == 'available'
    assert world.saved(backup) == world.bytes_of(random_volume)
    assert world.heads() == [backup]
    assert world.left(random_volume) == {}
    assert set(world.ledger(flow).values()) == {'gone'}


@pytest.mark.parametrize('point', BACKUP_POINTS[:COMMITTED])
def test_backup_killed_and_abandoned(world: World, random_volume: str,
                                     point: str) -> None:
    backup, flow = world.backup(random_volume)
    world.crash_at(point)
    with pytest.raises(Crash):
        world.run(flow)
    if point == 'commit:head':
        assert world.heads() == [backup]    # and it must not stay
    world.abandon(flow)
    assert world.status(backup) == 'error'
    assert world.heads() == []
    assert world.left(random_volume) == {}
    assert set(world.ledger(flow).values()) <= {'gone', 'absent'}
    count, _ = world.store.usage().get('packs', (0, 0))
    assert count == 0


@pytest.mark.parametrize('point', [
    'image:reverting', 'image:releasing', 'image:deleted', 'image:released',
    'volume:reverting', 'volume:deleted', 'snapshot:releasing',
    'snapshot:reverted', 'open:reverting', 'open:reverted'])
def test_killed_while_it_reverts(world: World, random_volume: str,
                                 point: str) -> None:
    backup, flow = world.backup(random_volume)
    world.crash_at('upload:segment')
    with pytest.raises(Crash):
        world.run(flow)
    world.crash_at(point)
    with pytest.raises(Crash):
        world.abandon(flow)
    world.abandon(flow)
    assert world.status(backup) == 'error'
    assert world.left(random_volume) == {}
    assert set(world.ledger(flow).values()) == {'gone'}


RESTORE_POINTS = [
    'image:created', 'send:begun', 'send:piece', 'send:sent', 'send:end',
    'target:intended', 'target:created', 'target:recorded', 'target:usable',
    'mend:mended', 'finish:kept', 'finish:end', 'image:deleted']


@pytest.mark.parametrize('point', RESTORE_POINTS)
def test_restore_killed_and_resumed(world: World, random_volume: str,
                                    point: str) -> None:
    backup = world.backed_up(random_volume)
    restore, flow = world.restore('restore-volume', backup, {
        'kind': 'new-volume', 'name': 'again'})
    world.crash_at(point)
    with pytest.raises(Crash):
        world.run(flow)
    world.go(flow)
    made = world.restored(restore).result['volume_id']
    assert world.bytes_of(made) == world.bytes_of(random_volume)
    assert world.cloud.volumes.get(made).name == 'again'
    assert world.left(random_volume, made) == {}


@pytest.mark.parametrize('point', RESTORE_POINTS[:-3])
def test_restore_killed_and_abandoned(world: World, random_volume: str,
                                      point: str) -> None:
    backup = world.backed_up(random_volume)
    restore, flow = world.restore('restore-volume', backup, {
        'kind': 'new-volume', 'name': 'again'})
    world.crash_at(point)
    with pytest.raises(Crash):
        world.run(flow)
    world.abandon(flow)
    assert world.restored(restore).status == 'error'
    assert world.left(random_volume) == {}


@pytest.mark.parametrize('point', [
    'reimage:marked', 'reimage:begun', 'reimage:asked', 'reimage:end',
    'mend:mended', 'finish:end'])
def test_reimage_killed(world: World, random_volume: str, point: str
                        ) -> None:
    backup = world.backed_up(random_volume)
    other = world.volume(fill(b'2'), name='other', metadata={'mine': 'yes'})
    restore, flow = world.restore('restore-reimage', backup, {
        'kind': 'existing-volume', 'volume_id': other})
    world.crash_at(point)
    with pytest.raises(Crash):
        world.run(flow)
    world.go(flow)
    assert world.restored(restore).status == 'done'
    assert world.bytes_of(other) == world.bytes_of(random_volume)
    seen = world.cloud.volumes.get(other)
    assert (seen.name, seen.metadata) == ('other', {'mine': 'yes'})
    assert world.left(random_volume, other) == {}


@pytest.mark.parametrize(('point', 'marked'), [
    ('reimage:marked', False), ('reimage:asked', True)])
def test_reimage_abandoned(world: World, random_volume: str, point: str,
                           marked: bool) -> None:
    backup = world.backed_up(random_volume)
    other = world.volume(fill(b'2'), name='other', metadata={'mine': 'yes'})
    before = world.bytes_of(other)
    restore, flow = world.restore('restore-reimage', backup, {
        'kind': 'existing-volume', 'volume_id': other})
    world.crash_at(point)
    with pytest.raises(Crash):
        world.run(flow)
    world.abandon(flow)
    metadata = world.cloud.volumes.get(other).metadata
    assert world.restored(restore).status == 'error'
    if marked:
        assert metadata == {'mine': 'yes',
                            'bakflow_incomplete_restore': restore}
    else:
        assert metadata == {'mine': 'yes'}
        assert world.bytes_of(other) == before
    assert world.left(random_volume, other) == {}


@pytest.mark.parametrize('point', [
    'write:intended', 'write:created', 'write:opened', 'write:segment',
    'write:end', 'finish:begin'])
def test_file_killed(world: World, random_volume: str, point: str,
                     tmp_path: pathlib.Path) -> None:
    backup = world.backed_up(random_volume)
    for end in ('resume', 'abandon'):
        path = tmp_path / end
        restore, flow = world.restore('restore-file', backup, {
            'kind': 'file', 'path': str(path)})
        world.crash_at(point)
        with pytest.raises(Crash):
            world.run(flow)
        if end == 'resume':
            world.go(flow)
            assert path.read_bytes() == world.bytes_of(random_volume)
        else:
            world.abandon(flow)
            assert not path.exists()
            assert world.restored(restore).status == 'error'


# -- lost answers ---------------------------------------------------------

@pytest.mark.parametrize('when', ['before', 'after'])
@pytest.mark.parametrize('call', [
    'snapshot.create', 'volume.create', 'volume.upload'])
def test_lost_answer(world: World, random_volume: str, call: str,
                     when: str) -> None:
    world.dev.faults.add('drop', on=call, when=when)
    seen: list[int] = []
    world.crash_at('upload:begin')
    backup, flow = world.backup(random_volume)
    with pytest.raises(Crash):
        world.run(flow)
    found = world.left(random_volume)
    assert len(found) == 3, (found, seen)   # exactly one of each
    world.go(flow)
    assert world.saved(backup) == world.bytes_of(random_volume)
    assert world.left(random_volume) == {}


def test_lost_answers_of_a_restore(world: World, random_volume: str
                                   ) -> None:
    backup = world.backed_up(random_volume)
    other = world.volume(name='other')
    for call in ('image.create', 'volume.create', 'volume.reimage'):
        world.dev.faults.add('drop', on=call, when='after')
    restore, flow = world.restore('restore-volume', backup, {
        'kind': 'new-volume', 'name': 'again'})
    world.go(flow)
    made = world.restored(restore).result['volume_id']
    _, flow = world.restore('restore-reimage', backup, {
        'kind': 'existing-volume', 'volume_id': other})
    world.go(flow)
    for volume in (made, other):
        assert world.bytes_of(volume) == world.bytes_of(random_volume)
    assert world.left(random_volume, made, other) == {}


# -- failures -------------------------------------------------------------

@pytest.mark.parametrize(('call', 'kind'), [
    ('snapshot.create', 'snapshot'), ('volume.create', 'volume')])
def test_goes_to_error(world: World, random_volume: str, call: str,
                       kind: str) -> None:
    world.dev.faults.add('error', on=call)
    backup, flow = world.backup(random_volume)
    error = world.run(flow)
    assert isinstance(error, errors.ResourceFailed)
    assert kind in str(error.resource)
    world.go(flow)      # makes another one
    ledger = world.ledger(flow)
    assert ledger[f'{kind}-1'] == 'gone'
    assert world.saved(backup) == world.bytes_of(random_volume)
    assert world.left(random_volume) == {}


@pytest.mark.parametrize('on', ['snapshot', 'volume'])
def test_vanishes(world: World, random_volume: str, on: str) -> None:
    """Before anything is stored all can be made anew."""
    backup, flow = world.backup(random_volume)
    world.crash_at('image:begin')
    with pytest.raises(Crash):
        world.run(flow)
    name = f'bakflow-{backup}-{on}'
    kind = {'snapshot': world.dev.state.snapshots,
            'volume': world.dev.state.volumes}[on]
    if on == 'snapshot':
        # Its volume goes as well: else nobody would miss the snapshot.
        _remove(world, world.dev.state.volumes, f'bakflow-{backup}-volume')
    _remove(world, kind, name)
    error = world.run(flow)
    assert isinstance(error, errors.ResourceVanished)
    assert error.request_id
    world.go(flow)
    assert world.saved(backup) == world.bytes_of(random_volume)
    assert world.left(random_volume) == {}


def test_image_vanishes_in_mid_upload(world: World, random_volume: str
                                      ) -> None:
    backup, flow = world.backup(random_volume)
    world.crash_at('upload:segment', 3)
    with pytest.raises(Crash):
        world.run(flow)
    _remove(world, world.dev.state.images, f'bakflow-{backup}-image')
    world.go(flow)
    assert world.ledger(flow)['image-1'] == 'gone'
    assert world.saved(backup) == world.bytes_of(random_volume)
    assert world.left(random_volume) == {}


def test_two_points_in_time_are_not_mixed(world: World, random_volume: str
                                          ) -> None:
    backup, flow = world.backup(random_volume)
    world.crash_at('upload:segment', 3)
    with pytest.raises(Crash):
        world.run(flow)
    for kind, things in (('image', world.dev.state.images),
                         ('volume', world.dev.state.volumes),
                         ('snapshot', world.dev.state.snapshots)):
        _remove(world, things, f'bakflow-{backup}-{kind}')
    error = world.run(flow)
    assert isinstance(error, errors.ResourceVanished)
    assert 'new backup' in str(error.hint)
    world.abandon(flow)
    assert world.left(random_volume) == {}
    assert world.heads() == []


def test_raw_is_refused(world: World) -> None:
    volume = world.volume(lambda f: f.write(contents.LUKS2))
    backup, flow = world.backup(volume, image_format='raw')
    error = world.run(flow)
    assert isinstance(error, errors.ImageRefused)
    world.abandon(flow)
    backup, flow = world.backup(volume)
    world.go(flow)
    assert world.notes(flow)['image_format'] == 'qcow2'
    assert world.saved(backup) == contents.LUKS2.ljust(SIZE, b'\0')
    assert world.left(volume) == {}


def test_disk_image_in_the_disk_on_nfs(world: World) -> None:
    """Cinder hands out other bytes: that is seen, and nothing is left."""
    volume = world.volume(lambda f: f.write(contents.QCOW2 + bytes(MIB)))
    with open(world.dev.volume_path(volume), 'r+b') as f:
        f.write(contents.qcow2(SIZE // 2))
    backup, flow = world.backup(volume)
    error = world.run(flow)
    assert isinstance(error, errors.CloudError)
    world.abandon(flow)
    assert world.status(backup) == 'error'
    assert world.left(volume) == {}


def test_dense_and_refused_as_raw(world: World, tmp_path: pathlib.Path
                                  ) -> None:
    data = contents.LUKS2[:4096] + os.urandom(SIZE - 4096)
    data = data[:8] + os.urandom(SIZE - 8)
    volume = world.volume(lambda f: f.write(data))
    backup = world.backed_up(volume)
    _, flow = world.restore('restore-volume', backup, {
        'kind': 'new-volume', 'name': 'again'})
    error = world.run(flow)
    assert isinstance(error, errors.ImageRefused)
    assert 'file' in str(error.hint)
    world.abandon(flow)
    assert world.left(volume) == {}
    path = tmp_path / 'disk'
    world.go(world.restore('restore-file', backup, {
        'kind': 'file', 'path': str(path)})[1])
    assert path.read_bytes() == data


def test_quota(world: World, random_volume: str) -> None:
    world.dev.faults.add('quota', on='volume.create')
    backup, flow = world.backup(random_volume)
    assert isinstance(world.run(flow), errors.QuotaReached)
    world.go(flow)
    assert world.saved(backup) == world.bytes_of(random_volume)
    assert 'volume-1' not in world.ledger(flow)


def test_cut_download(world: World, random_volume: str) -> None:
    for after in (MIB, 3 * MIB):
        world.dev.faults.add('cut', on='image.download', after_bytes=after)
    backup = world.backed_up(random_volume)
    assert world.saved(backup) == world.bytes_of(random_volume)


def test_cut_upload(world: World, random_volume: str) -> None:
    backup = world.backed_up(random_volume)
    world.dev.faults.add('cut', on='image.upload', after_bytes=3 * MIB)
    restore, flow = world.restore('restore-volume', backup, {
        'kind': 'new-volume', 'name': 'again'})
    assert isinstance(world.run(flow), errors.CloudUnavailable)
    world.go(flow)
    made = world.restored(restore).result['volume_id']
    assert world.bytes_of(made) == world.bytes_of(random_volume)
    assert world.left(random_volume, made) == {}


@pytest.mark.parametrize('call', [
    'image.delete', 'volume.delete', 'snapshot.delete'])
def test_deletion_refused_once(world: World, random_volume: str, call: str
                               ) -> None:
    world.dev.faults.add('refuse', on=call, count=2)
    world.backed_up(random_volume)
    assert world.left(random_volume) == {}


@pytest.mark.parametrize('call', ['volume.delete', 'snapshot.delete'])
def test_error_deleting(world: World, random_volume: str, call: str) -> None:
    role = call.split('.')[0]
    world.dev.faults.add('error', on=call)
    backup, flow = world.backup(random_volume)
    world.go(flow)
    assert world.status(backup) == 'available'
    assert world.ledger(flow)[f'{role}-0'] == 'orphaned'
    assert list(world.left(random_volume).values()) == [
        f'bakflow-{backup}-{role} (error_deleting)']
    with world.db.transaction() as session:
        rows = session.query(models.Temporary).filter_by(role=role)
        assert 'error_deleting' in rows.one().last_error


def test_error_deleting_while_it_reverts(world: World, random_volume: str
                                         ) -> None:
    world.dev.faults.add('error', on='volume.delete')
    backup, flow = world.backup(random_volume)
    world.crash_at('upload:segment')
    with pytest.raises(Crash):
        world.run(flow)
    world.abandon(flow)
    assert world.status(backup) == 'error'
    assert world.ledger(flow) == {
        'snapshot-0': 'gone', 'volume-0': 'orphaned', 'image-0': 'gone'}


def test_flipped_byte(world: World, random_volume: str,
                      tmp_path: pathlib.Path) -> None:
    backup = world.backed_up(random_volume)
    packs = [p for p in (tmp_path / 'target').rglob('*')
             if p.is_file() and '/p/' in str(p)]
    pack = max(packs, key=lambda p: p.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)

    path = tmp_path / 'disk'
    _, flow = world.restore('restore-file', backup, {
        'kind': 'file', 'path': str(path)})
    assert isinstance(world.run(flow), errors.StoreCorrupt)
    world.abandon(flow)
    assert not path.exists()
    _, flow = world.restore('restore-volume', backup, {
        'kind': 'new-volume', 'name': 'again'})
    assert isinstance(world.run(flow), errors.StoreCorrupt)
    world.abandon(flow)
    assert world.left(random_volume) == {}

    flow = world.flow('backup-verify', backup, {
        'backup_id': backup, 'target': 'local'})
    world.go(flow)
    row = world.row(models.Backup, backup)
    assert row.status == 'damaged'
    assert pack.name in row.damages[0]['object']
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    world.go(world.flow('backup-verify', backup, {
        'backup_id': backup, 'target': 'local'}))
    assert world.status(backup) == 'available'


# -- control --------------------------------------------------------------

@pytest.mark.parametrize('error', [
    errors.Interrupted('stop'), errors.Cancelled('cancel'),
    errors.LeaseLost('lost')], ids=lambda e: e.code)
@pytest.mark.parametrize('point', [
    'snapshot:recorded', 'image:recorded', 'upload:segment',
    'image:releasing'])
def test_control_errors_pass(world: World, random_volume: str, point: str,
                             error: errors.ControlError) -> None:
    backup, flow = world.backup(random_volume)
    world.stop_at(point, error)
    assert _end_of(world, flow) is error
    world.go(flow)
    assert world.saved(backup) == world.bytes_of(random_volume)
    assert world.left(random_volume) == {}


@pytest.mark.parametrize('point', ['send:piece', 'target:recorded'])
def test_control_errors_pass_a_restore(world: World, random_volume: str,
                                       point: str) -> None:
    backup = world.backed_up(random_volume)
    error = errors.Interrupted('stop')
    restore, flow = world.restore('restore-volume', backup, {
        'kind': 'new-volume', 'name': 'again'})
    world.stop_at(point, error)
    assert _end_of(world, flow) is error
    world.go(flow)
    made = world.restored(restore).result['volume_id']
    assert world.bytes_of(made) == world.bytes_of(random_volume)
    assert world.left(random_volume, made) == {}


def test_a_file_that_is_there_is_not_touched(
        world: World, random_volume: str, tmp_path: pathlib.Path) -> None:
    backup = world.backed_up(random_volume)
    path = tmp_path / 'disk'
    path.write_text('precious')
    _, flow = world.restore('restore-file', backup, {
        'kind': 'file', 'path': str(path)})
    assert isinstance(world.run(flow), errors.Conflict)
    world.abandon(flow)
    assert path.read_text() == 'precious'


def test_busy_or_small_destination(world: World, random_volume: str) -> None:
    backup = world.backed_up(random_volume)
    other = world.volume(name='other', attached=True)
    _, flow = world.restore('restore-reimage', backup, {
        'kind': 'existing-volume', 'volume_id': other})
    error = world.run(flow)
    assert isinstance(error, errors.Conflict)
    assert 'in-use' in error.message
    world.abandon(flow)
    assert world.left(random_volume, other) == {}


@pytest.mark.parametrize('error', [
    errors.WrongCloud('another'), errors.CloudAuthFailed('no')],
    ids=lambda e: e.code)
def test_nothing_is_orphaned_without_a_cloud(
        world: World, random_volume: str, error: errors.CloudError) -> None:
    _, flow = world.backup(random_volume)
    world.crash_at('upload:segment')
    with pytest.raises(Crash):
        world.run(flow)
    world.no_cloud = error
    assert world.run(flow, REVERT) is not None
    assert set(world.ledger(flow).values()) == {'live'}
    world.no_cloud = None
    world.abandon(flow)
    assert world.left(random_volume) == {}


@pytest.mark.parametrize('when', ['before', 'after'])
def test_killed_while_an_answer_is_lost(world: World, random_volume: str,
                                        when: str) -> None:
    """The row tells the next run that there is a doubt."""
    world.dev.faults.add('drop', on='snapshot.create', when=when)
    backup, flow = world.backup(random_volume)
    world.stop_at('snapshot:intended', errors.Interrupted('stop'))
    assert isinstance(world.run(flow), errors.Interrupted)
    assert world.ledger(flow) == {'snapshot-0': 'intended'}
    world.go(flow)
    assert world.saved(backup) == world.bytes_of(random_volume)
    assert world.left(random_volume) == {}


@pytest.mark.xfail(reason='the runner tells of the forward failure again '
                          'when all was reverted')
def test_abandoned_after_a_failure(world: World, random_volume: str) -> None:
    world.dev.faults.add('error', on='volume.create')
    _, flow = world.backup(random_volume)
    assert isinstance(world.run(flow), errors.ResourceFailed)
    assert world.run(flow, REVERT) is None


def test_reimage_fails_and_is_resumed(world: World, random_volume: str
                                      ) -> None:
    backup = world.backed_up(random_volume)
    other = world.volume(name='other')
    world.dev.faults.add('error', on='volume.reimage')
    _, flow = world.restore('restore-reimage', backup, {
        'kind': 'existing-volume', 'volume_id': other})
    error = world.run(flow)
    assert isinstance(error, errors.ResourceFailed)
    assert 'resume' in str(error.hint)
    world.go(flow)
    assert world.bytes_of(other) == world.bytes_of(random_volume)


def _remove(world: World, things: dict[str, Any], name: str) -> None:
    world.dev.remove(next(t.id for t in things.values() if t.name == name))


def _end_of(world: World, flow_id: str) -> errors.BakflowError | None:
    try:
        return world.run(flow_id)
    except errors.LeaseLost as exc:
        return exc
