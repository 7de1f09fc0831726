"""What ``POST /volumes/ID/action`` does."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bakflow.devcloud import transfer
from bakflow.devcloud.cinder import (
    NOT_FOUND,
    boolean,
    check_metadata,
    forbidden,
    invalid,
    over_limit,
    stamp,
)
from bakflow.devcloud.cinder_volumes import (
    check_image_fits,
    check_quota,
    find,
)
from bakflow.devcloud.state import Image, Volume, new_id
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

Action = Callable[['DevCloud', Request, Volume, Any], Answer]
_UPLOAD_FORMATS = ['raw', 'vmdk', 'vdi', 'qcow2', 'vhd', 'vhdx', 'ploop']
_UPLOAD_KEYS = ('image_name', 'force', 'disk_format', 'container_format',
                'visibility', 'protected')
_VISIBILITIES = ['community', 'public', 'private', 'shared']
#: image metadata of a volume that do not become properties of an image
_NO_PROPERTIES = ('image_id', 'image_name', 'checksum', 'container_format',
                  'disk_format', 'min_disk', 'min_ram', 'size',
                  'signature_verified')


def _empty(status: int, kind: str = 'application/json') -> Answer:
    return Answer(status, b'', {'Content-Type': kind})


def _required(name: str, data: Any, key: str) -> Any:
    if not isinstance(data, dict) or key not in data:
        raise invalid(name, data, f"'{key}' is a required property")
    return data[key]


def set_bootable(cloud: DevCloud, request: Request, volume: Volume,
                 data: Any) -> Answer:
    volume.bootable = boolean(
        'bootable', _required('os-set_bootable', data, 'bootable'))
    volume.touch()
    return _empty(200)


def set_image_metadata(cloud: DevCloud, request: Request, volume: Volume,
                       data: Any) -> Answer:
    new = check_metadata(_required('os-set_image_metadata', data,
                                   'metadata'))
    volume.image_metadata.update(new)
    return json_answer({'metadata': dict(volume.image_metadata)})


def show_image_metadata(cloud: DevCloud, request: Request, volume: Volume,
                        data: Any) -> Answer:
    return json_answer({'metadata': dict(volume.image_metadata)})


def unset_image_metadata(cloud: DevCloud, request: Request, volume: Volume,
                         data: Any) -> Answer:
    key = _required('os-unset_image_metadata', data, 'key')
    if volume.image_metadata.pop(key, None) is None:
        raise ApiError(404, 'Glance metadata for volume/snapshot '
                       f'{volume.id} cannot be found.')
    return _empty(200, 'text/html; charset=UTF-8')


def _properties(volume: Volume) -> dict[str, str]:
    return {k: v for k, v in volume.image_metadata.items()
            if k not in _NO_PROPERTIES}


def _checked_upload(request: Request, data: Any) -> dict[str, Any]:
    name = 'os-volume_upload_image'
    _required(name, data, 'image_name')
    for key in data:
        if key not in _UPLOAD_KEYS:
            raise invalid(name, data, 'Additional properties are not '
                          f"allowed ('{key}' was unexpected)")
    disk_format = data.get('disk_format') or 'raw'
    if disk_format not in _UPLOAD_FORMATS:
        raise invalid('disk_format', disk_format, f'{disk_format!r} is not '
                      f'one of {_UPLOAD_FORMATS}')
    visibility = 'shared'
    if request.version >= (3, 1):
        visibility = data.get('visibility', 'private')
        if visibility not in _VISIBILITIES:
            raise invalid('visibility', visibility, f'{visibility!r} is not '
                          f'one of {_VISIBILITIES}')
        if visibility == 'public' and not request.caller.admin:
            raise forbidden('volume_extension:volume_actions:upload_public')
    return {'disk_format': disk_format, 'visibility': visibility,
            'container_format': data.get('container_format') or 'bare',
            'protected': bool(data.get('protected', False))}


def upload_image(cloud: DevCloud, request: Request, volume: Volume,
                 data: Any) -> Answer:
    wanted = _checked_upload(request, data)
    if volume.status != 'available':
        # force is refused too: enable_force_upload is off by default
        raise ApiError(400, f'Invalid volume: Volume {volume.id} status '
                       'must be available')
    if cloud.images_full(request.project_id):
        raise over_limit(
            'ImageLimitExceeded: Image quota exceeded: The request returned '
            'a 413 Request Entity Too Large. This generally means that rate '
            'limiting or a quota threshold was breached.')
    cloud.state.set_status(volume, 'uploading')
    image = Image(new_id(), request.project_id, name=data['image_name'],
                  properties=_properties(volume), **wanted)
    cloud.state.images[image.id] = image
    answer = {
        'id': volume.id, 'updated_at': stamp(volume.updated),
        'status': 'uploading', 'display_description': volume.description,
        'size': volume.size, 'volume_type': {
            'id': volume.type.id, 'name': volume.type.name,
            'description': volume.type.description, 'is_public': True,
            'extra_specs': {'volume_backend_name': volume.type.backend},
            'qos_specs_id': None, 'created_at': stamp(volume.created),
            'updated_at': None, 'deleted_at': None, 'deleted': False},
        'image_id': image.id, 'container_format': image.container_format,
        'disk_format': image.disk_format, 'image_name': image.name,
        'protected': image.protected, 'visibility': image.visibility}
    transfer.start_upload(cloud, request, volume, image)
    return json_answer({'os-volume_upload_image': answer}, 202)


def reimage(cloud: DevCloud, request: Request, volume: Volume,
            data: Any) -> Answer:
    if request.version < (3, 68):
        raise ApiError(404, NOT_FOUND)
    wanted = _required('os-reimage', data, 'image_id')
    image = cloud.state.images.get(wanted)
    if image is None or not cloud.sees_image(request, image):
        raise ApiError(404, f'Image {wanted} could not be found.')
    check_image_fits(cloud, image, volume.size)
    reserved = boolean('reimage_reserved',
                       data.get('reimage_reserved', False))
    allowed = ['available', 'error']
    if reserved:
        allowed.append('reserved')
    if volume.status not in allowed:
        raise ApiError(400, f'Invalid volume: Volume {volume.id} status must '
                       f'be {" or ".join(allowed)}, but current status is '
                       f'{volume.status}.')
    cloud.state.set_status(volume, 'downloading')
    transfer.start_reimage(cloud, request, volume, image)
    return _empty(202)


def extend(cloud: DevCloud, request: Request, volume: Volume,
           data: Any) -> Answer:
    size = int(_required('os-extend', data, 'new_size'))
    if volume.status != 'available':
        raise ApiError(400, f'Invalid volume: Volume {volume.id} status must '
                       "be '{'status': 'available'}' to extend, currently "
                       f'{volume.status}.')
    if size <= volume.size:
        raise ApiError(400, 'Invalid input received: New size for extend '
                       'must be greater than current size. (current: '
                       f'{volume.size}, extended: {size}).')
    check_quota(cloud, request.project_id, gigabytes=size - volume.size)
    cloud.state.set_status(volume, 'extending')
    transfer.start_extend(cloud, request, volume, size)
    return _empty(202)


def reset_status(cloud: DevCloud, request: Request, volume: Volume,
                 data: Any) -> Answer:
    if not request.caller.admin:
        raise forbidden('volume_extension:volume_admin_actions:reset_status')
    cloud.state.set_status(volume, _required('os-reset_status', data,
                                             'status'))
    return _empty(202)


def force_delete(cloud: DevCloud, request: Request, volume: Volume,
                 data: Any) -> Answer:
    if not request.caller.admin:
        raise forbidden('volume_extension:volume_admin_actions:force_delete')
    transfer.start_delete_volume(cloud, request, volume)
    return _empty(202)


def attach(cloud: DevCloud, request: Request, volume: Volume,
           data: Any) -> Answer:
    if volume.status not in ('available', 'reserved', 'attaching'):
        raise ApiError(400, 'Invalid volume: Volume status must be '
                       f'available, but is {volume.status}.')
    cloud.attach(volume, str(data.get('instance_uuid') or uuid.uuid4()),
                 str(data.get('mountpoint') or '/dev/vdb'))
    return _empty(202)


def detach(cloud: DevCloud, request: Request, volume: Volume,
           data: Any) -> Answer:
    volume.attachments.clear()
    volume.admin_metadata.pop('attached_mode', None)
    cloud.state.set_status(volume, 'available')
    return _empty(202)


_ACTIONS: dict[str, Action] = {
    'os-set_bootable': set_bootable,
    'os-set_image_metadata': set_image_metadata,
    'os-show_image_metadata': show_image_metadata,
    'os-unset_image_metadata': unset_image_metadata,
    'os-volume_upload_image': upload_image,
    'os-reimage': reimage,
    'os-extend': extend,
    'os-reset_status': reset_status,
    'os-force_delete': force_delete,
    'os-attach': attach,
    'os-detach': detach,
}


def act(cloud: DevCloud, request: Request) -> Answer:
    data = request.json()
    name = next(iter(data), '') if isinstance(data, dict) else ''
    action = _ACTIONS.get(name)
    if action is None:
        raise ApiError(400, f'There is no such action: {name}. Verify the '
                       'request body and Content-Type header and try again.')
    with cloud.state.lock:
        volume = find(cloud, request)
        return action(cloud, request, volume, data[name])


ROUTES: list[Route] = [route('POST', '/volumes/{id}/action', act)]
