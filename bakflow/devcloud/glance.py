"""Glance v2: create, list, show, patch, tag, delete."""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from bakflow.devcloud import glance_data, glance_schema
from bakflow.devcloud.glance_schema import READ_ONLY, RESERVED
from bakflow.devcloud.state import Image, new_id
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

#: what a caller may set, and the attribute that it is
SETTABLE = {'name': 'name', 'disk_format': 'disk_format',
            'container_format': 'container_format',
            'visibility': 'visibility', 'protected': 'protected',
            'os_hidden': 'hidden', 'min_disk': 'min_disk',
            'min_ram': 'min_ram', 'tags': 'tags'}
_PATCH_TYPES = ('application/openstack-images-v2.0-json-patch',
                'application/openstack-images-v2.1-json-patch')
_SORT_KEYS = ('name', 'status', 'container_format', 'disk_format', 'size',
              'id', 'created_at', 'updated_at')
_EMPTY = {'Content-Type': 'text/html; charset=UTF-8'}


def _time(moment: datetime.datetime) -> str:
    return moment.strftime('%Y-%m-%dT%H:%M:%SZ')


def versions(cloud: DevCloud, request: Request) -> Answer:
    own = [{'rel': 'self', 'href': f'{request.url}/v2/'}]
    found = [{'id': f'v2.{n}', 'status': 'SUPPORTED', 'links': own}
             for n in (18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4,
                       3, 2, 1, 0)]
    found[0]['status'] = 'CURRENT'
    return json_answer({'versions': found},
                       300 if request.path == '/' else 200)


def view(cloud: DevCloud, image: Image) -> dict[str, Any]:
    data: dict[str, Any] = {
        **image.properties, 'name': image.name,
        'disk_format': image.disk_format,
        'container_format': image.container_format,
        'visibility': image.visibility, 'size': image.size,
        'virtual_size': image.virtual_size, 'status': image.status,
        'checksum': image.checksum, 'protected': image.protected,
        'min_ram': image.min_ram, 'min_disk': image.min_disk,
        'owner': image.owner, 'os_hidden': image.hidden,
        'os_hash_algo': 'sha512' if image.os_hash_value else None,
        'os_hash_value': image.os_hash_value, 'id': image.id,
        'created_at': _time(image.created),
        'updated_at': _time(image.updated), 'locations': [],
        'tags': list(image.tags), 'self': f'/v2/images/{image.id}',
        'file': f'/v2/images/{image.id}/file', 'schema': '/v2/schemas/image'}
    if image.status == 'active':
        url = f'file://{cloud.image_path(image.id)}'
        data['locations'] = [{'url': url, 'metadata': {'store': 'file'}}]
        data['direct_url'] = url
        data['stores'] = 'file'
    return data


def create(cloud: DevCloud, request: Request) -> Answer:
    data = request.json()
    if not isinstance(data, dict):
        raise ApiError(400, 'Request body must be a JSON object.')
    for key in data:
        if key in READ_ONLY:
            raise ApiError(403, f"Attribute '{key}' is read-only.")
        if key in RESERVED:
            raise ApiError(403, f"Attribute '{key}' is reserved.")
    glance_schema.check(data)
    _check_visibility(request, data.get('visibility'))
    owner = data.get('owner', request.project_id)
    if owner != request.project_id and not request.caller.admin:
        raise ApiError(403, detail='You are not permitted to create images '
                       f"owned by '{owner}'")
    with cloud.state.lock:
        if data.get('id') in cloud.state.images:
            raise ApiError(409, f'Image ID {data["id"]} already exists!')
        if cloud.images_full(request.project_id):
            raise ApiError(413, 'The request returned a 413 Request Entity '
                           'Too Large.')
        image = Image(data.get('id') or new_id(), owner)
        for key, value in data.items():
            if key in SETTABLE:
                setattr(image, SETTABLE[key], value)
            elif key not in ('id', 'owner'):
                image.properties[key] = value
        image.tags = sorted(set(image.tags))
        cloud.state.images[image.id] = image
        return json_answer(view(cloud, image), 201, {
            'Location': f'{request.url}/v2/images/{image.id}',
            'OpenStack-image-import-methods':
                'glance-direct,web-download,copy-image',
            'OpenStack-image-store-ids': 'file'})


