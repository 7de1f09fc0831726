"""Cinder volumes: create, list, show, update, delete, metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bakflow.devcloud import transfer
from bakflow.devcloud.cinder import (
    boolean,
    check_metadata,
    check_name,
    forbidden,
    invalid,
    is_uuid,
    links,
    need,
    over_limit,
    page,
    stamp,
)
from bakflow.devcloud.state import Image, Snapshot, Volume, VolumeType, new_id
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

CANNOT_DELETE = (
    'Invalid volume: Volume status must be available or error or '
    'error_restoring or error_extending or error_managing and must not be '
    'migrating, attached, belong to a group, have snapshots, awaiting a '
    'transfer, or be disassociated from snapshots after volume transfer.')
DELETABLE = ('available', 'error', 'error_restoring', 'error_extending',
             'error_managing')
_FIELDS = {
    'id': lambda v: v.id, 'name': lambda v: v.name,
    'display_name': lambda v: v.name, 'status': lambda v: v.status,
    'size': lambda v: v.size, 'availability_zone': lambda v: v.zone,
    'bootable': lambda v: str(v.bootable).lower(),
    'created_at': lambda v: v.created, 'updated_at': lambda v: v.updated}
_FILTERS = ('name', 'status', 'metadata', 'bootable', 'migration_status',
            'availability_zone', 'group_id', 'size', 'created_at',
            'updated_at', 'consumes_quota')


def missing(volume_id: str) -> ApiError:
    return ApiError(404, f'Volume {volume_id} could not be found.')


def find(cloud: DevCloud, request: Request,
         volume_id: str | None = None) -> Volume:
    """The caller's volume.

    :raises ApiError: 404 when there is none or it is another project's.
    """
    wanted = volume_id or request.groups['id']
    volume = cloud.state.volumes.get(wanted)
    if volume is None or not (request.caller.admin
                              or volume.project_id == request.project_id):
        raise missing(wanted)
    return volume


def brief(request: Request, volume: Volume) -> dict[str, Any]:
    return {'id': volume.id, 'name': volume.name,
            'links': links(request, f'/volumes/{volume.id}')}


def view(request: Request, volume: Volume,
         fresh: bool = False) -> dict[str, Any]:
    """A volume as shown; ``fresh`` is the answer to its creation."""
    data: dict[str, Any] = {
        'id': volume.id, 'status': volume.status, 'size': volume.size,
        'availability_zone': volume.zone,
        'created_at': stamp(volume.created, exact=fresh),
        'updated_at': stamp(volume.updated), 'name': volume.name,
        'description': volume.description, 'volume_type': volume.type.name,
        'snapshot_id': volume.snapshot_id,
        'source_volid': volume.source_volid,
        'metadata': {**volume.metadata, **volume.admin_metadata},
        'links': links(request, f'/volumes/{volume.id}'),
        'user_id': volume.user_id,
        'bootable': str(volume.bootable).lower(),
        'encrypted': volume.encrypted, 'replication_status': None,
        'consistencygroup_id': None, 'multiattach': False,
        'attachments': volume.attachments}
    since: tuple[tuple[int, str, Any], ...] = (
        (13, 'group_id', None), (48, 'shared_targets', False),
        (48, 'service_uuid', volume.type.id),
        (63, 'volume_type_id', volume.type.id), (65, 'consumes_quota', True))
    for minor, name, value in since:
        if request.version >= (3, minor):
            data[name] = value
    if request.version >= (3, 64) and volume.encrypted:
        data['encryption_key_id'] = volume.id
    if not fresh:
        _view_extensions(request, volume, data)
    return data


def _view_extensions(request: Request, volume: Volume,
                     data: dict[str, Any]) -> None:
    data['os-vol-tenant-attr:tenant_id'] = volume.project_id
    if request.caller.admin:
        backend = volume.type.backend
        data['os-vol-host-attr:host'] = f'rig@{backend}#{backend}'
        data['os-vol-mig-status-attr:migstat'] = None
        data['os-vol-mig-status-attr:name_id'] = None
    if volume.image_metadata:
        data['volume_image_metadata'] = dict(volume.image_metadata)


def _mine(cloud: DevCloud, request: Request) -> list[Volume]:
    everybody = request.caller.admin and request.param(
        'all_tenants') in ('1', 'true', 'True')
    return [v for v in cloud.state.volumes.values()
            if everybody or v.project_id == request.project_id]


def list_brief(cloud: DevCloud, request: Request) -> Answer:
    return page(_mine(cloud, request), request, 'volumes', missing, _FIELDS,
                _FILTERS, lambda v: brief(request, v))


def list_detail(cloud: DevCloud, request: Request) -> Answer:
    return page(_mine(cloud, request), request, 'volumes', missing, _FIELDS,
                _FILTERS, lambda v: view(request, v))


def show(cloud: DevCloud, request: Request) -> Answer:
    return json_answer({'volume': view(request, find(cloud, request))})


def summary(cloud: DevCloud, request: Request) -> Answer:
    mine = _mine(cloud, request)
    return json_answer({'volume-summary': {
        'total_size': sum(v.size for v in mine), 'total_count': len(mine),
        'metadata': {}}})


# -- create ---------------------------------------------------------------

def _size(data: dict[str, Any]) -> int | None:
    value = data.get('size')
    if value is None:
        return None
    if isinstance(value, str) and not value.isdigit():
        raise invalid('size', value, f"{value!r} does not match '^[0-9]+$'")
    try:
        size = int(value)
    except (TypeError, ValueError):
        raise invalid('size', value,
                      f"{value!r} is not of type 'integer'") from None
    if size < 1:
        raise invalid('size', value,
                      f'{value} is less than the minimum of 1')
    return size


def _type(cloud: DevCloud, data: dict[str, Any],
          source: Volume | Snapshot | None) -> VolumeType:
    wanted = data.get('volume_type')
    origin = source if isinstance(source, Volume) else (
        cloud.state.volumes.get(source.volume_id) if source else None)
    if wanted is None:
        return origin.type if origin else (
            cloud.state.types[cloud.state.default_type])
    for kind in cloud.state.types.values():
        if wanted in (kind.id, kind.name):
            break
    else:
        raise ApiError(404, f'Volume type with name {wanted} could not be '
                       'found.')
    if origin and origin.type.backend != kind.backend:
        raise ApiError(400, 'Invalid input received: Invalid volume_type '
                       f'provided: {kind.id} (requested type is not '
                       'compatible; recommend omitting the type argument).')
    return kind


def _image(cloud: DevCloud, request: Request,
           data: dict[str, Any]) -> Image | None:
    wanted = data.get('imageRef') or data.get('image_id')
    if not wanted:
        return None
    image = cloud.state.images.get(wanted)
    if image is None or not cloud.sees_image(request, image):
        raise ApiError(400, 'Invalid image identifier or unable to access '
                       'requested image.')
    return image


def check_image_fits(cloud: DevCloud, image: Image, size: int) -> None:
    """Cinder's checks before an image goes to a volume.

    :raises ApiError: 400 with its text.
    """
    if image.status != 'active':
        raise ApiError(400, f'Invalid input received: Image {image.id} is '
                       'not active.')
    gib = -(-(image.size or 0) // cloud.gib)
    if gib > size:
        raise ApiError(400, 'Invalid input received: Size of specified '
                       f'image {gib}GB is larger than volume size {size}GB.')
    if image.min_disk > size:
        raise ApiError(400, f'Invalid input received: Volume size {size}GB '
                       'cannot be smaller than the image minDisk size '
                       f'{image.min_disk}GB.')


def check_quota(cloud: DevCloud, project_id: str, *, volumes: int = 0,
                snapshots: int = 0, gigabytes: int = 0) -> None:
    """:raises ApiError: 413, in Cinder's words, when a quota is reached."""
    quota = cloud.state.quota(project_id)
    used = cloud.state.used(project_id)
    over = used['gigabytes'] + gigabytes > quota.gigabytes >= 0
    if gigabytes > quota.per_volume_gigabytes >= 0:
        raise over_limit(
            'VolumeSizeExceedsLimit: Requested volume size '
            f'{gigabytes}G is larger than maximum allowed limit '
            f'{quota.per_volume_gigabytes}G.')
    if over:
        raise over_limit(
            'VolumeSizeExceedsAvailableQuota: Requested volume or snapshot '
            f'exceeds allowed gigabytes quota. Requested {gigabytes}G, quota '
            f'is {quota.gigabytes}G and {used["gigabytes"]}G has been '
            'consumed.')
    if volumes and used['volumes'] + volumes > quota.volumes >= 0:
        raise over_limit(
            'VolumeLimitExceeded: Maximum number of volumes allowed '
            f"({quota.volumes}) exceeded for quota 'volumes'.")
    if snapshots and used['snapshots'] + snapshots > quota.snapshots >= 0:
        raise over_limit(
            'SnapshotLimitExceeded: Maximum number of snapshots allowed '
            f'({quota.snapshots}) exceeded')


