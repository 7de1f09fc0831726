"""Images: lives, bytes and ranges, patches and tags, content checks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
import requests

from contract import contents
from contract.site import NOWHERE, Site, random_bytes


def page(answer: requests.Response) -> tuple[int, str]:
    """Status and text of Glance's HTML error."""
    text = answer.text.split('</h1>')[1].split('</body>')[0]
    words = text.replace('<br />', ' ').replace('&#x27;', "'").split()
    assert answer.text.startswith(
        f'<html>\n <head>\n  <title>{answer.status_code} ')
    return answer.status_code, ' '.join(words)


QUEUED = {
    'name', 'disk_format', 'container_format', 'visibility', 'size',
    'virtual_size', 'status', 'checksum', 'protected', 'min_ram', 'min_disk',
    'owner', 'os_hidden', 'os_hash_algo', 'os_hash_value', 'id',
    'created_at', 'updated_at', 'tags', 'self', 'file', 'schema'}


def test_life_of_an_image(site: Site) -> None:
    data = random_bytes(1_000_000)
    answer = site.image('POST', '', {
        'name': site.name('i'), 'disk_format': 'raw',
        'container_format': 'bare', 'os_type': 'linux', 'tags': ['t']})
    assert answer.status_code == 201
    made = answer.json()
    site.later('image', made['id'])
    assert answer.headers['Location'].endswith(f'/v2/images/{made["id"]}')
    assert answer.headers['x-openstack-request-id'].startswith('req-')
    assert set(made) >= QUEUED
    assert set(made) <= QUEUED | {'os_type', 'locations'}
    assert made['status'] == 'queued'
    assert made['visibility'] == 'shared'
    assert made['owner'] == site.project
    assert made['size'] is made['checksum'] is made['os_hash_algo'] is None

    empty = site.image('GET', f'/{made["id"]}/file')
    assert (empty.status_code, empty.content) == (204, b'')
    sent = site.put(made['id'], data)
    assert (sent.status_code, sent.content) == (204, b'')
    shown = site.show('image', made['id'])
    assert shown['status'] == 'active'
    assert shown['size'] == shown['virtual_size'] == len(data)
    assert shown['checksum'] == hashlib.md5(data).hexdigest()
    assert shown['os_hash_algo'] == 'sha512'
    assert shown['os_hash_value'] == hashlib.sha512(data).hexdigest()

    # little data: a refused body that is not read ends the connection
    again = site.put(made['id'], b'x')
    assert page(again) == (409, 'Image status transition from active to '
                           'saving is not allowed')
    gone = site.image('DELETE', f'/{made["id"]}')
    assert (gone.status_code, gone.content) == (204, b'')
    assert page(site.image('GET', f'/{made["id"]}')) == (
        404, f'No image found with ID {made["id"]}')
    assert page(site.image('DELETE', f'/{made["id"]}')) == (
        404, f'Failed to find image {made["id"]} to delete')


def test_chunked_upload(site: Site) -> None:
    def pieces() -> Iterator[bytes]:
        for number in range(10):
            yield bytes([number]) * 70_000

    image = site.make_image(pieces())
    shown = site.show('image', image)
    assert shown['size'] == 700_000
    assert shown['checksum'] == hashlib.md5(b''.join(pieces())).hexdigest()


@pytest.mark.parametrize(('wanted', 'part', 'first'), [
    ('bytes=0-99', slice(0, 100), 0),
    ('bytes=999990-', slice(999_990, None), 999_990),
    ('bytes=-10', slice(-10, None), 999_990),
    ('bytes=999990-2000000', slice(999_990, None), 999_990),
    ('bytes=500-500', slice(500, 501), 500),
])
def test_ranges(site: Site, wanted: str, part: slice, first: int) -> None:
    data = random_bytes(1_000_000)
    image = site.make_image(data)
    answer = site.image('GET', f'/{image}/file', headers={'Range': wanted})
    expected = data[part]
    assert answer.status_code == 206
    assert answer.content == expected
    assert answer.headers['Content-Range'] == (
        f'bytes {first}-{first + len(expected) - 1}/1000000')
    assert answer.headers['Content-Length'] == str(len(expected))
    # of the whole image, with a range as well
    assert answer.headers['Content-MD5'] == hashlib.md5(data).hexdigest()


@pytest.mark.parametrize(('wanted', 'status', 'text'), [
    ('bytes=1000-', 416, 'The Range requested is not available. Invalid '
     'start position in Range header. Start position MUST be in the '
     'inclusive range [0, 999].'),
    ('bytes=5-2', 416, 'The Range requested is not available. Invalid Range '
     'header.'),
    ('zz', 416, 'The Range requested is not available. Invalid Range '
     'header.'),
    ('bytes=0-1,5-6', 400, 'Requests with multiple ranges are not supported '
     'in Glance. You may make multiple single-range requests instead.'),
])
def test_bad_ranges(site: Site, wanted: str, status: int, text: str) -> None:
    image = site.make_image(b'x' * 1000)
    answer = site.image('GET', f'/{image}/file', headers={'Range': wanted})
    assert page(answer) == (status, text)


