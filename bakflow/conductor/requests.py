"""Accepts requests: looks at what they name, and writes their rows.

A request becomes rows in one transaction, or an error and nothing. The same
idempotency key brings the same rows again.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from bakflow import errors, states
from bakflow.cloud import volumes
from bakflow.cloud.resources import GIB, Resource
from bakflow.db import models
from bakflow.db.records import LIVE_FLOWS

B = states.Backup

ON_FAILURE = ('hold', 'revert')
FORMATS = ('auto', 'raw', 'qcow2')

#: Destination of a restore -> kind of its flow.
RESTORES = {'new-volume': 'restore-volume',
            'existing-volume': 'restore-reimage',
            'image': 'restore-image', 'file': 'restore-file'}

#: What each destination must name.
_NAMES = {'new-volume': 'name', 'existing-volume': 'volume_id',
          'image': 'name', 'file': 'path'}


def source(volume: Resource) -> dict[str, Any]:
    """What of a volume is saved beside its bytes.

    :raises InvalidRequest: it cannot be backed up as it is.
    """
    problem = volumes.state_problem(volume)
    if problem:
        raise errors.Conflict(
            problem, resource=str(volume),
            hint='wait until it is, or mend it')
    if volume.details['encrypted']:
        raise errors.InvalidRequest(
            f'{volume} is encrypted, and its bytes cannot be had through an '
            f'image in clear', resource=str(volume),
            hint='back up the data inside the guest')
    look = dataclasses.asdict(volumes.Look.of(volume))
    return {**look, 'type': volume.details['type'],
            'az': volume.details['az'], 'status': volume.status,
            'multiattach': volume.details['multiattach'],
            'size_gib': (volume.size_bytes or 0) // GIB,
            'volume_id': volume.id}


def choice(what: str, value: str | None, allowed: tuple[str, ...],
           default: str) -> str:
    """A word of a fixed set.

    :raises InvalidRequest: it is none of them.
    """
    if value is None:
        return default
    if value not in allowed:
        raise errors.InvalidRequest(
            f'{what} is {value!r}; it may be {", ".join(allowed)}')
    return value


def add_backup(session: orm.Session, *, project_id: str, cloud: str,
               document: dict[str, Any], target: str, name: str | None,
               image_format: str, on_failure: str, key: str | None
               ) -> models.Backup:
    """The rows of a backup and of its flow."""
    row = models.Backup(
        id=models.new_id(), project_id=project_id, target=target,
        name=name or document['name'] or document['volume_id'],
        source_id=document['volume_id'], source_name=document['name'],
        size=document['size_gib'] * GIB, document=document,
        idempotency_key=key, status=B.QUEUED.value)
    session.add(row)
    session.flush()
    session.add(models.Disk(backup_id=row.id, index=0, size=row.size,
                            source_id=row.source_id))
    add_flow(session, 'volume-backup', row.id, project_id, cloud, {
        'volume_id': row.source_id, 'volume': document,
        'size_gib': document['size_gib'], 'target': target,
        'name': row.name, 'image_format': image_format}, on_failure)
    return row


def destination(wanted: dict[str, Any]) -> dict[str, Any]:
    """The destination of a restore, checked.

    :raises InvalidRequest: unknown kind, or what it must name is missing.
    """
    kind = wanted.get('kind')
    if kind not in RESTORES:
        raise errors.InvalidRequest(
            f'a restore cannot go to {kind!r}',
            hint=f'destinations are {", ".join(RESTORES)}')
    field = _NAMES[kind]
    value = wanted.get(field)
    if not isinstance(value, str) or not value:
        raise errors.InvalidRequest(f'a restore to {kind} needs {field}')
    return {'kind': kind, field: value}


def check_existing(volume: Resource, size: int) -> None:
    """Whether a backup can be written over a volume.

    :raises Conflict: it is not available.
    :raises InvalidRequest: it is too small, or encrypted.
    """
    if volume.status != 'available':
        raise errors.Conflict(
            f'{volume} is {volume.status}; only an available volume can be '
            f'written over', resource=str(volume), hint='detach it first')
    if (volume.size_bytes or 0) < size:
        raise errors.InvalidRequest(
            f'{volume} has {(volume.size_bytes or 0) // GIB} GiB, the '
            f'backup {size // GIB} GiB', resource=str(volume),
            hint='extend the volume')
    if volume.details['encrypted']:
        raise errors.InvalidRequest(
            f'{volume} is encrypted: restoring into it is not supported',
            resource=str(volume))


def add_restore(session: orm.Session, *, backup: models.Backup,
                cloud: str | None, where: dict[str, Any],
                volume_type: str | None, zone: str | None, on_failure: str,
                key: str | None) -> models.Restore:
    """The rows of a restore and of its flow."""
    row = models.Restore(
        id=models.new_id(), project_id=backup.project_id,
        backup_id=backup.id, destination=where, size=backup.size,
        idempotency_key=key)
    session.add(row)
    session.flush()
    add_flow(session, RESTORES[where['kind']], row.id, backup.project_id,
             cloud, {'backup_id': backup.id, 'target': backup.target,
                     'destination': where, 'volume_type': volume_type,
                     'availability_zone': zone,
                     'name': where.get('name')}, on_failure)
    return row


def add_flow(session: orm.Session, kind: str, owner_id: str,
             project_id: str, cloud: str | None, request: dict[str, Any],
             on_failure: str = 'hold') -> models.Flow:
    """The row that makes a flow claimable."""
    row = models.Flow(id=models.new_id(), kind=kind, owner_id=owner_id,
                      project_id=project_id, cloud=cloud, request=request,
                      on_failure=on_failure, status='queued')
    session.add(row)
    session.add(models.Event(kind='flow', subject_id=row.id, after='queued',
                             actor='request', data={'kind': kind}))
    session.flush()
    return row


def usable(backup: models.Backup) -> models.Backup:
    """A backup that can be restored.

    :raises Conflict: it cannot.
    """
    if backup.status not in (B.AVAILABLE.value, B.DAMAGED.value):
        raise errors.Conflict(
            f'backup {backup.id} is {backup.status}',
            resource=f'backup {backup.id}',
            hint='only an available backup can be used')
    return backup


def still_usable(session: orm.Session, backup_id: str) -> models.Backup:
    """Look again, in the transaction that makes the restore.

    :raises Conflict: in the meantime its deletion was accepted, or done.
    """
    row = usable(session.get_one(models.Backup, backup_id,
                                 with_for_update=True))
    deletion = session.scalars(sa.select(models.Flow.id).where(
        models.Flow.owner_id == row.id, models.Flow.kind == 'backup-delete',
        models.Flow.status.in_([s.value for s in LIVE_FLOWS])).limit(1)
    ).first()
    if deletion is not None:
        raise errors.Conflict(
            f'flow {deletion} deletes backup {row.id}',
            resource=f'backup {row.id}',
            hint=f'bakflow flow show {deletion}')
    return row


def one_backup(session: orm.Session, ref: str, project_id: str | None
               ) -> models.Backup:
    """The backup of this id, or the newest one alive of this unique name.

    :raises NotFound: none that the caller may see.
    :raises NotUnique: several have the name.
    """
    query = sa.select(models.Backup)
    if project_id is not None:
        query = query.where(models.Backup.project_id == project_id)
    by_id = session.scalars(query.where(models.Backup.id == ref)).first()
    if by_id is not None:
        return by_id
    found = session.scalars(query.where(
        models.Backup.name == ref,
        models.Backup.status != B.DELETED.value).limit(20)).all()
    if len(found) == 1:
        return found[0]
    if found:
        raise errors.NotUnique(
            f'{len(found)} backups are named {ref!r}: '
            + ', '.join(b.id for b in found), hint='give the id')
    raise errors.NotFound(f'there is no backup {ref!r} in this project',
                          hint='bakflow backup list shows what there is')