def _source(cloud: DevCloud, request: Request,
            data: dict[str, Any]) -> Volume | Snapshot | None:
    for key in ('snapshot_id', 'source_volid'):
        value = data.get(key)
        if value is not None and not is_uuid(value):
            raise invalid(key, value, f'{value!r} is not valid under any of '
                          'the given schemas')
    if data.get('snapshot_id'):
        snapshot = cloud.state.snapshots.get(data['snapshot_id'])
        if snapshot is None or not (
                request.caller.admin
                or snapshot.project_id == request.project_id):
            raise ApiError(404, f'Snapshot {data["snapshot_id"]} could not '
                           'be found.')
        if snapshot.status != 'available':
            raise ApiError(400, 'Invalid snapshot: Originating snapshot '
                           "status must be one of 'available' values")
        return snapshot
    if data.get('source_volid'):
        volume = find(cloud, request, data['source_volid'])
        if volume.status not in ('available', 'in-use'):
            raise ApiError(400, 'Invalid volume: Unable to create volume '
                           'from source volume: status must be available or '
                           f'in-use, but is {volume.status}.')
        return volume
    return None


def _check_source_size(source: Volume | Snapshot | None,
                       size: int) -> None:
    if source is None or size >= source.size:
        return
    what, of = (('the snapshot', 'snapshot') if isinstance(source, Snapshot)
                else ('original volume', 'volume'))
    gap = ' ' if of == 'snapshot' else '  '
    raise ApiError(400, f"Invalid input received: Volume size '{size}'GB "
                   f'cannot be smaller than {what} size{gap}{source.size}GB.'
                   f' They must be >= original {of} size.')