def test_bad_uploads(site: Site) -> None:
    image = site.make_image()
    wrong = site.image('PUT', f'/{image}/file', data=b'x' * 100, headers={
        'Content-Type': 'application/json'})
    assert wrong.status_code == 415
    assert 'Invalid content type application/json' in wrong.text
    size = site.put(image, b'x' * 100, **{'x-openstack-image-size': '5'})
    assert page(size) == (400, 'Size exceeds: expected 5 bytes, got 100 '
                          'bytes')
    assert site.show('image', image)['status'] == 'queued'
    assert page(site.put(NOWHERE, b'x')) == (
        404, f'No image found with ID {NOWHERE}')


def test_bad_images(site: Site) -> None:
    bad = 'Provided object does not match schema \'image\': '

    def refused(**data: object) -> tuple[int, str]:
        return page(site.image('POST', '', data))

    assert refused(status='active') == (
        403, "Attribute 'status' is read-only.")
    assert refused(x=1)[1].startswith(bad + "1 is not of type 'string'")
    assert refused(disk_format='zz')[1].startswith(
        bad + "'zz' is not one of [None, 'ami', 'ari'")
    assert refused(visibility='public') == (
        403, 'You are not authorized to complete publicize_image action.')
    assert refused(owner='other') == (
        403, 'Access was denied to this resource. You are not permitted to '
        "create images owned by 'other'")
    image = site.make_image()
    assert refused(id=image, name='twice') == (
        409, f'Image ID {image} already exists!')


def test_patches(site: Site) -> None:
    image = site.make_image(visibility='shared')
    answer = site.patch(
        image, {'op': 'add', 'path': '/mine', 'value': '1'},
        {'op': 'replace', 'path': '/name', 'value': site.name('new')})
    assert answer.status_code == 200
    assert answer.json()['mine'] == '1'
    assert answer.json()['name'] == site.name('new')
    # add replaces too, so it need not be known whether it was there
    add = {'op': 'add', 'path': '/mine', 'value': '2'}
    assert site.patch(image, add).json()['mine'] == '2'
    assert page(site.patch(image, {'op': 'replace', 'path': '/no',
                                   'value': '1'})) == (
        409, 'There was a conflict when trying to complete your request. '
        'Property no does not exist.')
    assert 'mine' not in site.patch(
        image, {'op': 'remove', 'path': '/mine'}).json()
    tags = {'op': 'add', 'path': '/tags', 'value': ['a', 'b']}
    assert sorted(site.patch(image, tags).json()['tags']) == ['a', 'b']
    for field in ('status', 'size'):
        assert page(site.patch(image, {'op': 'replace', 'path': f'/{field}',
                                       'value': 'x'})) == (
            403, f"Attribute '{field}' is read-only.")
    assert page(site.patch(image, {'op': 'remove', 'path': '/name'})) == (
        403, 'Access was denied to this resource. Property name may not be '
        'removed.')
    wrong = site.image('PATCH', f'/{image}', [], {
        'Content-Type': 'application/json'})
    assert wrong.status_code == 415
    assert 'json-patch' in wrong.headers['Accept-Patch']
    nowhere = site.patch(NOWHERE, add)
    assert page(nowhere) == (404, f'No image found with ID {NOWHERE}')


def test_format_is_fixed_once_there_are_data(site: Site) -> None:
    image = site.make_image(b'x')
    assert page(site.patch(image, {'op': 'replace', 'path': '/disk_format',
                                   'value': 'qcow2'})) == (
        403, 'Attribute disk_format can be only replaced for a queued '
        'image.')


def test_protected(site: Site) -> None:
    image = site.make_image()
    change = {'op': 'replace', 'path': '/protected', 'value': True}
    assert site.patch(image, change).json()['protected'] is True
    try:
        assert page(site.image('DELETE', f'/{image}')) == (
            403, f'Image {image} is protected and cannot be deleted.')
    finally:
        site.patch(image, {**change, 'value': False})


def test_tags(site: Site) -> None:
    image = site.make_image()
    answer = site.image('PUT', f'/{image}/tags/bakflow')
    assert (answer.status_code, answer.content) == (204, b'')
    assert site.show('image', image)['tags'] == ['bakflow']
    assert site.image('DELETE', f'/{image}/tags/bakflow').status_code == 204
    assert site.image('DELETE', f'/{image}/tags/bakflow').status_code == 404
    assert page(site.image('PUT', f'/{NOWHERE}/tags/x')) == (
        404, f'Image {NOWHERE} not found.')


