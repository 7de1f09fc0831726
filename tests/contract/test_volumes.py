"""Volumes and snapshots: lives, lists, errors."""

from __future__ import annotations

import pytest

from contract.site import NOWHERE, Site, fault

CANNOT_DELETE = (
    'Invalid volume: Volume status must be available or error or '
    'error_restoring or error_extending or error_managing and must not be '
    'migrating, attached, belong to a group, have snapshots, awaiting a '
    'transfer, or be disassociated from snapshots after volume transfer.')
FRESH = {
    'id', 'status', 'size', 'availability_zone', 'created_at', 'updated_at',
    'name', 'description', 'volume_type', 'snapshot_id', 'source_volid',
    'metadata', 'links', 'user_id', 'bootable', 'encrypted',
    'replication_status', 'consistencygroup_id', 'multiattach',
    'attachments'}
SHOWN = FRESH | {'os-vol-tenant-attr:tenant_id', 'group_id',
                 'shared_targets', 'service_uuid', 'volume_type_id',
                 'consumes_quota'}


def test_life_of_a_volume(typed: Site) -> None:
    made = typed.create('volume', {
        'name': typed.name('v'), 'size': 1, 'description': 'd',
        'volume_type': typed.volume_type, 'metadata': {'k': 'v'}})
    assert set(made) == FRESH
    assert made['status'] == 'creating'
    assert made['bootable'] == 'false'
    assert made['updated_at'] is None
    typed.wait('volume', made['id'])
    shown = typed.show('volume', made['id'])
    assert set(shown) == SHOWN
    assert shown['metadata'] == {'k': 'v'}
    assert shown['encrypted'] is False
    assert shown['attachments'] == []
    assert shown['volume_type'] == typed.volume_type
    assert shown['os-vol-tenant-attr:tenant_id'] == typed.project

    answer = typed.volume('PUT', f'/volumes/{made["id"]}', {
        'volume': {'name': typed.name('w'), 'description': 'e'}})
    assert answer.status_code == 200
    assert set(answer.json()['volume']) == FRESH

    answer = typed.volume('DELETE', f'/volumes/{made["id"]}')
    assert (answer.status_code, answer.content) == (202, b'')
    assert answer.headers['x-openstack-request-id'].startswith('req-')
    typed.wait('volume', made['id'], 'gone')
    assert fault(typed.volume('DELETE', f'/volumes/{made["id"]}')) == (
        404, 'itemNotFound', f'Volume {made["id"]} could not be found.')


def test_lists_and_filters(site: Site) -> None:
    one = site.make_volume('one', metadata={'mine': site.prefix, 'n': '1'})
    two = site.make_volume('two', metadata={'mine': site.prefix, 'n': '2'})

    def ids(query: str, version: str | None = None) -> list[str]:
        # Without an order: newest first, within a second by id.
        answer = site.volume('GET', '/volumes/detail?sort=name:asc&' + query,
                             version=version)
        assert answer.status_code == 200, answer.text
        return [v['id'] for v in answer.json()['volumes']
                if v['id'] in (one['id'], two['id'])]

    mine = f"metadata={{'mine':'{site.prefix}'}}"
    both = [one['id'], two['id']]
    assert ids(f'name={one["name"]}') == [one['id']]
    assert ids(mine) == both
    assert ids(f'{mine}&status=available') == both
    assert ids(f'{mine}&status=error') == []
    assert ids(f"metadata={{'mine':'{site.prefix}','n':'1'}}") == [one['id']]
    assert ids(f'metadata={{"mine":"{site.prefix}"}}') == both
    assert ids('metadata=nonsense') == []
    # a filter that does not exist is ignored, but refused from 3.31 on
    assert ids('nosuch=1&' + mine, '3.30') == both
    for query in ('nosuch=1', 'name~=x', 'id=x', 'user_id=x'):
        unknown = query.split('=')[0]
        assert fault(site.volume('GET', f'/volumes/detail?{query}',
                                 version='3.31')) == (
            400, 'badRequest', f'Invalid filters {unknown} are found in '
            'query options.')

    brief = site.volume('GET', f'/volumes?name={one["name"]}').json()
    assert set(brief['volumes'][0]) == {'id', 'name', 'links'}

    mine += '&sort=name:asc'
    page = site.volume('GET', f'/volumes/detail?limit=1&{mine}').json()
    assert [v['id'] for v in page['volumes']] == [one['id']]
    assert page['volumes_links'][0]['rel'] == 'next'
    rest = site.volume(
        'GET', f'/volumes/detail?marker={one["id"]}&{mine}').json()
    assert [v['id'] for v in rest['volumes']] == [two['id']]
    assert 'volumes_links' not in rest

    found = list(site.conn.block_storage.volumes(
        name=one['name'], limit=1))
    assert [v.id for v in found] == [one['id']]


