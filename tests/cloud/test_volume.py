"""A volume, there and back, on a real cloud (promises 1 to 5 of the design).

Each scenario ends with nothing left in the cloud and a clean audit.
"""

from __future__ import annotations

import json

import pytest

from bakflow.cloud import volumes

from . import site
from .site import GIB, MIB, Content, pieces, sha256_of_file

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(site.CLOUD is None, reason='BAKFLOW_TEST_CLOUD names '
                                                  'no real cloud')]

#: About a fifth of the disk, spread out, with a bit at the very end.
DISK = Content(pieces(1, [*range(0, 1000, 5), 1023]))


@pytest.fixture(params=site.TYPES)
def here(request, tmp_path):
    found = site.Site(request.param, tmp_path)
    yield found
    found.sweep()


def assert_clean(here, *restored):
    here.audit()
    assert here.ours() == []


def restore(here, backup, *where):
    made = here.data('restore', 'create', backup['id'], *where)
    return here.data('restore', 'show', made.get('ID') or made['id'])


def test_two_backups_each_stands_alone(here, tmp_path):
    """The second costs what changed; the first may go; all ways back."""
    volume = here.volume(DISK, description='the database',
                         metadata={'owner': 'ops'})
    here.cloud.volumes.mend(volume.id, volumes.Look(
        volume.name, 'the database', False, {'owner': 'ops'},
        {'hw_disk_bus': 'scsi'}))
    first = here.backup(volume)
    second_disk = DISK.changed(pieces(2, range(2, 52, 5)))
    here.rewrite(volume, second_disk)
    here.cloud.volumes.mend(volume.id, volumes.Look(
        volume.name, 'the database', False, {'owner': 'ops'},
        {'hw_disk_bus': 'scsi'}))
    second = here.backup(volume)
    assert second['parent_id'] == first['id']
    assert second['new_bytes'] == 10 * MIB
    here.bakflow('backup', 'delete', first['id'])
    here.bakflow('target', 'collect', 'local')

    wanted = second_disk.sha256()
    path = tmp_path / 'out.raw'
    restore(here, second, '--to-file', str(path))
    assert sha256_of_file(path) == wanted

    done = restore(here, second, '--to-volume', 'bf-test-restored')
    made = here.adopt(done['result']['volume_id'])
    assert here.volume_sha256(made.id) == wanted
    assert volumes.Look.of(made) == volumes.Look(
        'bf-test-restored', 'the database', False, {'owner': 'ops'},
        {'hw_disk_bus': 'scsi'})
    assert made.details['type'] == here.type

    other = here.volume(Content(pieces(3, range(0, 100, 7))))
    restore(here, second, '--into-volume', other.id, '--yes')
    assert here.volume_sha256(other.id) == wanted
    mended = here.cloud.volumes.get(other.id)
    assert mended.name == other.name
    assert not mended.details['bootable']
    here.bakflow('backup', 'verify', second['id'])
    assert_clean(here)


@pytest.mark.parametrize('point', ['upload:segment:40', 'image:created'])
def test_killed_and_resumed(here, tmp_path, point):
    """kill -9 in mid upload and in mid image: resumed, equal."""
    volume = here.volume(DISK)
    here.bakflow('backup', 'create', '--volume', volume.id, fault=point,
                 code=-9)
    flow, = json.loads(here.bakflow('flow', 'list', '-f', 'json'))
    flow = flow.get('ID') or flow['id']
    here.bakflow('flow', 'resume', flow)
    backup, = json.loads(here.bakflow('backup', 'list', '-f', 'json'))
    path = tmp_path / 'out.raw'
    restore(here, {'id': backup.get('ID') or backup['id']}, '--to-file',
            str(path))
    assert sha256_of_file(path) == DISK.sha256()
    assert_clean(here)


def test_killed_and_abandoned(here):
    """Nothing is left of it."""
    volume = here.volume(DISK)
    here.bakflow('backup', 'create', '--volume', volume.id,
                 fault='upload:segment:20', code=-9)
    flow, = json.loads(here.bakflow('flow', 'list', '-f', 'json'))
    here.bakflow('flow', 'abandon', flow.get('ID') or flow['id'])
    assert_clean(here)


SPECIAL = {
    'random': Content(pieces(5, range(1024))),
    'zeros': Content({}),
    'luks2': Content({0: b'LUKS\xba\xbe\x00\x02' + bytes(4088),
                      **pieces(6, range(16, 64))}),
    'fat': Content({0: b'\xeb\x3c\x90MSDOS5.0' + bytes(499) + b'\x55\xaa',
                    **pieces(7, range(1, 40, 3))}),
}


@pytest.mark.parametrize('kind', list(SPECIAL))
def test_any_bytes(here, kind):
    """Random, zeros, a LUKS header, a FAT boot sector: there and back."""
    content = SPECIAL[kind]
    volume = here.volume(content if content.parts else None)
    backup = here.backup(volume)
    assert backup['size_bytes'] == GIB
    done = restore(here, backup, '--to-volume', 'bf-test-back')
    made = here.adopt(done['result']['volume_id'])
    again = here.backup(made)
    assert again['digest'] == backup['digest']
    path = here.home / 'out.raw'
    restore(here, again, '--to-file', str(path))
    assert sha256_of_file(path) == content.sha256()
    assert_clean(here)
