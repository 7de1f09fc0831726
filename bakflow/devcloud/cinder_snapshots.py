"""Cinder snapshots: create, list, show, update, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bakflow.devcloud import cinder_volumes, transfer
from bakflow.devcloud.cinder import (
    boolean,
    check_metadata,
    check_name,
    invalid,
    is_uuid,
    need,
    page,
    stamp,
)
from bakflow.devcloud.state import Snapshot, new_id
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

_FIELDS = {
    'id': lambda s: s.id, 'name': lambda s: s.name,
    'display_name': lambda s: s.name, 'status': lambda s: s.status,
    'volume_id': lambda s: s.volume_id,
    'created_at': lambda s: s.created, 'updated_at': lambda s: s.updated}
CANNOT_DELETE = ('Invalid snapshot: Snapshot status must be available or '
                 'error and must not be part of a group.')


def missing(snapshot_id: str) -> ApiError:
    return ApiError(404, f'Snapshot {snapshot_id} could not be found.')


def find(cloud: DevCloud, request: Request) -> Snapshot:
    wanted = request.groups['id']
    snapshot = cloud.state.snapshots.get(wanted)
    if snapshot is None or not (
            request.caller.admin
            or snapshot.project_id == request.project_id):
        raise missing(wanted)
    return snapshot


def view(request: Request, snapshot: Snapshot, *, fresh: bool = False,
         detail: bool = True) -> dict[str, Any]:
    data: dict[str, Any] = {
        'id': snapshot.id, 'created_at': stamp(snapshot.created, exact=fresh),
        'updated_at': stamp(snapshot.updated), 'name': snapshot.name,
        'description': snapshot.description, 'volume_id': snapshot.volume_id,
        'status': snapshot.status, 'size': snapshot.size,
        'metadata': dict(snapshot.metadata)}
    if request.version >= (3, 14):
        data['group_snapshot_id'] = None
    if request.version >= (3, 41):
        data['user_id'] = snapshot.user_id
    if request.version >= (3, 65):
        data['consumes_quota'] = True
    if detail:
        prefix = 'os-extended-snapshot-attributes'
        data[f'{prefix}:project_id'] = snapshot.project_id
        data[f'{prefix}:progress'] = (
            '100%' if snapshot.status == 'available' else '0%')
    return data


def _mine(cloud: DevCloud, request: Request) -> list[Snapshot]:
    everybody = request.caller.admin and request.param(
        'all_tenants') in ('1', 'true', 'True')
    return [s for s in cloud.state.snapshots.values()
            if everybody or s.project_id == request.project_id]


def _filters(request: Request) -> tuple[str, ...]:
    known: tuple[str, ...] = ('name', 'status', 'volume_id')
    if request.version >= (3, 22):
        known += ('metadata',)
    if request.version >= (3, 31):
        known += ('availability_zone', 'consumes_quota')
    return known


def list_brief(cloud: DevCloud, request: Request) -> Answer:
    return page(_mine(cloud, request), request, 'snapshots', missing,
                _FIELDS, _filters(request),
                lambda s: view(request, s, detail=False))


def list_detail(cloud: DevCloud, request: Request) -> Answer:
    return page(_mine(cloud, request), request, 'snapshots', missing,
                _FIELDS, _filters(request), lambda s: view(request, s))


def show(cloud: DevCloud, request: Request) -> Answer:
    return json_answer({'snapshot': view(request, find(cloud, request))})


def _forced(request: Request, data: dict[str, Any]) -> bool:
    if request.version < (3, 66):
        return boolean('force', data.get('force', False))
    if 'force' in data and not boolean('force', data['force']):
        raise ApiError(400, "Since microversion 3.66 the 'force' flag is "
                       'invalid for this request.  For backward '
                       "compatability, however, when the 'force' flag is "
                       'passed with a value evaluating to True, it is '
                       'silently ignored.')
    return True


def create(cloud: DevCloud, request: Request) -> Answer:
    data = need(request, 'snapshot')
    if 'volume_id' not in data:
        raise invalid('snapshot', data, "'volume_id' is a required property")
    if not is_uuid(data['volume_id']):
        raise invalid('volume_id', data['volume_id'],
                      f'{data["volume_id"]!r} is not valid under any of the '
                      'given schemas')
    forced = _forced(request, data)
    metadata = check_metadata(data.get('metadata') or {})
    with cloud.state.lock:
        volume = cinder_volumes.find(cloud, request, data['volume_id'])
        allowed = ('available', 'in-use') if forced else ('available',)
        if volume.status not in allowed:
            raise ApiError(400, f'Invalid volume: Volume {volume.id} status '
                           f'must be {", ".join(allowed)}, but current '
                           f'status is: {volume.status}.')
        cinder_volumes.check_quota(cloud, request.project_id, snapshots=1,
                                   gigabytes=volume.size)
        snapshot = Snapshot(
            new_id(), request.project_id, request.caller.user.id, volume.id,
            volume.size, metadata=metadata, bootable=volume.bootable,
            name=check_name('name', data.get('name',
                                             data.get('display_name'))),
            description=data.get('description'),
            image_metadata=dict(volume.image_metadata))
        cloud.state.snapshots[snapshot.id] = snapshot
        answer = view(request, snapshot, fresh=True, detail=False)
    transfer.start_snapshot(cloud, request, snapshot, volume)
    return json_answer({'snapshot': answer}, 202)


def update(cloud: DevCloud, request: Request) -> Answer:
    snapshot = find(cloud, request)
    data = need(request, 'snapshot', ('name', 'description', 'display_name',
                                      'display_description'))
    with cloud.state.lock:
        if 'name' in data:
            snapshot.name = check_name('name', data['name'])
        if 'description' in data:
            snapshot.description = data['description']
        snapshot.touch()
    return json_answer({'snapshot': view(request, snapshot, detail=False)})


def delete(cloud: DevCloud, request: Request) -> Answer:
    with cloud.state.lock:
        snapshot = find(cloud, request)
        if snapshot.status not in ('available', 'error'):
            raise ApiError(400, CANNOT_DELETE)
        transfer.start_delete_snapshot(cloud, request, snapshot)
    return Answer(202, b'', {'Content-Type': 'text/html; charset=UTF-8'})


ROUTES: list[Route] = [
    route('GET', '/snapshots', list_brief),
    route('POST', '/snapshots', create),
    route('GET', '/snapshots/detail', list_detail),
    route('GET', '/snapshots/{id}', show),
    route('PUT', '/snapshots/{id}', update),
    route('DELETE', '/snapshots/{id}', delete),
]
