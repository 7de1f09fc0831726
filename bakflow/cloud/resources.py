"""What the services say about a snapshot, a volume or an image."""

from __future__ import annotations

import dataclasses
from typing import Any

SNAPSHOT, VOLUME, IMAGE = 'snapshot', 'volume', 'image'

GIB = 1 << 30

#: Keys of a Glance image that are not its custom properties.
_IMAGE_KEYS = frozenset((
    'id', 'name', 'status', 'size', 'created_at', 'updated_at', 'tags',
    'disk_format', 'container_format', 'min_disk', 'min_ram', 'visibility',
    'owner', 'protected', 'checksum', 'os_hash_algo', 'os_hash_value',
    'os_hidden', 'virtual_size', 'self', 'file', 'schema', 'locations',
    'direct_url', 'stores'))

_IMAGE_DETAILS = (
    'tags', 'disk_format', 'container_format', 'min_disk', 'min_ram',
    'visibility', 'owner', 'protected', 'os_hash_algo', 'os_hash_value',
    'checksum', 'virtual_size', 'updated_at')


@dataclasses.dataclass(frozen=True)
class Resource:
    """One resource of the cloud as it was when it was asked for.

    :param metadata: of a volume or snapshot; the custom properties of an
        image.
    :param size_bytes: of the disk (volume, snapshot) or of the image file;
        None while an image has no data.
    :param created_at: as the service gives it (ISO 8601, UTC).
    :param details: what else flows need, see the function of each kind.
    """

    kind: str
    id: str
    name: str
    status: str
    metadata: dict[str, str]
    size_bytes: int | None
    created_at: str
    details: dict[str, Any]

    def __str__(self) -> str:
        return f'{self.kind} {self.id}'


def snapshot(body: dict[str, Any]) -> Resource:
    """Details: volume_id, description."""
    return Resource(
        kind=SNAPSHOT, id=body['id'], name=body.get('name') or '',
        status=body['status'], metadata=dict(body.get('metadata') or {}),
        size_bytes=int(body.get('size') or 0) * GIB,
        created_at=body.get('created_at') or '',
        details={'volume_id': body.get('volume_id'),
                 'description': body.get('description') or ''})


def volume(body: dict[str, Any]) -> Resource:
    """Details: type, az, bootable, encrypted (both bool), description,
    attachments, volume_image_metadata, snapshot_id, source_volid,
    multiattach.
    """
    return Resource(
        kind=VOLUME, id=body['id'], name=body.get('name') or '',
        status=body['status'], metadata=dict(body.get('metadata') or {}),
        size_bytes=int(body.get('size') or 0) * GIB,
        created_at=body.get('created_at') or '',
        details={
            'type': body.get('volume_type'),
            'az': body.get('availability_zone'),
            'bootable': str(body.get('bootable')).lower() == 'true',
            'encrypted': bool(body.get('encrypted')),
            'description': body.get('description') or '',
            'attachments': list(body.get('attachments') or []),
            'volume_image_metadata': dict(
                body.get('volume_image_metadata') or {}),
            'snapshot_id': body.get('snapshot_id'),
            'source_volid': body.get('source_volid'),
            'multiattach': bool(body.get('multiattach'))})


def image(body: dict[str, Any]) -> Resource:
    """Details: tags, disk_format, container_format, min_disk (GiB), min_ram
    (MiB), visibility, owner, protected, os_hash_algo, os_hash_value,
    checksum, virtual_size, updated_at.
    """
    size = body.get('size')
    return Resource(
        kind=IMAGE, id=body['id'], name=body.get('name') or '',
        status=body['status'],
        metadata={k: str(v) for k, v in body.items()
                  if k not in _IMAGE_KEYS and v is not None},
        size_bytes=None if size is None else int(size),
        created_at=body.get('created_at') or '',
        details={k: body.get(k) for k in _IMAGE_DETAILS})
