"""Backups and restores of every kind bring the same bytes back."""

from __future__ import annotations

import os
import pathlib
import stat

import pytest

from bakflow.db import models
from tests.contract import contents

from .world import MIB, SIZE, World, fill

PROPERTIES = {'os_distro': 'debian', 'hw_disk_bus': 'scsi'}


def change(world: World, volume_id: str, offset: int = 5 * MIB) -> None:
    with open(world.dev.volume_path(volume_id), 'r+b') as f:
        f.seek(offset)
        f.write(os.urandom(100_000))


def test_backup_and_incremental(world: World, random_volume: str) -> None:
    before = world.bytes_of(random_volume)
    first = world.backed_up(random_volume)
    change(world, random_volume)
    after = world.bytes_of(random_volume)
    second = world.backed_up(random_volume)

    assert world.saved(first) == before != after == world.saved(second)
    row = world.row(models.Backup, second)
    assert row.parent_id == first
    assert 100_000 <= row.new_bytes < 200_000
    assert row.stored_bytes < 400_000
    assert world.left(random_volume) == {}
    # Either can go without the other.
    flow = world.flow('backup-delete', first, {
        'backup_id': first, 'target': 'local'})
    world.go(flow)
    assert world.status(first) == 'deleted'
    assert world.heads() == [second]
    collect = world.flow('target-collect', 'local', {'target': 'local'})
    world.go(collect)
    assert world.notes(collect)['report']['blocked'] == {}
    assert world.saved(second) == after


def test_attached_volume(world: World) -> None:
    volume = world.volume(fill(b'a'), attached=True)
    backup = world.backed_up(volume)
    assert world.saved(backup) == world.bytes_of(volume)
    assert world.left(volume) == {}


def test_document(world: World) -> None:
    volume = world.volume(
        fill(b'd'), name='disk', description='a disk', bootable=True,
        metadata={'k': 'v'}, image_metadata=PROPERTIES)
    backup = world.backed_up(volume)
    head = world.store.domain(world.project).head(backup)
    assert head.document['name'] == 'disk'
    assert head.document['metadata'] == {'k': 'v'}
    assert head.document['image_metadata'] == PROPERTIES
    assert head.document['source_id'] == volume
    assert head.document['size_gib'] == 1


def test_to_new_volume(world: World) -> None:
    volume = world.volume(
        fill(b'n'), name='disk', description='a disk',
        metadata={'k': 'v'}, image_metadata=PROPERTIES, volume_type='rbd')
    backup = world.backed_up(volume)
    restore, flow = world.restore('restore-volume', backup, {
        'kind': 'new-volume', 'name': 'again'})
    world.go(flow)
    row = world.restored(restore)
    assert row.status == 'done'
    made = row.result['volume_id']
    assert world.bytes_of(made) == world.bytes_of(volume)
    seen = world.cloud.volumes.get(made)
    assert seen.name == 'again'
    assert seen.metadata == {'k': 'v'}
    assert seen.details['description'] == 'a disk'
    assert seen.details['bootable'] is False
    assert seen.details['volume_image_metadata'] == PROPERTIES
    assert seen.details['type'] == 'rbd'
    assert world.left(volume, made) == {}
    assert world.ledger(flow) == {'image-0': 'gone', 'target-0': 'kept'}


def test_type_override(world: World, random_volume: str) -> None:
    backup = world.backed_up(random_volume)
    restore, flow = world.restore('restore-volume', backup, {
        'kind': 'new-volume', 'name': None}, volume_type='rbd')
    world.go(flow)
    made = world.restored(restore).result['volume_id']
    seen = world.cloud.volumes.get(made)
    assert (seen.details['type'], seen.name) == ('rbd', 'source')


