"""Rows as the data that RPC answers with."""

from __future__ import annotations

import datetime
from typing import Any

from taskflow.persistence import models as tf

from bakflow import states
from bakflow.db import models


def when(ms: int | None) -> str | None:
    """Milliseconds since 1970 as ISO 8601, UTC."""
    if ms is None:
        return None
    return datetime.datetime.fromtimestamp(
        ms / 1000, datetime.UTC).strftime('%Y-%m-%dT%H:%M:%SZ')


def backup(row: models.Backup, flow_id: str | None) -> dict[str, Any]:
    """A backup; ``shared_bytes`` is what earlier backups held already."""
    shared = None
    if row.new_bytes is not None:
        shared = max(0, row.size - (row.skipped_bytes or 0) - row.new_bytes)
    return {
        'id': row.id, 'name': row.name, 'project_id': row.project_id,
        'status': row.status, 'target': row.target,
        'volume_id': row.source_id, 'volume_name': row.source_name,
        'size_bytes': row.size, 'read_bytes': row.read_bytes,
        'skipped_bytes': row.skipped_bytes, 'new_bytes': row.new_bytes,
        'stored_bytes': row.stored_bytes, 'shared_bytes': shared,
        'parent_id': row.parent_id, 'consistency': row.consistency,
        'document': row.document, 'error': row.error,
        'damages': row.damages, 'verified_at': when(row.verified_at),
        'digest': row.head_digest, 'flow_id': flow_id,
        'created_at': when(row.created_at),
        'finished_at': when(row.finished_at)}


def restore(row: models.Restore, flow_id: str | None) -> dict[str, Any]:
    """A restore."""
    return {
        'id': row.id, 'project_id': row.project_id,
        'backup_id': row.backup_id, 'status': row.status,
        'destination': row.destination, 'result': row.result,
        'size_bytes': row.size, 'bytes_done': row.bytes_done,
        'error': row.error, 'flow_id': flow_id,
        'created_at': when(row.created_at),
        'finished_at': when(row.finished_at)}


def flow(row: models.Flow, now: int, resumable: bool) -> dict[str, Any]:
    """A flow, without its steps."""
    running = row.status == states.Flow.RUNNING.value
    return {
        'id': row.id, 'kind': row.kind, 'owner_id': row.owner_id,
        'project_id': row.project_id, 'status': row.status,
        'direction': row.direction, 'attempts': row.attempts,
        'run_after': (when(row.run_after) if row.run_after > now else None),
        'waits_for': waits_for(row, now, resumable), 'resumable': resumable,
        'error': row.error, 'progress': row.progress, 'cloud': row.cloud,
        'committed': row.committed, 'on_failure': row.on_failure,
        'report': (row.notes or {}).get('report'),
        'owner': row.owner, 'epoch': row.epoch,
        'lease_seconds_left': (max(0, (row.lease_until - now) // 1000)
                               if running else None),
        'created_at': when(row.created_at),
        'started_at': when(row.started_at),
        'finished_at': when(row.finished_at)}


def waits_for(row: models.Flow, now: int, resumable: bool) -> str | None:
    """Why a flow does not move, in words."""
    if row.status == states.Flow.HELD.value:
        return 'an operator: resume or abandon it'
    if row.status == states.Flow.QUEUED.value:
        if row.run_after > now:
            return f'its next attempt at {when(row.run_after)}'
        return 'a conductor'
    if row.status == states.Flow.RUNNING.value and resumable:
        return 'a conductor: the one that ran it is dead'
    return row.waits_for


def temporary(row: models.Temporary) -> dict[str, Any]:
    """A ledger row."""
    return {'role': row.role, 'kind': row.kind, 'name': row.name,
            'cloud_id': row.cloud_id, 'status': row.status,
            'attempts': row.attempts, 'last_error': row.last_error}


def steps(names: list[str], after: dict[str, list[str]],
          details: list[tf.AtomDetail], times: dict[str, Any],
          error: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The graph with the state, time and error of each step."""
    known = {d.name: d for d in details}
    found = []
    for name in names:
        state = known[name].state if name in known else 'PENDING'
        begin, end = times.get(name, (None, None))
        found.append({
            'name': name, 'state': state or 'PENDING',
            'after': after.get(name, []),
            'started_at': when(begin), 'finished_at': when(end),
            'seconds': (round((end - begin) / 1000, 1)
                        if begin and end else None),
            'error': error if state in ('FAILURE', 'REVERT_FAILURE')
            else None})
    return found