def test_lists(site: Site) -> None:
    tag = site.prefix
    one = site.make_image(b'1', tags=[tag, 'one'], mine=tag)
    two = site.make_image(b'22', tags=[tag])
    site.make_image(tags=[tag])

    def ids(query: str) -> list[str]:
        answer = site.image('GET', f'?{query}')
        assert answer.status_code == 200, answer.text
        return [i['id'] for i in answer.json()['images']]

    assert set(ids(f'tag={tag}')) >= {one, two}
    assert len(ids(f'tag={tag}')) == 3
    assert ids(f'tag={tag}&tag=one') == [one]
    assert ids(f'mine={tag}') == [one]
    assert ids(f'tag={tag}&mine={tag}') == [one]
    assert len(ids(f'tag={tag}&status=queued')) == 1
    assert ids(f'tag={tag}&size_min=2') == [two]
    assert ids(f'tag={tag}&size_max=1') == [one]
    assert ids(f'tag={tag}&status=active&sort=size:desc') == [two, one]
    assert len(ids(f'tag={tag}&visibility=private')) == 3
    assert ids(f'tag={tag}&visibility=public') == []
    assert ids(f'id={one}') == [one]
    assert ids(f'name=in:{site.name("i")},x&status=queued') != []
    assert set(ids(f'tag={tag}&owner={site.project}')) >= {one, two}
    # an unknown filter is a property that no image has
    assert ids(f'tag={tag}&nosuch=x') == []

    first = site.image(
        'GET', f'?tag={tag}&limit=2&sort_key=created_at&sort_dir=asc').json()
    assert len(first['images']) == 2
    assert first['next'].startswith('/v2/images?')
    assert f'marker={first["images"][-1]["id"]}' in first['next']
    found = list(site.conn.image.images(tag=tag, limit=1))
    assert len(found) == 3


@pytest.mark.parametrize(('query', 'text'), [
    ('limit=-1', 'limit param must be positive'),
    ('limit=x', 'limit param must be an integer'),
    ('marker=nosuch', 'No image found with ID nosuch'),
    ('visibility=zz', 'Invalid visibility value: zz'),
    ('sort_key=zz', 'Invalid sort key: zz. It must be one of the following: '
     'name, status, container_format, disk_format, size, id, created_at, '
     'updated_at.'),
])
def test_bad_lists(site: Site, query: str, text: str) -> None:
    assert page(site.image('GET', f'?{query}')) == (400, text)


UNSAFE = 'Image failed safety checks'
CONTENTS = {
    'zeros': (contents.ZEROS, None), 'random': (random_bytes(), None),
    'luks1': (contents.LUKS1, None), 'luks2': (contents.LUKS2, UNSAFE),
    'fat': (contents.FAT, UNSAFE), 'mbr': (contents.MBR, None),
    'gpt': (contents.GPT, None), 'iso': (contents.ISO, None),
    'qcow2': (contents.QCOW2, None),
    'qed': (contents.QED, UNSAFE),
}


@pytest.mark.parametrize('kind', CONTENTS)
def test_content_of_raw_images(site: Site, kind: str) -> None:
    """What Glance takes for raw and what not (415, and queued again)."""
    data, refusal = CONTENTS[kind]
    image = site.make_image()
    answer = site.put(image, data)
    if refusal is None:
        assert answer.status_code == 204, answer.text
        shown = site.show('image', image)
        assert shown['status'] == 'active'
        assert shown['virtual_size'] == len(data)
    else:
        assert answer.status_code == 415
        assert refusal in answer.text
        assert site.show('image', image)['status'] == 'queued'
        assert site.show('image', image)['size'] is None


@pytest.mark.parametrize(('kind', 'seen'), [
    ('zeros', 'raw'), ('random', 'raw'), ('fat', 'gpt')])
def test_content_of_qcow2_images(site: Site, kind: str, seen: str) -> None:
    image = site.make_image(disk_format='qcow2')
    answer = site.put(image, CONTENTS[kind][0])
    assert answer.status_code == 415
    assert (f'Image disk_format qcow2 does not match stream data {seen}'
            in answer.text)
    good = site.make_image(contents.QCOW2, 'qcow2')
    assert site.show('image', good)['virtual_size'] == 16 << 20


def test_text_that_breaks_the_inspector(site: Site) -> None:
    """Taken without any check, and without a virtual size."""
    data = b'text ' * 30_000 + random_bytes(100_000)
    image = site.make_image(data)
    shown = site.show('image', image)
    assert (shown['status'], shown['size']) == ('active', len(data))
    assert shown['virtual_size'] is None


def test_empty_image(site: Site) -> None:
    image = site.make_image(b'')
    shown = site.show('image', image)
    assert (shown['status'], shown['size']) == ('active', 0)