def _check_visibility(request: Request, visibility: str | None) -> None:
    if visibility == 'public' and not request.caller.admin:
        raise ApiError(403, 'You are not authorized to complete '
                       'publicize_image action.')


def show(cloud: DevCloud, request: Request) -> Answer:
    return json_answer(view(cloud, glance_data.find(cloud, request)))


def delete(cloud: DevCloud, request: Request) -> Answer:
    with cloud.state.lock:
        image = glance_data.find(
            cloud, request, 'Failed to find image {} to delete')
        glance_data.check_owner(request, image)
        if image.protected:
            raise ApiError(403, f'Image {image.id} is protected and cannot '
                           'be deleted.')
        glance_data.forget(cloud, image)
    return Answer(204, b'', dict(_EMPTY))


# -- patch and tags -------------------------------------------------------

def _apply(request: Request, image: Image, change: Any) -> None:
    operation, value = change.get('op'), change.get('value')
    key = str(change.get('path', '')).lstrip('/')
    key = key.replace('~1', '/').replace('~0', '~')
    if key in READ_ONLY:
        raise ApiError(403, f"Attribute '{key}' is read-only.")
    if key in RESERVED:
        raise ApiError(403, f"Attribute '{key}' is reserved.")
    if operation == 'remove':
        if key in SETTABLE:
            raise ApiError(403, detail=f'Property {key} may not be removed.')
        if image.properties.pop(key, None) is None:
            raise ApiError(409, detail=f'Property {key} does not exist.')
        return
    if operation not in ('add', 'replace'):
        raise ApiError(400, f'Operation "{operation}" is not supported.')
    glance_schema.check({key: value})
    if key in ('disk_format', 'container_format') and (
            image.status != 'queued'):
        raise ApiError(403, f'Attribute {key} can be only replaced for a '
                       'queued image.')
    if key == 'visibility':
        _check_visibility(request, value)
    if key in SETTABLE:
        setattr(image, SETTABLE[key],
                sorted(set(value)) if key == 'tags' else value)
    elif operation == 'replace' and key not in image.properties:
        raise ApiError(409, detail=f'Property {key} does not exist.')
    else:
        image.properties[key] = value


def patch(cloud: DevCloud, request: Request) -> Answer:
    if request.headers.get('content-type') not in _PATCH_TYPES:
        accepted = ', '.join(_PATCH_TYPES)
        raise ApiError(415, detail='Image PATCH expects Content-Type one of: '
                       + accepted, headers={'Accept-Patch': accepted})
    changes = request.json()
    if not isinstance(changes, list):
        raise ApiError(400, 'Request body must be a JSON array of operation '
                       'objects.')
    with cloud.state.lock:
        image = glance_data.find(cloud, request)
        glance_data.check_owner(request, image)
        for change in changes:
            _apply(request, image, change)
        if changes:
            image.touch()
        return json_answer(view(cloud, image))


def add_tag(cloud: DevCloud, request: Request) -> Answer:
    with cloud.state.lock:
        image = glance_data.find(cloud, request, 'Image {} not found.')
        glance_data.check_owner(request, image)
        tag = request.groups['tag']
        if len(tag) > 255:
            raise ApiError(400, f"'{tag}' is too long")
        if tag not in image.tags:
            image.tags.append(tag)
    return Answer(204, b'', dict(_EMPTY))


def remove_tag(cloud: DevCloud, request: Request) -> Answer:
    with cloud.state.lock:
        image = glance_data.find(cloud, request, 'Image {} not found.')
        glance_data.check_owner(request, image)
        if request.groups['tag'] not in image.tags:
            raise ApiError(404)
        image.tags.remove(request.groups['tag'])
    return Answer(204, b'', dict(_EMPTY))


# -- list -----------------------------------------------------------------

def _fits(cloud: DevCloud, image: Image, key: str, value: str) -> bool:
    if key == 'tag':
        return value in image.tags
    if key in ('size_min', 'size_max'):
        if image.size is None:
            return False
        limit = int(value)
        return image.size >= limit if key == 'size_min' else (
            image.size <= limit)
    if key in ('created_at', 'updated_at'):
        operator, _, moment = value.partition(':')
        own = _time(getattr(image, key[:-3])).rstrip('Z')
        moment = moment.rstrip('Z')
        return {'gt': own > moment, 'gte': own >= moment, 'eq': own == moment,
                'lt': own < moment, 'lte': own <= moment,
                'neq': own != moment}.get(operator, True)
    own_value = view(cloud, image).get(key)
    if key in ('protected', 'os_hidden'):
        return own_value is (value.lower() == 'true')
    if value.startswith('in:'):
        return str(own_value) in value[3:].split(',')
    return own_value is not None and str(own_value) == value


