"""Getting rid of temporaries, and finding them again.

The ledger says what there is to delete. A release is done again after a
crash wherever it stood; what resists is ``orphaned``, with the reason in the
ledger, for audit to name.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from oslo_log import log as logging

from bakflow import errors, fault, states
from bakflow.cloud import resources, waiting
from bakflow.cloud.resources import Resource
from bakflow.tasks.context import StepContext

if TYPE_CHECKING:
    from bakflow.db.ledger import Entry
    from bakflow.tasks.base import Parts

LOG = logging.getLogger(__name__)

_OVER = (states.Temporary.GONE, states.Temporary.ABSENT,
         states.Temporary.KEPT)

_FIRST_LOOK = 0.5
_GRACE = 30.0


def grace_of(ctx: StepContext) -> float:
    """Seconds during which a resource whose creation was not answered may
    still appear."""
    return float(ctx.options.get('ambiguity_grace', _GRACE))


def parts(ctx: StepContext, kind: str) -> Parts:
    """The cloud's snapshots, volumes or images."""
    cloud = ctx.cloud
    if kind == resources.SNAPSHOT:
        return cloud.snapshots
    return cloud.volumes if kind == resources.VOLUME else cloud.images


def find(ctx: StepContext, entry: Entry,
         grace: float = 0.0) -> Resource | None:
    """Look in the cloud for what bears the tag of a ledger row.

    When the answer to a create was lost and another one was sent, there may
    be two: all but one are deleted.

    :param grace: seconds during which it may still appear.
    """
    kind = parts(ctx, entry.kind)
    end = time.monotonic() + grace
    pause = _FIRST_LOOK
    if grace:
        ctx.pause(pause)
    while True:
        found = [r for r in kind.find(entry.tag) if r.status != 'deleting']
        if found:
            found.sort(key=lambda r: waiting.is_failed(r.status))
            for stray in found[1:]:
                _delete(ctx, kind, stray.id)
            return kind.adopt(found[0], entry.tag)
        left = end - time.monotonic()
        if left <= 0:
            return None
        pause *= 2
        ctx.pause(min(pause, left))


def release(ctx: StepContext, entry: Entry) -> bool:
    """Delete what a ledger row stands for, and wait until it is gone.

    :returns: False when it resists and is ``orphaned`` now.
    :raises ControlError: the run must stop.
    :raises BakflowError: there is no cloud to ask, or it is another one.
        Nothing was tried then, so nothing resists: the flow must wait.
    """
    if entry.status in _OVER:
        return True
    parts(ctx, entry.kind)
    try:
        return _release(ctx, entry)
    except errors.ControlError:
        raise
    except Exception as exc:    # noqa: BLE001
        LOG.exception('%s %s of flow %s cannot be released', entry.kind,
                      entry.cloud_id or entry.name, ctx.flow_id)
        now = _now(ctx, entry)
        now = ctx.ledger.releasing(now)
        ctx.ledger.orphaned(now, _text(exc))
        return False


def _release(ctx: StepContext, entry: Entry) -> bool:
    kind = parts(ctx, entry.kind)
    id, doubt = entry.cloud_id, entry.last_error is not None
    if id is None:
        found = find(ctx, entry, grace_of(ctx) if doubt else 0)
        intended = entry.status == states.Temporary.INTENDED
        if found is None:
            (ctx.ledger.absent if intended else ctx.ledger.gone)(entry)
            return True
        if intended:
            entry = ctx.ledger.record(entry, found.id)
        id = found.id
    entry = ctx.ledger.releasing(entry)
    fault.point(f'{entry.role}:releasing')
    _delete(ctx, kind, id)
    if doubt:
        for stray in kind.find(entry.tag):
            _delete(ctx, kind, stray.id)
    fault.point(f'{entry.role}:deleted')
    ctx.ledger.gone(entry)
    fault.point(f'{entry.role}:released')
    ctx.records.waits_for(None)
    return True


def _delete(ctx: StepContext, kind: Parts, id: str) -> None:
    """Delete, as often as it takes, until it is gone.

    A volume that is made or read cannot be deleted yet, nor a snapshot from
    which a volume is made: that is waited for.
    """
    name = f'{kind.kind} {id}'
    ctx.records.waits_for(f'{name} to be gone')
    told = ''

    def observe(seen: Resource) -> None:
        nonlocal told
        if seen.status != told:
            told = seen.status
            ctx.records.waits_for(f'{name} to be gone; it is {told}')

    try:
        kind.delete(id)
    except (errors.ResourceBusy, errors.CloudUnavailable) as exc:
        LOG.info('%s cannot be deleted yet: %s', name, exc)
    waiting.gone(
        lambda: kind.get(id), again=lambda: kind.delete(id),
        deadline_seconds=ctx.options['delete_timeout'], pause=ctx.pause,
        failed=lambda status: status == 'error_deleting', observe=observe,
        explain=kind.explain)


def _now(ctx: StepContext, entry: Entry) -> Entry:
    """The row as it is now: a release that failed has changed it."""
    for row in ctx.ledger.entries():
        if row.id == entry.id:
            return row
    return entry


def _text(exc: Exception) -> str:
    if isinstance(exc, errors.BakflowError):
        return str(exc)
    return f'{type(exc).__name__}: {exc}'
