"""kill -9 in a restore, a deletion and a collection."""

from __future__ import annotations

import pytest

from tests.crash.conftest import House, points, same


def _restored(house: House) -> list[str]:
    return [k for k, v in house.cloud.inventory()['volumes'].items()
            if v.startswith('back ')]


def _whole(house: House) -> None:
    """One new volume with the bytes of the source, and nothing else."""
    found = house.cloud.inventory()
    (volume,) = _restored(house)
    assert found == {'volumes': {house.source: 'source (available)',
                                 volume: 'back (available)'},
                     'snapshots': {}, 'images': {}}
    assert same(house.cloud.volume_path(volume),
                house.cloud.volume_path(house.source))
    assert house.cloud.volume(volume).description == 'the one'
    (restore,) = house.data('restore', 'list')
    assert restore['status'] == 'done'
    house.clean()


@pytest.mark.parametrize('point', points(
    'image:created send:sent target:created mend:mended image:deleted',
    'image:intended image:recorded send:begun target:intended '
    'target:recorded target:usable finish:kept finish:end '
    'image:releasing settle:forward'))
def test_killed_and_resumed(furnished: House, point: str) -> None:
    house = furnished
    house.die(point, 'restore', 'create', 'b', '--to-volume', 'back')
    house.run('flow', 'resume', house.stopped())
    _whole(house)


@pytest.mark.parametrize('point', points(
    'send:begun target:created',
    'image:created image:recorded send:sent target:recorded target:usable '
    'mend:mended'))
def test_killed_and_abandoned(furnished: House, point: str) -> None:
    house = furnished
    house.die(point, 'restore', 'create', 'b', '--to-volume', 'back')
    flow = house.stopped()
    house.run('flow', 'abandon', flow)
    assert house.data('flow', 'show', flow)['status'] == 'reverted'
    house.only_source()
    (restore,) = house.data('restore', 'list')
    assert restore['status'] == 'error'
    house.clean()
    house.whole_backup()


@pytest.mark.parametrize('point', points(
    'target:deleted', 'image:releasing image:deleted target:releasing '
    'settle:revert'))
def test_killed_while_abandoned(furnished: House, point: str) -> None:
    house = furnished
    house.die('target:usable', 'restore', 'create', 'b', '--to-volume',
              'back')
    flow = house.stopped()
    house.die(point, 'flow', 'abandon', flow)
    assert house.stopped() == flow
    house.run('flow', 'resume', flow)
    house.only_source()
    house.clean()


@pytest.mark.parametrize('point', points(
    'write:segment:2', 'write:intended write:created write:opened '
    'write:segment write:end finish:end settle:forward'))
def test_a_file(furnished: House, point: str) -> None:
    house = furnished
    path = house.folder / 'disk'
    house.die(point, 'restore', 'create', 'b', '--to-file', str(path))
    house.run('flow', 'resume', house.stopped())
    assert same(path, house.cloud.volume_path(house.source))
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_is_removed_when_abandoned(furnished: House) -> None:
    house = furnished
    path = house.folder / 'disk'
    house.die('write:segment:2', 'restore', 'create', 'b', '--to-file',
              str(path))
    assert path.exists()
    house.run('flow', 'abandon', house.stopped())
    assert not path.exists()


@pytest.mark.parametrize('point', points(
    'remove:begin remove:removed', 'open:begin open:end remove:end '
    'finish:begin finish:end settle:forward'))
def test_deletion(furnished: House, point: str) -> None:
    """A deletion is finished, whatever of it was done."""
    house = furnished
    house.die(point, 'backup', 'delete', 'b')
    house.run('flow', 'resume', house.stopped())
    assert house.data('backup', 'list') == []
    house.run('target', 'collect', 'local')
    for kind in 'bspm':
        assert house.objects(kind) == []
    house.clean()


def test_collection(furnished: House) -> None:
    """A killed collection is gone on with, and harms no later backup."""
    house = furnished
    house.run('backup', 'delete', 'b')
    house.die('collect:removed', 'target', 'collect', 'local')
    house.run('flow', 'resume', house.stopped())
    for kind in 'bspm':
        assert house.objects(kind) == []
    house.run('backup', 'create', '--volume', 'source', '--name', 'b')
    house.whole_backup()
    house.clean()