def _filters(request: Request) -> list[tuple[str, str]]:
    found = [(k, v) for k, v in request.params
             if k not in ('limit', 'marker', 'sort', 'sort_key', 'sort_dir',
                          'member_status')]
    for key, value in found:
        if key == 'visibility' and value not in (
                'community', 'public', 'private', 'shared', 'all'):
            raise ApiError(400, f'Invalid visibility value: {value}')
        if key == 'protected' and value.lower() not in ('true', 'false'):
            raise ApiError(400, f"Invalid value '{value}' for 'protected' "
                           "filter. Valid values are 'true' or 'false'.")
    if not any(k == 'os_hidden' for k, _ in found):
        found.append(('os_hidden', 'false'))
    return [(k, v) for k, v in found if (k, v) != ('visibility', 'all')]


def _order(request: Request, images: list[Image],
           cloud: DevCloud) -> list[Image]:
    keys = [v for k, v in request.params if k == 'sort_key']
    ways = [v for k, v in request.params if k == 'sort_dir'] or ['desc']
    pairs = [(k, ways[min(i, len(ways) - 1)]) for i, k in enumerate(keys)]
    for part in (request.param('sort') or '').split(','):
        name, _, way = part.partition(':')
        if name:
            pairs.append((name, way or 'desc'))
    images.sort(key=lambda i: (i.created, i.id), reverse=True)
    for name, way in reversed(pairs):
        if name not in _SORT_KEYS:
            raise ApiError(400, f'Invalid sort key: {name}. It must be one '
                           f'of the following: {", ".join(_SORT_KEYS)}.')
        images.sort(key=lambda i, n=name: (  # type: ignore[misc]
            view(cloud, i)[n] is not None, view(cloud, i)[n] or 0)
            if n == 'size' else str(view(cloud, i)[n] or ''),
            reverse=way == 'desc')
    return images


def _limit(request: Request) -> int:
    text = request.param('limit', '25')
    if not re.match(r'^-?\d+$', str(text)):
        raise ApiError(400, 'limit param must be an integer')
    if int(str(text)) < 0:
        raise ApiError(400, 'limit param must be positive')
    return min(int(str(text)), 1000)


def list_images(cloud: DevCloud, request: Request) -> Answer:
    limit, filters = _limit(request), _filters(request)
    with cloud.state.lock:
        images = [i for i in cloud.state.images.values()
                  if cloud.sees_image(request, i)
                  and all(_fits(cloud, i, k, v) for k, v in filters)]
        images = _order(request, images, cloud)
        marker = request.param('marker')
        if marker is not None:
            ids = [i.id for i in images]
            if marker not in ids:
                raise ApiError(400, f'No image found with ID {marker}')
            images = images[ids.index(marker) + 1:]
        shown = [view(cloud, i) for i in images[:limit]]
    query = [(k, v) for k, v in request.params if k != 'marker']
    path = '/v2/images'
    data: dict[str, Any] = {
        'images': shown, 'schema': '/v2/schemas/images',
        'first': f'{path}?{urlencode(query)}' if query else path}
    if shown and len(shown) == limit:
        query.append(('marker', shown[-1]['id']))
        data['next'] = f'{path}?{urlencode(query)}'
    return json_answer(data)


OPEN_ROUTES: list[Route] = [route('GET', '/', versions),
                            route('GET', '/versions', versions)]
ROUTES: list[Route] = [
    route('GET', '/v2/images', list_images),
    route('POST', '/v2/images', create),
    route('GET', '/v2/images/{id}', show),
    route('PATCH', '/v2/images/{id}', patch),
    route('DELETE', '/v2/images/{id}', delete),
    route('PUT', '/v2/images/{id}/tags/{tag}', add_tag),
    route('DELETE', '/v2/images/{id}/tags/{tag}', remove_tag),
    route('GET', '/v2/images/{id}/file', glance_data.download),
    route('PUT', '/v2/images/{id}/file', glance_data.upload),
    *glance_schema.ROUTES,
]
