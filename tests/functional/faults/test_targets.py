"""Targets that are not writable, full, of others, or damaged."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from bakflow import errors, store
from tests.functional.faults.conftest import MIB, Room, told


def _refused(room: Room, cls: type[errors.BakflowError]
             ) -> errors.BakflowError:
    """Told by the request, by target show and by target check."""
    with pytest.raises(cls) as caught:
        room.back_up()
    assert caught.value.hint
    assert room.api.list_backups() == []
    assert room.dev.inventory('demo')['snapshots'] == {}
    check = room.api.check_target('local')
    assert not check['ok']
    assert any(caught.value.message in c['result'] for c in check['checks'])
    return caught.value


def test_a_file_where_the_target_should_be(room: Room) -> None:
    path = room.folder / 'file'
    path.write_text('not a folder')
    room.target = {'path': str(path)}
    room.open()
    assert 'file' in _refused(room, errors.StoreError).message


def test_a_target_that_takes_no_writes(room: Room) -> None:
    """sysfs lets nobody make a folder, root neither."""
    room.target = {'path': '/sys/bakflow'}
    room.open()
    assert isinstance(_refused(room, errors.StoreError),
                      errors.StoreNotWritable)


class Filling(store.FilesystemBackend):
    """Full from the n-th object on, until there is room."""

    left = 0

    def put(self, name: str, data: Any) -> None:
        if Filling.left <= 0:
            raise errors.StoreFull(
                'No space left on device',
                hint='Make room at the target, then resume the flow.')
        Filling.left -= 1
        super().put(name, data)


@pytest.mark.parametrize('puts', [3, 4, 5])
def test_full_in_mid_upload(room: Room, monkeypatch: pytest.MonkeyPatch,
                            puts: int) -> None:
    """Marker, key, session; then the packs, pages and the head."""
    assert room.running is not None
    targets = room.running.conductor.targets
    monkeypatch.setattr(targets, 'backend',
                        lambda name: Filling(targets.path(name)))
    Filling.left = puts
    backup = room.back_up()
    flow = room.rest(backup['flow_id'])
    assert flow['status'] == 'held'
    told(flow['error'], 'store-full', '')
    assert room.dev.inventory('demo')['images'], 'all is kept'
    Filling.left = 1000
    room.resume(flow['id'])
    room.whole(backup['id'])


def test_a_file_system_that_is_full(
        room: Room, mounted: Callable[[int], str]) -> None:
    room.target = {'path': mounted(4) + '/target'}
    room.open()
    backup = room.back_up()
    flow = room.rest(backup['flow_id'])
    assert flow['status'] == 'held'
    told(flow['error'], 'store-full', '')
    mounted(64)
    room.resume(flow['id'])
    room.whole(backup['id'])


def test_full_and_abandoned(room: Room, monkeypatch: pytest.MonkeyPatch
                            ) -> None:
    assert room.running is not None
    targets = room.running.conductor.targets
    monkeypatch.setattr(targets, 'backend',
                        lambda name: Filling(targets.path(name)))
    Filling.left = 4
    backup = room.back_up()
    room.abandon(room.rest(backup['flow_id'])['id'])
    room.only_source()
    assert room.api.show_backup(backup['id'])['status'] == 'error'
    assert room.api.audit()['clean']


# -- of others ------------------------------------------------------------

def test_another_key(room: Room) -> None:
    room.done(room.back_up())
    key = room.state / 'keys' / 'local.key'
    right = key.read_bytes()
    key.unlink()
    store.load_key_file(key, create=True)
    room.open()
    with pytest.raises(errors.StoreKeyWrong) as caught:
        room.back_up('c')
    assert caught.value.hint
    flow = room.rest(room.api.verify_backup('b')['flow_id'])
    assert flow['status'] == 'held'
    assert flow['error']['code'] == 'store-key'
    assert 'key' in room.api.show_target('local')['state']
    key.write_bytes(right)
    room.open()
    room.resume(flow['id'])
    room.whole('b')


def test_no_key(room: Room) -> None:
    """A new one must not be made: it would open nothing."""
    room.done(room.back_up())
    key = room.state / 'keys' / 'local.key'
    key.rename(room.folder / 'moved')
    room.open()
    with pytest.raises(errors.ConfigError) as caught:
        room.back_up('c')
    assert str(key) in caught.value.message
    assert caught.value.hint
    assert not key.exists()


def test_another_deployment(room: Room) -> None:
    room.done(room.back_up())
    old = room.state
    room.state = room.folder / 'other'
    room.target = {'path': str(old / 'targets' / 'local'),
                   'key_file': str(old / 'keys' / 'local.key')}
    room.open()
    with pytest.raises(errors.StoreForeign) as caught:
        room.back_up()
    assert caught.value.hint
    assert room.api.list_backups() == []
    assert 'deployment' in room.api.show_target('local')['state']
    assert not room.api.check_target('local')['ok']


def test_a_newer_format(room: Room) -> None:
    room.done(room.back_up())
    marker = room.state / 'targets' / 'local' / 'bakflow.json'
    data = json.loads(marker.read_bytes())
    data['format'] += 1
    marker.chmod(0o600)
    marker.write_text(json.dumps(data))
    room.open()
    with pytest.raises(errors.StoreTooNew) as caught:
        room.back_up('c')
    assert caught.value.hint
    flow = room.rest(room.api.create_restore(
        'b', {'kind': 'file', 'path': str(room.folder / 'disk')}
        )['flow_id'])
    assert flow['error']['code'] == 'store-too-new'
    assert not (room.folder / 'disk').exists()


# -- damaged --------------------------------------------------------------

@pytest.fixture(scope='module')
def saved(tmp_path_factory: pytest.TempPathFactory, dev: Any, source: str
          ) -> pathlib.Path:
    """The state of a room with one backup."""
    folder = tmp_path_factory.mktemp('saved')
    with pytest.MonkeyPatch.context() as patch:
        clouds = folder / 'clouds.yaml'
        clouds.write_text(dev.clouds_yaml())
        patch.setenv('OS_CLIENT_CONFIG_FILE', str(clouds))
        made = Room(folder, dev, source)
        made.open()
        made.done(made.back_up())
        made.close()
    return made.state


def _flip(room: Room, kind: str, place: float) -> str:
    """Flip one bit of an object; its name."""
    root = room.state / 'targets' / 'local'
    pattern = {'marker': 'bakflow.json', 'key': 'k/*/*', 'head': 'd/*/b/*/*',
               'page': 'd/*/m/*/*', 'pack': 'd/*/p/*/*/*'}[kind]
    path = max(root.glob(pattern), key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    data[int((len(data) - 1) * place)] ^= 4
    path.chmod(0o600)
    path.write_bytes(data)
    return str(path.relative_to(root))


@pytest.mark.parametrize('place', [0.0, 0.5, 1.0])
@pytest.mark.parametrize('kind', ['marker', 'key', 'head', 'page', 'pack'])
def test_a_flipped_bit(room: Room, saved: pathlib.Path, kind: str,
                       place: float) -> None:
    """Verify and restore fail and name it; what was written is undone."""
    room.close()
    shutil.rmtree(room.state)
    shutil.copytree(saved, room.state)
    name = _flip(room, kind, place)
    room.open()

    flow = room.rest(room.api.verify_backup('b')['flow_id'])
    if flow['status'] == 'done':
        backup = room.api.show_backup('b')
        assert backup['status'] == 'damaged'
        assert name in json.dumps(backup['damages'])
    else:
        assert flow['status'] == 'held'
        assert flow['error']['code'].startswith('store-')
        assert name in json.dumps(flow['error'])
        room.abandon(flow['id'])

    path = room.folder / 'disk'
    for where in ({'kind': 'file', 'path': str(path)},
                  {'kind': 'new-volume', 'name': 'back'},
                  {'kind': 'image', 'name': 'back'}):
        flow = room.rest(room.api.create_restore('b', where)['flow_id'])
        assert flow['status'] == 'held', where
        assert name in json.dumps(flow['error'])
        assert flow['error'].get('hint'), flow['error']
        room.abandon(flow['id'])
        (restore, *_) = room.api.list_restores()
        assert restore['status'] == 'error'
    assert not path.exists()
    room.only_source()


def test_a_damaged_restore_over_a_volume_is_marked(
        room: Room, saved: pathlib.Path) -> None:
    """The volume keeps what it had: the image is checked before."""
    room.close()
    shutil.rmtree(room.state)
    shutil.copytree(saved, room.state)
    _flip(room, 'pack', 0.5)
    room.open()
    volume = room.dev.make_volume(
        'demo', 'old', 1, lambda disk: disk.write(b'old' * MIB))
    before = pathlib.Path(room.dev.volume_path(volume)).read_bytes()[:8 * MIB]
    flow = room.rest(room.api.create_restore(
        'b', {'kind': 'existing-volume', 'volume_id': volume})['flow_id'])
    assert flow['status'] == 'held'
    assert flow['error']['code'] == 'store-corrupt'
    room.abandon(flow['id'])
    after = pathlib.Path(room.dev.volume_path(volume)).read_bytes()[:8 * MIB]
    assert before == after
    assert room.dev.volume(volume).status == 'available'
    assert room.dev.volume(volume).name == 'old'