def create(cloud: DevCloud, request: Request) -> Answer:
    data = need(request, 'volume')
    size = _size(data)
    name = check_name('name', data.get('name', data.get('display_name')))
    description = data.get('description', data.get('display_description'))
    metadata = check_metadata(data.get('metadata') or {})
    with cloud.state.lock:
        source = _source(cloud, request, data)
        kind = _type(cloud, data, source)
        image = _image(cloud, request, data)
        if size is None and source is None:
            raise ApiError(400, 'The server could not comply with the '
                           'request since it is either malformed or '
                           'otherwise incorrect.')
        size = size or (source.size if source else 1)
        _check_source_size(source, size)
        zone = data.get('availability_zone') or 'nova'
        if zone not in cloud.zones:
            raise ApiError(400, f"Availability zone '{zone}' is invalid.")
        if image is not None:
            check_image_fits(cloud, image, size)
        check_quota(cloud, request.project_id, volumes=1, gigabytes=size)
        volume = Volume(
            new_id(), request.project_id, request.caller.user.id, size, kind,
            name=name, description=description, zone=zone, metadata=metadata)
        if isinstance(source, Snapshot):
            volume.snapshot_id = source.id
        elif source is not None:
            volume.source_volid = source.id
        if source is not None:
            volume.bootable = source.bootable
        cloud.state.volumes[volume.id] = volume
        answer = view(request, volume, fresh=True)
    transfer.start_create(cloud, request, volume, source, image)
    return json_answer({'volume': answer}, 202)


# -- change and delete ----------------------------------------------------

def update(cloud: DevCloud, request: Request) -> Answer:
    volume = find(cloud, request)
    data = need(request, 'volume', ('name', 'description', 'display_name',
                                    'display_description', 'metadata'))
    with cloud.state.lock:
        for key in ('name', 'display_name'):
            if key in data:
                volume.name = check_name('name', data[key])
        for key in ('description', 'display_description'):
            if key in data:
                volume.description = data[key]
        if 'metadata' in data:
            volume.metadata = check_metadata(data['metadata'])
        volume.touch()
        answer = view(request, volume)
        answer.pop('os-vol-tenant-attr:tenant_id', None)
    return json_answer({'volume': answer})


def check_deletable(cloud: DevCloud, volume: Volume) -> None:
    """:raises ApiError: 400 as the real one words it."""
    dependents = any(s.volume_id == volume.id
                     for s in cloud.state.snapshots.values())
    if (volume.status not in DELETABLE or volume.attachments
            or dependents):
        raise ApiError(400, CANNOT_DELETE)


def delete(cloud: DevCloud, request: Request) -> Answer:
    with cloud.state.lock:
        volume = find(cloud, request)
        if request.version >= (3, 23) and request.param('force') and boolean(
                'force', request.param('force')):
            if not request.caller.admin:
                raise forbidden('volume:force_delete')
        else:
            check_deletable(cloud, volume)
        transfer.start_delete_volume(cloud, request, volume)
    return Answer(202, b'', {'Content-Type': 'text/html; charset=UTF-8'})


ROUTES: list[Route] = [
    route('GET', '/volumes', list_brief),
    route('POST', '/volumes', create),
    route('GET', '/volumes/detail', list_detail),
    route('GET', '/volumes/summary', summary),
    route('GET', '/volumes/{id}', show),
    route('PUT', '/volumes/{id}', update),
    route('DELETE', '/volumes/{id}', delete),
]
