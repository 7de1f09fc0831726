"""Volumes to images and images to volumes: states, metadata, contents."""

from __future__ import annotations

import hashlib

import pytest

from contract import contents
from contract.site import NOWHERE, Site, fault, random_bytes

SPARSE = b'bakflow' * 1000 + bytes(100_000) + b'the end'


def as_qcow2(data: bytes) -> bytes:
    """A qcow2 image of a disk that begins with these bytes."""
    from bakflow.qcow2.writer import stream
    size = -(-len(data) // 65536) * 65536
    padded = data.ljust(size, b'\0')
    return b''.join(stream(size, [(0, size)],
                           lambda offset, n: padded[offset:offset + n]))


def read_disk(image: bytes) -> bytes:
    """The beginning of the disk in a qcow2 image, up to 4 MiB."""
    from bakflow.qcow2.reader import Qcow2Image
    opened = Qcow2Image.open(lambda offset, n: image[offset:offset + n])
    disk = bytearray(4 << 20)
    for extent in opened.extents():
        if extent.offset >= len(disk):
            break
        offset, length = extent.offset, extent.length
        host = extent.host_offset
        if host is not None and extent.packed is not None:
            packed = image[host:host + extent.packed]
            disk[offset:offset + length] = opened.inflate(extent, packed)
        elif host is not None:
            length = min(length, len(disk) - offset)
            disk[offset:offset + length] = image[host:host + length]
    return bytes(disk)


def volume_of(site: Site, data: bytes, **details: object) -> str:
    """A volume that begins with these bytes."""
    image = site.make_image(as_qcow2(data), 'qcow2')
    volume: str = site.make_volume('data', imageRef=image, **details)['id']
    return volume


def digest(site: Site, volume: str) -> str:
    """SHA-256 of the first 4 MiB of a volume, by way of a qcow2 image."""
    image = site.upload(volume)
    site.wait('image', image)
    got = site.image('GET', f'/{image}/file').content
    site.wait('volume', volume)
    return hashlib.sha256(read_disk(got)).hexdigest()


def expected_digest(data: bytes) -> str:
    return hashlib.sha256(data.ljust(4 << 20, b'\0')).hexdigest()


# -- upload to image ------------------------------------------------------

def test_upload_answers_at_once_and_the_image_can_be_marked(
        typed: Site) -> None:
    volume = typed.make_volume()['id']
    typed.act(volume, 'os-set_image_metadata', {'metadata': {
        'image_id': NOWHERE, 'image_name': 'old', 'checksum': 'x',
        'min_disk': '1', 'size': '5', 'os_type': 'linux'}})
    answer = typed.act(volume, 'os-volume_upload_image', {
        'image_name': typed.name('up'), 'disk_format': 'qcow2',
        'container_format': 'bare', 'visibility': 'private',
        'protected': False}, '3.1')
    assert answer.status_code == 202
    told = answer.json()['os-volume_upload_image']
    typed.later('image', told['image_id'])
    assert set(told) == {
        'id', 'updated_at', 'status', 'display_description', 'size',
        'volume_type', 'image_id', 'container_format', 'disk_format',
        'image_name', 'protected', 'visibility'}
    assert told['status'] == 'uploading'
    assert told['id'] == volume

    image = told['image_id']
    change = {'op': 'add', 'path': '/bakflow', 'value': 'yes'}
    assert typed.patch(image, change).status_code == 200
    assert typed.image('PUT', f'/{image}/tags/mine').status_code == 204
    before = typed.show('image', image)
    if before['status'] == 'queued':
        assert before['size'] is None
    typed.wait('image', image)
    typed.wait('volume', volume)
    shown = typed.show('image', image)
    assert shown['bakflow'] == 'yes'
    assert shown['tags'] == ['mine']
    assert shown['virtual_size'] == typed.gib
    assert shown['disk_format'] == 'qcow2'
    assert shown['visibility'] == 'private'
    assert shown['name'] == typed.name('up')
    assert shown['owner'] == typed.project
    # the volume's image metadata become properties, but for what was the
    # image's own
    assert shown['os_type'] == 'linux'
    assert shown['min_disk'] == 0
    assert not {'image_id', 'image_name'} & set(shown)


def test_busy_while_uploading(typed: Site) -> None:
    volume = typed.make_volume()['id']
    image = typed.upload(volume, 'raw')
    path = f'/volumes/{volume}'
    answers = [typed.volume('GET', path),
               typed.volume('DELETE', path),
               typed.volume('POST', '/snapshots', {'snapshot': {
                   'volume_id': volume, 'force': True}}, '3.0'),
               typed.act(volume, 'os-volume_upload_image',
                         {'image_name': 'x'})]
    assert answers[0].json()['volume']['status'] == 'uploading'
    assert fault(answers[1])[2].startswith(
        'Invalid volume: Volume status must be available or error')
    assert fault(answers[2])[2] == (
        f'Invalid volume: Volume {volume} status must be available, in-use, '
        'but current status is: uploading.')
    assert fault(answers[3])[2] == (
        f'Invalid volume: Volume {volume} status must be available')
    seen = typed.wait('image', image)
    assert seen in (['queued', 'saving', 'active'], ['saving', 'active'],
                    ['queued', 'active'], ['active'])
    typed.wait('volume', volume)
    shown = typed.show('image', image)
    assert shown['size'] == shown['virtual_size'] == typed.gib


@pytest.mark.parametrize(('data', 'status', 'text'), [
    ({}, 400, 'Invalid input for field/attribute os-volume_upload_image. '
     "Value: {}. 'image_name' is a required property"),
    ({'image_name': 'x', 'disk_format': 'zz'}, 400,
     "Invalid input for field/attribute disk_format. Value: zz. 'zz' is not "
     "one of ['raw', 'vmdk', 'vdi', 'qcow2', 'vhd', 'vhdx', 'ploop']"),
    ({'image_name': 'x', 'visibility': 'zz'}, 400,
     "Invalid input for field/attribute visibility. Value: zz. 'zz' is not "
     "one of ['community', 'public', 'private', 'shared']"),
    ({'image_name': 'x', 'visibility': 'public'}, 403,
     "Policy doesn't allow volume_extension:volume_actions:upload_public to "
     'be performed.'),
    ({'image_name': 'x', 'metadata': {'a': 'b'}}, 400,
     'Invalid input for field/attribute os-volume_upload_image. Value: '
     "{'image_name': 'x', 'metadata': {'a': 'b'}}. Additional properties "
     "are not allowed ('metadata' was unexpected)"),
])
def test_bad_uploads(site: Site, data: dict[str, object], status: int,
                     text: str) -> None:
    volume = site.make_volume()['id']
    answer = site.act(volume, 'os-volume_upload_image', data, '3.1')
    assert fault(answer)[0::2] == (status, text)


def test_upload_of_a_volume_with_snapshots(typed: Site) -> None:
    """NFS: the volume is a qcow2 overlay then, and the upload fails."""
    volume = typed.make_volume()['id']
    snapshot = typed.create('snapshot', {'volume_id': volume})['id']
    typed.wait('snapshot', snapshot)
    image = typed.upload(volume)
    if typed.volume_type == 'nfs':
        typed.wait('image', image, 'gone')
    else:
        typed.wait('image', image)
    typed.wait('volume', volume)


#: content, then by way of raw and of qcow2: whether the image comes
UPLOADS = [('fat', contents.FAT, False, True),
           ('luks2', contents.LUKS2, False, True),
           ('mbr', contents.MBR, True, True)]


@pytest.mark.parametrize(('data', 'raw', 'qcow2'),
                         [u[1:] for u in UPLOADS], ids=[u[0] for u in UPLOADS])
def test_contents_of_uploads(typed: Site, data: bytes, raw: bool,
                             qcow2: bool) -> None:
    """What is refused as raw: 202, and the image vanishes."""
    volume = volume_of(typed, data)
    for disk_format, comes in (('raw', raw), ('qcow2', qcow2)):
        image = typed.upload(volume, disk_format)
        seen = typed.wait('image', image, 'active', 'gone')
        assert seen[-1] == ('active' if comes else 'gone')
        typed.wait('volume', volume)
    assert digest(typed, volume) == expected_digest(data)
    told = typed.volume('GET', f'/messages?resource_uuid={volume}',
                        version='3.5').json()['messages']
    assert [m['user_message'] for m in told] == [
        'copy volume to image:Failed to upload volume to image at backend.'
    ] * (not raw)


def test_a_disk_image_inside_a_disk(typed: Site) -> None:
    """Cinder takes it for the image that it is: wrong bytes, no error.

    RBD: only an upload as qcow2. NFS: the disk is changed when it is made
    from an image already.
    """
    volume = volume_of(typed, contents.QCOW2)
    image = typed.upload(volume)
    typed.wait('image', image)
    typed.wait('volume', volume)
    size = typed.show('image', image)['virtual_size']
    if typed.volume_type == 'rbd':
        assert size == 16 << 20
    assert digest(typed, volume) != expected_digest(contents.QCOW2)


# -- image to volume ------------------------------------------------------

def test_volume_from_an_image(typed: Site) -> None:
    data = random_bytes(300_000)
    image = typed.make_image(data, os_type='linux', min_disk=1, min_ram=64,
                             mine='x')
    made = typed.create('volume', {
        'name': typed.name('v'), 'size': 1, 'imageRef': image,
        'volume_type': typed.volume_type})
    assert made['bootable'] == 'false'
    seen = typed.wait('volume', made['id'])
    assert seen in (['creating', 'downloading', 'available'],
                    ['downloading', 'available'], ['available'],
                    ['creating', 'available'])
    shown = typed.show('volume', made['id'])
    assert shown['bootable'] == 'true'      # whatever the image holds
    assert shown['metadata'] == {}
    assert shown['volume_image_metadata'] == {
        'os_type': 'linux', 'mine': 'x', 'image_id': image,
        'image_name': typed.name('i'),
        'checksum': hashlib.md5(data).hexdigest(),
        'container_format': 'bare', 'disk_format': 'raw', 'min_disk': '1',
        'min_ram': '64', 'size': '300000'}
    assert digest(typed, made['id']) == expected_digest(data)


def test_image_deleted_after_the_volume_was_made(site: Site) -> None:
    image = site.make_image(as_qcow2(SPARSE), 'qcow2')
    volume = site.make_volume('v', imageRef=image)['id']
    site.delete('image', image)
    assert site.show('volume', volume)['status'] == 'available'
    assert digest(site, volume) == expected_digest(SPARSE)


def test_reimage(typed: Site) -> None:
    if typed.real and typed.volume_type == 'rbd':
        pytest.skip('needs QEMU\'s rbd driver on the host of cinder-volume')
    old = typed.make_image(b'old' * 1000, os_type='linux', mine='x')
    new = typed.make_image(as_qcow2(SPARSE), 'qcow2', os_type='windows',
                           yours='y')
    volume = typed.make_volume('v', imageRef=old, metadata={'k': 'v'})['id']
    typed.act(volume, 'os-set_bootable', {'bootable': False})
    answer = typed.act(volume, 'os-reimage', {'image_id': new}, '3.68')
    assert (answer.status_code, answer.content) == (202, b'')
    assert typed.show('volume', volume)['status'] in ('downloading',
                                                      'available')
    typed.wait('volume', volume)
    shown = typed.show('volume', volume)
    # bootable again, and the metadata are the new image's only
    assert shown['bootable'] == 'true'
    assert shown['metadata'] == {'k': 'v'}
    given = shown['volume_image_metadata']
    assert given['image_id'] == new
    assert given['os_type'] == 'windows'
    assert given['yours'] == 'y'
    assert 'mine' not in given
    assert digest(typed, volume) == expected_digest(SPARSE)


def test_bad_reimages(site: Site) -> None:
    volume = site.make_volume()['id']
    assert fault(site.act(volume, 'os-reimage', {'image_id': NOWHERE},
                          '3.67')) == (
        404, 'itemNotFound', 'The resource could not be found.')
    assert fault(site.act(volume, 'os-reimage', {}, '3.68')) == (
        400, 'badRequest', 'Invalid input for field/attribute os-reimage. '
        "Value: {}. 'image_id' is a required property")
    assert fault(site.act(volume, 'os-reimage', {'image_id': NOWHERE},
                          '3.68')) == (
        404, 'itemNotFound', f'Image {NOWHERE} could not be found.')
    queued = site.make_image()
    inactive = ('Invalid input received: Image '
                f'{queued} is not active.')
    assert fault(site.act(volume, 'os-reimage', {'image_id': queued},
                          '3.68'))[2] == inactive
    assert fault(site.volume('POST', '/volumes', {'volume': {
        'size': 1, 'imageRef': queued}}))[2] == inactive
    big = site.make_image(b'x', min_disk=5)
    small = ('Invalid input received: Volume size 1GB cannot be smaller '
             'than the image minDisk size 5GB.')
    assert fault(site.act(volume, 'os-reimage', {'image_id': big},
                          '3.68'))[2] == small
    assert fault(site.volume('POST', '/volumes', {'volume': {
        'size': 1, 'imageRef': big}}))[2] == small


def test_reimage_of_an_attached_volume(site: Site) -> None:
    image = site.make_image(b'x' * 512)
    volume = site.make_volume()['id']
    site.act(volume, 'os-attach', {'instance_uuid': NOWHERE,
                                   'mountpoint': '/dev/vdb', 'mode': 'rw'})
    try:
        answer = site.act(volume, 'os-reimage', {'image_id': image}, '3.68')
        assert fault(answer) == (
            400, 'badRequest', f'Invalid volume: Volume {volume} status '
            'must be available or error, but current status is in-use.')
    finally:
        site.act(volume, 'os-detach', {})


def test_qcow2_that_claims_to_be_raw(typed: Site) -> None:
    image = typed.make_image(contents.QCOW2)
    made = typed.create('volume', {'size': 1, 'imageRef': image,
                                   'volume_type': typed.volume_type})
    seen = typed.wait('volume', made['id'], 'error')
    assert seen[-1] == 'error'


def test_luks_from_an_image(typed: Site) -> None:
    """LUKS version 1: NFS fails, RBD does it."""
    image = typed.make_image(as_qcow2(contents.LUKS1), 'qcow2')
    made = typed.create('volume', {'size': 1, 'imageRef': image,
                                   'volume_type': typed.volume_type})
    if typed.volume_type == 'nfs':
        typed.wait('volume', made['id'], 'error')
        return
    typed.wait('volume', made['id'])
    vanishing = typed.upload(made['id'], 'qcow2')
    typed.wait('image', vanishing, 'gone')
    typed.wait('volume', made['id'])
    raw = typed.upload(made['id'], 'raw')
    typed.wait('image', raw)
    got = typed.image('GET', f'/{raw}/file',
                      headers={'Range': 'bytes=0-1048575'})
    assert got.content == contents.LUKS1


# -- bootable and image metadata as a member ------------------------------

def test_bootable_and_image_metadata(site: Site) -> None:
    volume = site.make_volume()['id']
    assert 'volume_image_metadata' not in site.show('volume', volume)

    def act(name: str, data: object) -> tuple[int, object]:
        answer = site.act(volume, name, data)
        return answer.status_code, (answer.json() if answer.content
                                    else None)

    assert act('os-set_bootable', {'bootable': True}) == (200, None)
    assert site.show('volume', volume)['bootable'] == 'true'
    # even what looks like the service's own may be set
    own = {'image_id': NOWHERE, 'image_name': 'n', 'size': '5',
           'checksum': 'x', 'signature_verified': 'True'}
    assert act('os-set_image_metadata', {'metadata': own}) == (
        200, {'metadata': own})
    assert act('os-set_image_metadata', {'metadata': {'os_type': 'l'}}) == (
        200, {'metadata': {**own, 'os_type': 'l'}})
    assert act('os-unset_image_metadata', {'key': 'checksum'}) == (200, None)
    assert site.act(volume, 'os-unset_image_metadata',
                    {'key': 'nosuch'}).json() == {'itemNotFound': {
                        'code': 404, 'message': 'Glance metadata for volume/'
                        f'snapshot {volume} cannot be found.'}}
    del own['checksum']
    assert site.show('volume', volume)['volume_image_metadata'] == {
        **own, 'os_type': 'l'}
    for key in list(own) + ['os_type']:
        act('os-unset_image_metadata', {'key': key})
    assert 'volume_image_metadata' not in site.show('volume', volume)
    assert fault(site.act(volume, 'os-set_bootable', {'bootable': 'zz'}))[
        2].startswith('Invalid input for field/attribute bootable. Value: '
                      "zz. 'zz' is not one of [True, 'True',")
