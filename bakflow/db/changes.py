"""Status changes: one guarded UPDATE each, with its event."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from bakflow import errors, states
from bakflow.db import models

_MODELS: dict[type[enum.StrEnum], Any] = {
    states.Backup: models.Backup, states.Restore: models.Restore,
    states.Flow: models.Flow, states.Temporary: models.Temporary}


@dataclasses.dataclass(frozen=True)
class Claim:
    """The right to write for a flow: its id and the fencing number."""

    flow_id: str
    epoch: int

    @property
    def actor(self) -> str:
        """Who changed something, for the events."""
        return f'flow {self.flow_id}.{self.epoch}'

    def fence(self, session: orm.Session) -> None:
        """Make sure, until the transaction ends, that the claim holds.

        :raises LeaseLost: somebody else owns the flow.
        """
        check_epoch(session.connection(), self)


def check_epoch(connection: sa.Connection, claim: Claim) -> None:
    """See :meth:`Claim.fence`; for TaskFlow's own connections too.

    The lock is the one for writing: two transactions that share a row and
    then both want to write it (a step and the renewal of the lease) are a
    deadlock for InnoDB.
    """
    query = sa.select(models.Flow.epoch).where(
        models.Flow.id == claim.flow_id, models.Flow.epoch == claim.epoch)
    if connection.dialect.name != 'sqlite':
        query = query.with_for_update()
    if connection.execute(query).first() is None:
        raise errors.LeaseLost(
            f'another conductor owns flow {claim.flow_id} now',
            hint='bakflow flow show tells which')


def move(session: orm.Session, after: enum.StrEnum, row_id: Any, *,
         before: tuple[enum.StrEnum, ...], actor: str,
         data: dict[str, Any] | None = None, **values: Any) -> bool:
    """Change a status if it is one of ``before``; write the event.

    :returns: whether the row was changed.
    """
    model = _MODELS[type(after)]
    for status in before:
        states.check(status, after)
    found = session.execute(
        sa.select(model.status).where(model.id == row_id)
        .with_for_update()).scalar()
    if found not in before:
        return False
    session.execute(sa.update(model).where(
        model.id == row_id, model.status == found
    ).values(status=after.value, **values))
    session.add(models.Event(
        kind=type(after).__name__.lower(), subject_id=str(row_id),
        before=found, after=after.value, actor=actor, data=data))
    return True