@pytest.mark.parametrize(('query', 'expected'), [
    ('limit=-1', (400, 'badRequest', 'limit param must be positive')),
    ('limit=abc', (400, 'badRequest', 'limit param must be an integer')),
    ('marker=nosuch', (404, 'itemNotFound',
                       'Volume nosuch could not be found.')),
    ('sort=zzz:asc', (400, 'badRequest',
                      'Invalid input received: Invalid sort key')),
])
def test_bad_lists(site: Site, query: str,
                   expected: tuple[int, str, str]) -> None:
    assert fault(site.volume('GET', f'/volumes?{query}')) == expected


@pytest.mark.parametrize(('data', 'expected'), [
    ({'size': 0}, (400, 'Invalid input for field/attribute size. Value: 0. '
                   '0 is less than the minimum of 1')),
    ({'size': -1}, (400, 'Invalid input for field/attribute size. Value: -1.'
                    ' -1 is less than the minimum of 1')),
    ({'size': 'abc'}, (400, 'Invalid input for field/attribute size. Value: '
                       "abc. 'abc' does not match '^[0-9]+$'")),
    ({'name': 'x'}, (400, 'The server could not comply with the request '
                     'since it is either malformed or otherwise incorrect.')),
    ({'size': 1, 'volume_type': 'nosuch'},
     (404, 'Volume type with name nosuch could not be found.')),
    ({'size': 1, 'availability_zone': 'nosuch'},
     (400, "Availability zone 'nosuch' is invalid.")),
    ({'size': 1, 'snapshot_id': NOWHERE},
     (404, f'Snapshot {NOWHERE} could not be found.')),
    ({'size': 1, 'source_volid': NOWHERE},
     (404, f'Volume {NOWHERE} could not be found.')),
    ({'size': 1, 'imageRef': NOWHERE},
     (400, 'Invalid image identifier or unable to access requested image.')),
    ({'size': 1, 'snapshot_id': 'nosuch'},
     (400, 'Invalid input for field/attribute snapshot_id. Value: nosuch. '
      "'nosuch' is not valid under any of the given schemas")),
    ({'size': 1, 'name': 'x' * 256},
     (400, 'Invalid input received: name has 256 characters, more than '
      '255.')),
    ({'size': 1, 'metadata': {'a': 1}},
     (400, 'Invalid input for field/attribute a. Value: 1. 1 is not of type '
      "'string'")),
])
def test_bad_volumes(site: Site, data: dict[str, object],
                     expected: tuple[int, str]) -> None:
    status, _, message = fault(site.volume('POST', '/volumes',
                                           {'volume': data}))
    assert (status, message) == expected


def test_bad_bodies(site: Site) -> None:
    assert fault(site.volume('POST', '/volumes', {})) == (
        400, 'badRequest', "'volume' is a required property")
    volume = site.make_volume()
    path = f'/volumes/{volume["id"]}'
    assert fault(site.volume('PUT', path, {'volume': {'zz': 1}})) == (
        400, 'badRequest', 'Invalid input for field/attribute volume. Value: '
        "{'zz': 1}. Additional properties are not allowed ('zz' was "
        'unexpected)')
    assert fault(site.act(volume['id'], 'nosuch', {})) == (
        400, 'badRequest', 'There is no such action: nosuch. Verify the '
        'request body and Content-Type header and try again.')


@pytest.mark.parametrize('kind', ['volume', 'snapshot'])
@pytest.mark.parametrize('wanted', [NOWHERE, 'nosuch'])
def test_unknown_ids(site: Site, kind: str, wanted: str) -> None:
    expected = (404, 'itemNotFound',
                f'{kind.title()} {wanted} could not be found.')
    for method in ('GET', 'DELETE'):
        assert fault(site.volume(method, f'/{kind}s/{wanted}')) == expected


def test_microversions(site: Site) -> None:
    volume = site.make_volume()
    path = f'/volumes/{volume["id"]}'
    old = site.volume('GET', path, version='3.0')
    assert old.headers['OpenStack-API-Version'] == 'volume 3.0'
    assert 'group_id' not in old.json()['volume']
    new = site.volume('GET', path, version='3.68')
    assert new.headers['OpenStack-API-Version'] == 'volume 3.68'
    assert fault(site.volume('GET', path, version='3.999')) == (
        406, 'computeFault', 'Version 3.999 is not supported by the API. '
        'Minimum is 3.0 and maximum is 3.71.')
    found = site.conn.block_storage.get_endpoint_data()
    assert (found.min_microversion, found.max_microversion) == (
        (3, 0), (3, 71))


