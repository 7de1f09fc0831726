"""Glance's schemas and its checks of attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

DISK_FORMATS = (None, 'ami', 'ari', 'aki', 'vhd', 'vhdx', 'vmdk', 'raw',
                'qcow2', 'vdi', 'iso', 'ploop')
CONTAINER_FORMATS = (None, 'ami', 'ari', 'aki', 'bare', 'ovf', 'ova',
                     'docker', 'compressed')
VISIBILITIES = ('community', 'public', 'private', 'shared')
READ_ONLY = ('status', 'checksum', 'os_hash_algo', 'os_hash_value', 'size',
             'virtual_size', 'created_at', 'updated_at', 'direct_url',
             'self', 'file', 'stores', 'schema')
RESERVED = ('deleted', 'deleted_at', 'os_glance_importing_to_stores')

_STRING = {'type': ['null', 'string']}
_PROPERTIES: dict[str, Any] = {
    'id': {'type': 'string'}, 'name': {**_STRING, 'maxLength': 255},
    'status': {'type': 'string', 'readOnly': True},
    'visibility': {'type': 'string', 'enum': list(VISIBILITIES)},
    'protected': {'type': 'boolean'}, 'os_hidden': {'type': 'boolean'},
    'checksum': {**_STRING, 'readOnly': True, 'maxLength': 32},
    'os_hash_algo': {**_STRING, 'readOnly': True, 'maxLength': 64},
    'os_hash_value': {**_STRING, 'readOnly': True, 'maxLength': 128},
    'owner': {**_STRING, 'maxLength': 255},
    'size': {'type': ['null', 'integer'], 'readOnly': True},
    'virtual_size': {'type': ['null', 'integer'], 'readOnly': True},
    'container_format': {**_STRING, 'enum': list(CONTAINER_FORMATS)},
    'disk_format': {**_STRING, 'enum': list(DISK_FORMATS)},
    'created_at': {'type': 'string', 'readOnly': True},
    'updated_at': {'type': 'string', 'readOnly': True},
    'tags': {'type': 'array', 'items': {'type': 'string',
                                        'maxLength': 255}},
    'direct_url': {'type': 'string', 'readOnly': True},
    'min_ram': {'type': 'integer'}, 'min_disk': {'type': 'integer'},
    'self': {'type': 'string', 'readOnly': True},
    'file': {'type': 'string', 'readOnly': True},
    'stores': {'type': 'string', 'readOnly': True},
    'schema': {'type': 'string', 'readOnly': True},
    'locations': {'type': 'array'},
}


def _wrong(why: str) -> ApiError:
    return ApiError(400, "Provided object does not match schema 'image': "
                    + why)


_PYTHON: dict[str, type] = {'null': type(None), 'string': str, 'integer': int,
           'boolean': bool, 'array': list}


def check(data: dict[str, Any]) -> None:
    """Check the values of an image's attributes.

    :raises ApiError: 400, beginning as Glance's text does.
    """
    for key, value in data.items():
        rule = _PROPERTIES.get(key, {'type': 'string'})
        wanted = rule['type'] if isinstance(rule['type'], list) else [
            rule['type']]
        allowed = tuple(_PYTHON[t] for t in wanted)
        if not isinstance(value, allowed) or (
                isinstance(value, bool) and bool not in allowed):
            kinds = ', '.join(repr(t) for t in wanted)
            raise _wrong(f'{value!r} is not of type {kinds}')
        if 'enum' in rule and value not in rule['enum']:
            raise _wrong(f'{value!r} is not one of {rule["enum"]}')
        if isinstance(value, str) and len(value) > rule.get('maxLength',
                                                            65535):
            raise _wrong(f'{value!r} is too long')
        if key == 'tags' and isinstance(value, list):
            check_tags(value)


def check_tags(tags: list[Any]) -> None:
    for tag in tags:
        if not isinstance(tag, str):
            raise _wrong(f"{tag!r} is not of type 'string'")
        if len(tag) > 255:
            raise _wrong(f'{tag!r} is too long')


def show_image(cloud: DevCloud, request: Request) -> Answer:
    return json_answer({'name': 'image', 'properties': _PROPERTIES,
                        'additionalProperties': {'type': 'string'},
                        'links': [{'rel': 'self', 'href': '{self}'},
                                  {'rel': 'enclosure', 'href': '{file}'},
                                  {'rel': 'describedby',
                                   'href': '{schema}'}]})


def show_images(cloud: DevCloud, request: Request) -> Answer:
    return json_answer({'name': 'images', 'properties': {
        'images': {'type': 'array', 'items': {
            'name': 'image', 'properties': _PROPERTIES}},
        'first': {'type': 'string'}, 'next': {'type': 'string'},
        'schema': {'type': 'string'}}})


def show_import(cloud: DevCloud, request: Request) -> Answer:
    return json_answer({'import-methods': {
        'description': 'Import methods available.', 'type': 'array',
        'value': ['glance-direct', 'web-download', 'copy-image']}})


def show_stores(cloud: DevCloud, request: Request) -> Answer:
    return json_answer({'stores': [{'id': 'file', 'default': 'true'}]})


def show_usage(cloud: DevCloud, request: Request) -> Answer:
    return json_answer({'usage': {}})


ROUTES: list[Route] = [
    route('GET', '/v2/schemas/image', show_image),
    route('GET', '/v2/schemas/images', show_images),
    route('GET', '/v2/info/import', show_import),
    route('GET', '/v2/info/stores', show_stores),
    route('GET', '/v2/info/usage', show_usage),
]
