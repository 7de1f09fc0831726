"""What a request would do, resolved as far as it can be known before."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from bakflow import errors
from bakflow.cloud.resources import GIB
from bakflow.conductor import requests
from bakflow.conductor.service import Conductor
from bakflow.db import models
from bakflow.engine import runner

#: Glance's own default of image_size_cap (1 TiB): a member cannot ask what
#: is configured.
_IMAGE_SIZE_CAP = 1 << 40


def backup(conductor: Conductor, *, volume: str, target: str | None = None,
           name: str | None = None, image_format: str | None = None,
           **_: Any) -> dict[str, Any]:
    """The preview of a backup.

    :raises BakflowError: what would refuse the request itself.
    """
    cloud = conductor.cloud()
    target = conductor.targets.known(target or conductor.targets.default)
    image_format = requests.choice('image format', image_format,
                                   requests.FORMATS,
                                   conductor.conf.conductor.image_format)
    found = cloud.volumes.find_one(volume)
    document = requests.source(found)
    gib = document['size_gib']
    findings = cloud.quotas.headroom(gib, 1, 1,
                                     volume_type=document['type'],
                                     n_images=1)
    warnings = [f'quota too small: {f}' for f in findings if not f.enough]
    if gib * GIB > _IMAGE_SIZE_CAP:
        warnings.append(
            f'the temporary image may have {gib} GiB; Glance takes 1 TiB '
            f'unless image_size_cap says otherwise')
    return {
        'kind': 'backup', 'name': name or document['name'] or found.id,
        'source': f'volume {found.id} ({found.name or "unnamed"})',
        'source_status': found.status, 'size_bytes': gib * GIB,
        'target': target, 'cloud': str(cloud.key),
        'image_format': image_format,
        'steps': runner.outline('volume-backup')[0],
        'temporaries': [{'kind': 'snapshot', 'size_gib': gib},
                        {'kind': 'volume', 'size_gib': gib},
                        {'kind': 'image', 'size_gib': gib}],
        'quotas': [_finding(f) for f in findings],
        'parent': _parent(conductor, cloud.project_id, found.id, target),
        'warnings': warnings + _target_warnings(conductor, target)}


def restore(conductor: Conductor, row: models.Backup, *,
            destination: dict[str, Any], volume_type: str | None = None,
            availability_zone: str | None = None, **_: Any
            ) -> dict[str, Any]:
    """The preview of a restore."""
    where = requests.destination(destination)
    gib = row.size // GIB
    shown: dict[str, Any] = {
        'kind': 'restore', 'source': f'backup {row.id} ({row.name})',
        'size_bytes': row.size, 'target': row.target, 'destination': where,
        'steps': runner.outline(requests.RESTORES[where['kind']])[0],
        'temporaries': [], 'quotas': [], 'parent': None, 'cloud': None,
        'warnings': []}
    if row.status == 'damaged':
        shown['warnings'].append('the backup is damaged')
    if where['kind'] == 'file':
        return shown
    cloud = conductor.cloud()
    shown['cloud'] = str(cloud.key)
    shown['volume_type'] = volume_type or row.document.get('type')
    shown['availability_zone'] = (availability_zone
                                  or row.document.get('az'))
    if where['kind'] != 'image':
        shown['temporaries'] = [{'kind': 'image', 'size_gib': gib}]
    if where['kind'] == 'new-volume':
        findings = cloud.quotas.headroom(
            gib, 0, 1, volume_type=shown['volume_type'], n_images=1)
        shown['quotas'] = [_finding(f) for f in findings]
        shown['warnings'] += [f'quota too small: {f}' for f in findings
                              if not f.enough]
    if where['kind'] == 'existing-volume':
        volume = cloud.volumes.find_one(where['volume_id'])
        requests.check_existing(volume, row.size)
        shown['warnings'].append(
            f'all that volume {volume.id} ({volume.name}) holds is lost')
    return shown


def _finding(finding: Any) -> dict[str, Any]:
    return {'what': finding.what, 'needed': finding.needed,
            'free': finding.free, 'limit': finding.limit,
            'enough': finding.enough}


def _parent(conductor: Conductor, project_id: str, volume_id: str,
            target: str) -> str | None:
    with conductor.db.transaction() as session:
        return session.scalars(
            sa.select(models.Backup.id).where(
                models.Backup.project_id == project_id,
                models.Backup.source_id == volume_id,
                models.Backup.target == target,
                models.Backup.status == 'available')
            .order_by(models.Backup.created_at.desc()).limit(1)).first()


def _target_warnings(conductor: Conductor, target: str) -> list[str]:
    try:
        if conductor.targets.exists(target):
            conductor.targets.open(target)
    except errors.BakflowError as exc:
        return [f'target {target}: {exc}']
    return []