def test_metadata(site: Site) -> None:
    volume = site.make_volume(metadata={'a': '1'})
    path = f'/volumes/{volume["id"]}/metadata'
    assert site.volume('POST', path, {'metadata': {'b': '2'}}).json() == {
        'metadata': {'a': '1', 'b': '2'}}
    assert site.volume('PUT', path, {'metadata': {'c': '3'}}).json() == {
        'metadata': {'c': '3'}}
    assert site.volume('PUT', path + '/c', {'meta': {'c': '4'}}).json() == {
        'meta': {'c': '4'}}
    assert site.volume('DELETE', path + '/c').status_code == 200
    assert fault(site.volume('DELETE', path + '/c')) == (
        404, 'itemNotFound',
        f'Volume {volume["id"]} has no metadata with key c.')


def test_extend(typed: Site) -> None:
    volume = typed.make_volume()['id']
    assert fault(typed.act(volume, 'os-extend', {'new_size': 1}))[2] == (
        'Invalid input received: New size for extend must be greater than '
        'current size. (current: 1, extended: 1).')
    assert typed.act(volume, 'os-extend', {'new_size': 2}).status_code == 202
    typed.wait('volume', volume)
    assert typed.show('volume', volume)['size'] == 2


def test_what_a_member_may_not(site: Site) -> None:
    volume = site.make_volume()['id']
    for name, data in (('os-reset_status', {'status': 'error'}),
                       ('os-force_delete', {})):
        rule = name.removeprefix('os-')
        assert fault(site.act(volume, name, data)) == (
            403, 'forbidden', "Policy doesn't allow volume_extension:"
            f'volume_admin_actions:{rule} to be performed.')
    assert fault(site.volume('DELETE', f'/volumes/{volume}?force=true',
                             version='3.23'))[:2] == (403, 'forbidden')
    assert site.volume('GET', '/os-services').status_code == 403


# -- attached -------------------------------------------------------------

def test_attached_volume(site: Site) -> None:
    volume = site.make_volume()['id']
    assert site.act(volume, 'os-attach', {
        'instance_uuid': NOWHERE.replace('0', '1'), 'mountpoint': '/dev/vdb',
        'mode': 'rw'}).status_code == 202
    try:
        shown = site.show('volume', volume)
        assert shown['status'] == 'in-use'
        # not the user's own, yet shown among the metadata
        assert shown['metadata'] == {'readonly': 'False',
                                     'attached_mode': 'rw'}
        assert shown['attachments'][0]['server_id'] == NOWHERE.replace(
            '0', '1')
        assert fault(site.volume('DELETE', f'/volumes/{volume}')) == (
            400, 'badRequest', CANNOT_DELETE)
        unforced = site.volume('POST', '/snapshots', {
            'snapshot': {'volume_id': volume}})
        assert fault(unforced) == (
            400, 'badRequest', f'Invalid volume: Volume {volume} status must '
            'be available, but current status is: in-use.')
        for force in (False, True):
            upload = site.act(volume, 'os-volume_upload_image', {
                'image_name': 'x', 'force': force})
            assert fault(upload) == (
                400, 'badRequest', f'Invalid volume: Volume {volume} status '
                'must be available')
        assert fault(site.act(volume, 'os-extend', {'new_size': 4})) == (
            400, 'badRequest', f'Invalid volume: Volume {volume} status must '
            "be '{'status': 'available'}' to extend, currently in-use.")
    finally:
        assert site.act(volume, 'os-detach', {}).status_code == 202
    site.wait('volume', volume)
    assert site.show('volume', volume)['metadata'] == {'readonly': 'False'}


# -- snapshots ------------------------------------------------------------