@pytest.mark.parametrize('size_gib', [1, 2])
def test_over_existing_volume(world: World, size_gib: int) -> None:
    volume = world.volume(fill(b'1'), bootable=True,
                          image_metadata=PROPERTIES)
    backup = world.backed_up(volume)
    other = world.dev.make_volume(
        'demo', 'other', size_gib, fill(b'2'), metadata={'mine': 'yes'},
        description='kept')
    restore, flow = world.restore('restore-reimage', backup, {
        'kind': 'existing-volume', 'volume_id': other})
    world.go(flow)
    assert world.restored(restore).result == {'volume_id': other}
    assert world.bytes_of(other)[:SIZE] == world.bytes_of(volume)
    seen = world.cloud.volumes.get(other)
    assert (seen.name, seen.details['description']) == ('other', 'kept')
    assert seen.metadata == {'mine': 'yes'}
    assert seen.details['bootable'] is True
    assert seen.details['volume_image_metadata'] == PROPERTIES
    assert world.left(volume, other) == {}


def test_to_image(world: World) -> None:
    volume = world.volume(fill(b'i'), image_metadata={
        **PROPERTIES, 'image_id': 'x', 'checksum': 'y'})
    backup = world.backed_up(volume)
    restore, flow = world.restore('restore-image', backup, {
        'kind': 'image', 'name': 'an image'})
    world.go(flow)
    made = world.restored(restore).result['image_id']
    image = world.cloud.images.get(made)
    assert (image.name, image.status) == ('an image', 'active')
    assert image.metadata == PROPERTIES
    assert image.details['tags'] == []
    assert image.details['min_disk'] == 1
    assert world.left(volume, made) == {}
    again = world.cloud.volumes.create(None, name='v', size_gib=1,
                                       image_id=made)
    world.dev.wait(lambda: world.dev.volume(again.id).status == 'available')
    assert world.bytes_of(again.id) == world.bytes_of(volume)


def test_to_file(world: World, random_volume: str,
                 tmp_path: pathlib.Path) -> None:
    backup = world.backed_up(random_volume)
    path = tmp_path / 'disk.raw'
    restore, flow = world.restore('restore-file', backup, {
        'kind': 'file', 'path': str(path)})
    world.go(flow)
    assert path.read_bytes() == world.bytes_of(random_volume)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_blocks * 512 < SIZE
    assert world.restored(restore).result == {'path': str(path)}


def test_to_stdout(world: World, random_volume: str,
                   capfd: pytest.CaptureFixture[str],
                   tmp_path: pathlib.Path) -> None:
    backup = world.backed_up(random_volume)
    _, flow = world.restore('restore-file', backup, {
        'kind': 'file', 'path': '-'})
    path = tmp_path / 'out'
    with capfd.disabled(), open(path, 'wb') as out:
        before = os.dup(1)
        os.dup2(out.fileno(), 1)
        try:
            error = world.run(flow)
        finally:
            os.dup2(before, 1)
            os.close(before)
    assert error is None
    assert path.read_bytes() == world.bytes_of(random_volume)
    again = world.run(world.restore('restore-file', backup, {
        'kind': 'file', 'path': '/nowhere/at/all'})[1])
    assert again is not None
    assert '/nowhere/at/all' in again.message


CONTENTS = {
    'zeros': b'', 'luks1': contents.LUKS1, 'luks2': contents.LUKS2,
    'fat': contents.FAT, 'mbr': contents.MBR, 'gpt': contents.GPT,
    'iso': contents.ISO, 'random': os.urandom(SIZE)}


@pytest.mark.parametrize(('volume_type', 'name'), [
    *(('rbd', name) for name in (*CONTENTS, 'qcow2')),
    *(('nfs', name) for name in CONTENTS if name != 'luks1')])
def test_contents(world: World, name: str, volume_type: str) -> None:
    data = {**CONTENTS, 'qcow2': contents.qcow2(SIZE // 2)}[name]
    volume = world.volume(lambda f: f.write(data), volume_type=volume_type)
    backup, flow = world.backup(volume)
    world.go(flow)
    assert world.saved(backup) == data.ljust(SIZE, b'\0')
    assert world.left(volume) == {}
    restore, flow = world.restore('restore-volume', backup, {
        'kind': 'new-volume', 'name': 'again'})
    world.go(flow)
    made = world.restored(restore).result['volume_id']
    assert world.bytes_of(made) == data.ljust(SIZE, b'\0')
