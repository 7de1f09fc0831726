"""Cinder's types, zones, limits, quotas, services, messages, metadata."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from bakflow.devcloud import cinder_snapshots, cinder_volumes
from bakflow.devcloud.cinder import (
    NOT_FOUND,
    check_metadata,
    forbidden,
    need,
    stamp,
)
from bakflow.devcloud.state import Snapshot, Volume, VolumeType, now
from bakflow.devcloud.web import (
    Answer,
    ApiError,
    Request,
    Route,
    json_answer,
    route,
)

if TYPE_CHECKING:
    from bakflow.devcloud.cloud import DevCloud


# -- types ----------------------------------------------------------------

def _type_view(request: Request, kind: VolumeType,
               access: bool = True) -> dict[str, Any]:
    data: dict[str, Any] = {
        'id': kind.id, 'name': kind.name, 'is_public': True,
        'description': kind.description, 'extra_specs': {}}
    if request.caller.admin:
        if kind.name != '__DEFAULT__':
            data['extra_specs'] = {'volume_backend_name': kind.backend}
        data['qos_specs_id'] = None
    if access:
        data['os-volume-type-access:is_public'] = True
    return data


def list_types(cloud: DevCloud, request: Request) -> Answer:
    return json_answer({'volume_types': [
        _type_view(request, k) for k in cloud.state.types.values()]})


def _type(cloud: DevCloud, request: Request) -> VolumeType:
    wanted = request.groups['id']
    for kind in cloud.state.types.values():
        if kind.id == wanted:
            return kind
    raise ApiError(404, f'Volume type {wanted} could not be found.')


def show_type(cloud: DevCloud, request: Request) -> Answer:
    if request.groups['id'] == 'default':
        kind = cloud.state.types[cloud.state.default_type]
        return json_answer({'volume_type': _type_view(request, kind, False)})
    kind = _type(cloud, request)
    return json_answer({'volume_type': _type_view(request, kind)})


def show_encryption(cloud: DevCloud, request: Request) -> Answer:
    if not request.caller.admin:
        raise forbidden('volume_extension:volume_type_encryption:get')
    kind = _type(cloud, request)
    if kind.encryption is None:
        return json_answer({})
    return json_answer({
        'volume_type_id': kind.id, 'encryption_id': kind.id,
        'created_at': None, 'updated_at': None, 'deleted_at': None,
        'deleted': False, **kind.encryption})


def show_specs(cloud: DevCloud, request: Request) -> Answer:
    kind = _type(cloud, request)
    specs = _type_view(request, kind)['extra_specs']
    return json_answer({'extra_specs': specs})


# -- zones, limits, quotas ------------------------------------------------

def list_zones(cloud: DevCloud, request: Request) -> Answer:
    return json_answer({'availabilityZoneInfo': [
        {'zoneName': zone, 'zoneState': {'available': True}}
        for zone in cloud.zones]})


def show_limits(cloud: DevCloud, request: Request) -> Answer:
    quota = cloud.state.quota(request.project_id)
    used = cloud.state.used(request.project_id)
    return json_answer({'limits': {'rate': [], 'absolute': {
        'maxTotalVolumes': quota.volumes,
        'maxTotalSnapshots': quota.snapshots,
        'maxTotalVolumeGigabytes': quota.gigabytes,
        'maxTotalBackups': quota.backups,
        'maxTotalBackupGigabytes': quota.backup_gigabytes,
        'totalVolumesUsed': used['volumes'],
        'totalGigabytesUsed': used['gigabytes'],
        'totalSnapshotsUsed': used['snapshots'],
        'totalBackupsUsed': 0, 'totalBackupGigabytesUsed': 0}}})


def _quota_values(cloud: DevCloud, project_id: str,
                  usage: bool) -> dict[str, Any]:
    limits: dict[str, int] = dataclasses.asdict(cloud.state.quota(project_id))
    used = cloud.state.used(project_id)
    for kind in cloud.state.types:
        for what in ('volumes', 'gigabytes', 'snapshots'):
            limits[f'{what}_{kind}'] = -1
    limits['groups'] = 10
    if not usage:
        return dict(limits)
    return {k: {'limit': v, 'in_use': used.get(k, 0), 'reserved': 0}
            for k, v in limits.items()}


def show_quota(cloud: DevCloud, request: Request) -> Answer:
    wanted = request.groups['id']
    if wanted != request.project_id and not request.caller.admin:
        raise forbidden('volume_extension:quotas:show')
    usage = str(request.param('usage')).lower() in ('true', '1')
    return json_answer({'quota_set': {
        **_quota_values(cloud, wanted, usage), 'id': wanted}})


def update_quota(cloud: DevCloud, request: Request) -> Answer:
    if not request.caller.admin:
        raise forbidden('volume_extension:quotas:update')
    quota = cloud.state.quota(request.groups['id'])
    for key, value in need(request, 'quota_set').items():
        if hasattr(quota, key):
            setattr(quota, key, int(value))
    return json_answer({'quota_set': _quota_values(
        cloud, request.groups['id'], False)})


def list_services(cloud: DevCloud, request: Request) -> Answer:
    if not request.caller.admin:
        raise forbidden('volume_extension:services:index')
    moment = stamp(now())
    hosts = [('cinder-scheduler', 'rig')] + [
        ('cinder-volume', f'rig@{b}') for b in ('nfs', 'rbd')]
    return json_answer({'services': [
        {'binary': binary, 'host': host, 'zone': 'nova', 'status': 'enabled',
         'state': 'up', 'updated_at': moment, 'disabled_reason': None}
        for binary, host in hosts]})


# -- messages -------------------------------------------------------------

def list_messages(cloud: DevCloud, request: Request) -> Answer:
    if request.version < (3, 3):
        raise ApiError(404, NOT_FOUND)
    found = [m for m in reversed(cloud.state.messages)
             if m['project_id'] == request.project_id]
    for key, value in request.params:
        if key in ('resource_uuid', 'resource_type', 'event_id',
                   'request_id', 'message_level'):
            found = [m for m in found if m[key] == value]
    return json_answer({'messages': [_message(request, m) for m in found]})


def _message(request: Request, message: dict[str, Any]) -> dict[str, Any]:
    path = f'{request.url}/v3/messages/{message["id"]}'
    data = {k: v for k, v in message.items() if k != 'project_id'}
    data['links'] = [{'rel': 'self', 'href': path},
                     {'rel': 'bookmark', 'href': path.replace('/v3', '', 1)}]
    return data


def show_message(cloud: DevCloud, request: Request) -> Answer:
    wanted = request.groups['id']
    for message in cloud.state.messages:
        if (message['id'] == wanted and request.version >= (3, 3)
                and message['project_id'] == request.project_id):
            return json_answer({'message': _message(request, message)})
    raise ApiError(404, f'Message {wanted} could not be found.')


# -- metadata of volumes and snapshots ------------------------------------

def _owner(cloud: DevCloud, request: Request) -> Volume | Snapshot:
    if '/snapshots/' in request.path:
        return cinder_snapshots.find(cloud, request)
    return cinder_volumes.find(cloud, request)


def _no_key(thing: Volume | Snapshot, key: str) -> ApiError:
    return ApiError(404, f'{type(thing).__name__} {thing.id} has no metadata '
                    f'with key {key}.')


def show_metadata(cloud: DevCloud, request: Request) -> Answer:
    return json_answer({'metadata': _owner(cloud, request).metadata})


def add_metadata(cloud: DevCloud, request: Request) -> Answer:
    thing = _owner(cloud, request)
    new = check_metadata(need(request, 'metadata'))
    thing.metadata.update(new)
    return json_answer({'metadata': thing.metadata})


def replace_metadata(cloud: DevCloud, request: Request) -> Answer:
    thing = _owner(cloud, request)
    thing.metadata = check_metadata(need(request, 'metadata'))
    return json_answer({'metadata': thing.metadata})


def show_key(cloud: DevCloud, request: Request) -> Answer:
    thing, key = _owner(cloud, request), request.groups['key']
    if key not in thing.metadata:
        raise _no_key(thing, key)
    return json_answer({'meta': {key: thing.metadata[key]}})


def set_key(cloud: DevCloud, request: Request) -> Answer:
    thing, key = _owner(cloud, request), request.groups['key']
    new = check_metadata(need(request, 'meta'))
    if list(new) != [key]:
        raise ApiError(400, 'Request body and URI mismatch')
    thing.metadata.update(new)
    return json_answer({'meta': new})


def remove_key(cloud: DevCloud, request: Request) -> Answer:
    thing, key = _owner(cloud, request), request.groups['key']
    if thing.metadata.pop(key, None) is None:
        raise _no_key(thing, key)
    return Answer(200, b'', {'Content-Type': 'text/html; charset=UTF-8'})


def no_backups(cloud: DevCloud, request: Request) -> Answer:
    return json_answer({'backups': []})


ROUTES: list[Route] = [
    route('GET', '/types', list_types),
    route('GET', '/types/{id}', show_type),
    route('GET', '/types/{id}/encryption', show_encryption),
    route('GET', '/types/{id}/extra_specs', show_specs),
    route('GET', '/os-availability-zone', list_zones),
    route('GET', '/limits', show_limits),
    route('GET', '/os-quota-sets/{id}', show_quota),
    route('GET', '/os-quota-sets/{id}/defaults', show_quota),
    route('PUT', '/os-quota-sets/{id}', update_quota),
    route('GET', '/os-services', list_services),
    route('GET', '/messages', list_messages),
    route('GET', '/messages/{id}', show_message),
    route('GET', '/backups', no_backups),
    route('GET', '/backups/detail', no_backups),
]
for _kind in ('volumes', 'snapshots'):
    ROUTES += [
        route('GET', f'/{_kind}/{{id}}/metadata', show_metadata),
        route('POST', f'/{_kind}/{{id}}/metadata', add_metadata),
        route('PUT', f'/{_kind}/{{id}}/metadata', replace_metadata),
        route('GET', f'/{_kind}/{{id}}/metadata/{{key}}', show_key),
        route('PUT', f'/{_kind}/{{id}}/metadata/{{key}}', set_key),
        route('DELETE', f'/{_kind}/{{id}}/metadata/{{key}}', remove_key),
    ]