def test_life_of_a_snapshot(typed: Site) -> None:
    volume = typed.make_volume()['id']
    made = typed.create('snapshot', {
        'volume_id': volume, 'name': typed.name('s'), 'force': True,
        'metadata': {'k': 'v'}})
    basic = {'id', 'created_at', 'updated_at', 'name', 'description',
             'volume_id', 'status', 'size', 'metadata'}
    assert set(made) == basic
    assert made['status'] == 'creating'
    early = typed.volume('POST', '/volumes', {
        'volume': {'size': 1, 'snapshot_id': made['id']}})
    if early.status_code == 202:    # it was quicker than we are
        typed.later('volume', early.json()['volume']['id'])
    else:
        assert fault(early) == (
            400, 'badRequest', 'Invalid snapshot: Originating snapshot '
            "status must be one of 'available' values")
    typed.wait('snapshot', made['id'])
    shown = typed.show('snapshot', made['id'])
    assert set(shown) == basic | {
        'group_snapshot_id', 'user_id', 'consumes_quota',
        'os-extended-snapshot-attributes:project_id',
        'os-extended-snapshot-attributes:progress'}
    assert shown['os-extended-snapshot-attributes:progress'] == '100%'

    def ids(query: str, version: str = '3.22') -> list[str]:
        found = typed.volume('GET', f'/snapshots/detail?{query}',
                             version=version).json()
        return [s['id'] for s in found['snapshots']]

    assert ids(f'name={typed.name("s")}') == [made['id']]
    assert ids(f'volume_id={volume}') == [made['id']]
    assert ids(f"volume_id={volume}&metadata={{'k':'v'}}") == [made['id']]
    assert ids(f"volume_id={volume}&metadata={{'k':'w'}}") == []
    # before 3.22 this filter is ignored: everything is listed
    assert ids(f"volume_id={volume}&metadata={{'k':'w'}}", '3.21') == [
        made['id']]
    assert ids(f'volume_id={volume}&status=error') == []

    assert fault(typed.volume('DELETE', f'/volumes/{volume}')) == (
        400, 'badRequest', CANNOT_DELETE)
    assert typed.volume('DELETE',
                        f'/snapshots/{made["id"]}').status_code == 202
    typed.wait('snapshot', made['id'], 'gone')


def test_bad_snapshots(site: Site) -> None:
    volume = site.make_volume()['id']

    def bad(data: dict[str, object], version: str | None = None
            ) -> tuple[int, str, str]:
        return fault(site.volume('POST', '/snapshots', {'snapshot': data},
                                 version))

    assert bad({}) == (400, 'badRequest', 'Invalid input for field/attribute '
                       "snapshot. Value: {}. 'volume_id' is a required "
                       'property')
    assert bad({'volume_id': NOWHERE})[0] == 404
    assert bad({'volume_id': 'nosuch'})[0] == 400
    assert bad({'volume_id': volume, 'force': False}, '3.66') == (
        400, 'badRequest', "Since microversion 3.66 the 'force' flag is "
        'invalid for this request.  For backward compatability, however, '
        "when the 'force' flag is passed with a value evaluating to True, "
        'it is silently ignored.')


def test_what_a_volume_inherits(typed: Site) -> None:
    """Bootable and image metadata come along, name and metadata do not."""
    volume = typed.make_volume(metadata={'k': 'v'}, description='d')['id']
    typed.act(volume, 'os-set_bootable', {'bootable': True})
    typed.act(volume, 'os-set_image_metadata', {
        'metadata': {'image_id': NOWHERE, 'os_type': 'linux'}})
    snapshot = typed.create('snapshot', {'volume_id': volume,
                                         'force': True})['id']
    typed.wait('snapshot', snapshot)
    for source in ({'snapshot_id': snapshot}, {'source_volid': volume}):
        made = typed.create('volume', {'name': typed.name('c'), **source})
        assert made['bootable'] == 'true'
        assert made['size'] == 1
        typed.wait('volume', made['id'])
        shown = typed.show('volume', made['id'])
        assert shown['bootable'] == 'true'
        assert shown['volume_image_metadata'] == {
            'image_id': NOWHERE, 'os_type': 'linux'}
        assert shown['metadata'] == {}
        assert shown['description'] is None
        assert shown['volume_type'] == typed.volume_type


def test_volume_from_a_snapshot_of_another_size_or_type(site: Site) -> None:
    big = site.make_volume('big', size=2)['id']
    snapshot = site.create('snapshot', {'volume_id': big})['id']
    site.wait('snapshot', snapshot)
    assert fault(site.volume('POST', '/volumes', {
        'volume': {'size': 1, 'snapshot_id': snapshot}})) == (
        400, 'badRequest', "Invalid input received: Volume size '1'GB cannot "
        'be smaller than the snapshot size 2GB. They must be >= original '
        'snapshot size.')
    assert fault(site.volume('POST', '/volumes', {
        'volume': {'size': 1, 'source_volid': big}})) == (
        400, 'badRequest', "Invalid input received: Volume size '1'GB cannot "
        'be smaller than original volume size  2GB. They must be >= '
        'original volume size.')
    types = {t['name']: t['id'] for t in
             site.volume('GET', '/types').json()['volume_types']}
    if 'rbd' in types and 'nfs' in types:
        assert fault(site.volume('POST', '/volumes', {
            'volume': {'size': 2, 'snapshot_id': snapshot,
                       'volume_type': 'rbd'}})) == (
            400, 'badRequest', 'Invalid input received: Invalid volume_type '
            f'provided: {types["rbd"]} (requested type is not compatible; '
            'recommend omitting the type argument).')


