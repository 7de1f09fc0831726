"""What operators do to flows: resume, abandon, cancel.

Each raises the epoch, so it also takes a flow from a conductor that hangs;
but a flow whose conductor lives is refused, except to be cancelled.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import orm

from bakflow import errors, states
from bakflow.conductor.service import is_dead
from bakflow.db import changes, models

F, D = states.Flow, states.Direction

_ABANDONED = {'code': 'cancelled', 'message': 'abandoned by an operator'}


def resumable(row: models.Flow, now: int) -> bool:
    """Whether ``flow resume`` would do something."""
    if row.status in (F.HELD.value, F.QUEUED.value):
        return True
    return row.status == F.RUNNING.value and (
        row.lease_until < now or is_dead(row.owner))


def resume(session: orm.Session, row: models.Flow, now: int, actor: str
           ) -> None:
    """Go on from the step, and the byte, where the flow stopped.

    :raises Conflict: it ended, or a living conductor runs it.
    """
    _refuse_ended(row, 'resumed')
    _refuse_living(row, now)
    _requeue(session, row, actor, attempts=0)


def abandon(session: orm.Session, row: models.Flow, now: int, actor: str
            ) -> None:
    """Revert what was made; after the point of no return, clean up.

    :raises Conflict: it ended, or a living conductor runs it.
    """
    _refuse_ended(row, 'abandoned')
    _refuse_living(row, now)
    values: dict[str, Any] = {'attempts': 0, 'cancel': False}
    if not row.committed:
        values.update(direction=D.REVERT.value,
                      error=row.error or _ABANDONED)
    _requeue(session, row, actor, **values)


def cancel(session: orm.Session, row: models.Flow, now: int, actor: str
           ) -> None:
    """Stop and revert it, whoever runs it.

    :raises Conflict: it ended.
    """
    _refuse_ended(row, 'cancelled')
    if row.status == F.RUNNING.value and not resumable(row, now):
        row.cancel = True       # its conductor hears within seconds
        session.add(models.Event(
            kind='flow', subject_id=row.id, before=row.status,
            after=row.status, actor=actor, data={'cancel': True}))
        return
    abandon(session, row, now, actor)


def _requeue(session: orm.Session, row: models.Flow, actor: str,
             **values: Any) -> None:
    values.update(epoch=row.epoch + 1, run_after=0, lease_until=0,
                  owner=None, waits_for=None)
    if row.status == F.QUEUED.value:
        for key, value in values.items():
            setattr(row, key, value)
        return
    before = F(row.status)
    if not changes.move(session, F.QUEUED, row.id, before=(before,),
                        actor=actor, **values):
        raise errors.Conflict(f'flow {row.id} changes right now',
                              hint='look at it again')


def _refuse_ended(row: models.Flow, what: str) -> None:
    if row.status == F.DONE.value:
        raise errors.Conflict(
            f'flow {row.id} is done and cannot be {what}',
            resource=f'flow {row.id}')
    if row.status == F.REVERTED.value:
        raise errors.Conflict(
            f'flow {row.id} was reverted and cannot be {what}: nothing of '
            'it is left', resource=f'flow {row.id}',
            hint='make the request again')


def _refuse_living(row: models.Flow, now: int) -> None:
    if row.status != F.RUNNING.value or resumable(row, now):
        return
    left = max(1, (row.lease_until - now) // 1000)
    raise errors.Conflict(
        f'flow {row.id} is run by {row.owner}, whose lease lasts '
        f'{left} s more', resource=f'flow {row.id}',
        hint='bakflow flow cancel stops it; a dead conductor\'s lease runs '
             'out by itself')