def test_snapshot_deleted_under_its_volume(typed: Site) -> None:
    volume = typed.make_volume()['id']
    snapshot = typed.create('snapshot', {'volume_id': volume})['id']
    typed.wait('snapshot', snapshot)
    copy = typed.make_volume('copy', snapshot_id=snapshot)['id']
    typed.delete('snapshot', snapshot)
    shown = typed.show('volume', copy)
    assert shown['status'] == 'available'
    assert shown['snapshot_id'] == snapshot
    typed.delete('volume', volume)
    assert typed.show('volume', copy)['status'] == 'available'


# -- quotas, limits, types ------------------------------------------------

def test_limits_and_quota(site: Site) -> None:
    absolute = site.volume('GET', '/limits').json()['limits']['absolute']
    assert set(absolute) == {
        'maxTotalVolumes', 'maxTotalSnapshots', 'maxTotalVolumeGigabytes',
        'maxTotalBackups', 'maxTotalBackupGigabytes', 'totalVolumesUsed',
        'totalGigabytesUsed', 'totalSnapshotsUsed', 'totalBackupsUsed',
        'totalBackupGigabytesUsed'}
    quota = site.volume('GET', f'/os-quota-sets/{site.project}?usage=true')
    shown = quota.json()['quota_set']
    assert set(shown['gigabytes']) == {'limit', 'in_use', 'reserved'}
    assert shown['gigabytes']['limit'] == absolute['maxTotalVolumeGigabytes']
    assert shown['id'] == site.project
    other = site.volume('GET', '/os-quota-sets/nosuch')
    assert fault(other)[:2] == (403, 'forbidden')

    size = absolute['maxTotalVolumeGigabytes'] + 1
    over = site.volume('POST', '/volumes', {'volume': {'size': size}})
    status, name, message = fault(over)
    assert (status, name) == (413, 'overLimit')
    assert over.headers['Retry-After'] == '0'
    assert message.startswith(
        'VolumeSizeExceedsAvailableQuota: Requested volume or snapshot '
        f'exceeds allowed gigabytes quota. Requested {size}G, quota is ')
    volume = site.make_volume()
    extend = site.act(volume['id'], 'os-extend', {'new_size': size})
    assert fault(extend)[:2] == (413, 'overLimit')


def test_gigabytes_count_snapshots_too(site: Site) -> None:
    def used() -> dict[str, int]:
        found: dict[str, int] = site.volume(
            'GET', '/limits').json()['limits']['absolute']
        return found

    if site.real:
        pytest.skip('others use this project meanwhile')
    volume = site.make_volume()['id']
    before = used()
    snapshot = site.create('snapshot', {'volume_id': volume})['id']
    site.wait('snapshot', snapshot)
    after = used()
    assert after['totalSnapshotsUsed'] == before['totalSnapshotsUsed'] + 1
    assert after['totalGigabytesUsed'] == before['totalGigabytesUsed'] + 1


def test_types(site: Site) -> None:
    types = site.volume('GET', '/types').json()['volume_types']
    by_name = {t['name']: t for t in types}
    assert site.volume_type in by_name
    shown = by_name[site.volume_type]
    assert set(shown) == {'id', 'name', 'is_public', 'description',
                          'extra_specs', 'os-volume-type-access:is_public'}
    assert shown['extra_specs'] == {}
    assert fault(site.volume('GET', f'/types/{shown["id"]}/encryption')) == (
        403, 'forbidden', "Policy doesn't allow volume_extension:"
        'volume_type_encryption:get to be performed.')
    assert fault(site.volume('GET', '/types/nosuch')) == (
        404, 'itemNotFound', 'Volume type nosuch could not be found.')
    default = site.volume('GET', '/types/default').json()['volume_type']
    assert default['name'] in by_name
    zones = site.volume('GET', '/os-availability-zone').json()
    assert zones['availabilityZoneInfo'] == [
        {'zoneName': 'nova', 'zoneState': {'available': True}}]
