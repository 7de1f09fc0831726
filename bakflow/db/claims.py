"""Leases: who may run which flow. One query takes, one renews.

At most one conductor writes the state of a flow, always: taking a flow
raises its epoch, and every write of a running flow checks it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import sqlalchemy as sa

from bakflow import states
from bakflow.db import changes, models
from bakflow.db.engine import Database

F = states.Flow


@dataclasses.dataclass(frozen=True)
class Taken:
    """A flow that was claimed, as its row was then."""

    claim: changes.Claim
    kind: str
    owner_id: str
    project_id: str
    request: dict[str, Any]
    cloud: str | None
    direction: states.Direction
    on_failure: str
    attempts: int
    committed: bool


def claimable() -> sa.ColumnElement[bool]:
    """Flows that wait for a conductor, or lost theirs."""
    return sa.or_(
        sa.and_(models.Flow.status == F.QUEUED.value,
                models.Flow.run_after <= models.now_ms()),
        sa.and_(models.Flow.status == F.RUNNING.value,
                models.Flow.lease_until < models.now_ms()))


def take(db: Database, owner: str, lease: float,
         only: Collection[str] | None = None) -> Taken | None:
    """Claim the flow that has waited longest.

    :param lease: seconds.
    :param only: ids to choose from; None means all.
    """
    with db.transaction() as session:
        query = (sa.select(models.Flow).where(claimable())
                 .order_by(models.Flow.run_after, models.Flow.created_at)
                 .limit(1))
        if only is not None:
            query = query.where(models.Flow.id.in_(list(only)))
        if db.engine.dialect.name != 'sqlite':
            query = query.with_for_update(skip_locked=True)
        row = session.scalars(query).first()
        if row is None:
            return None
        claim = changes.Claim(row.id, row.epoch + 1)
        changes.move(
            session, F.RUNNING, row.id, before=(F.QUEUED, F.RUNNING),
            actor=owner, owner=owner, epoch=claim.epoch,
            lease_until=models.now_ms() + int(lease * 1000),
            started_at=sa.func.coalesce(models.Flow.started_at,
                                        models.now_ms()))
        return Taken(claim, row.kind, row.owner_id, row.project_id,
                     row.request, row.cloud,
                     states.Direction(row.direction), row.on_failure,
                     row.attempts, row.committed)


def renew(db: Database, claim: changes.Claim, lease: float) -> bool | None:
    """Keep a claim; None when it is lost, else whether to cancel."""
    with db.transaction() as session:
        kept = session.execute(sa.update(models.Flow).where(
            models.Flow.id == claim.flow_id,
            models.Flow.epoch == claim.epoch,
            models.Flow.status == F.RUNNING.value).values(
                lease_until=models.now_ms() + int(lease * 1000)))
        if kept.rowcount != 1:      # type: ignore[attr-defined]
            return None
        # Past the point of no return there is nothing to cancel.
        return session.scalar(sa.select(models.Flow.id).where(
            models.Flow.id == claim.flow_id, models.Flow.cancel,
            sa.not_(models.Flow.committed))) is not None


def settle(db: Database, claim: changes.Claim,
           decide: Callable[[models.Flow], tuple[states.Flow,
                                                 dict[str, Any]]]
           ) -> states.Flow:
    """End the claim with the flow's next status, if it still holds.

    :param decide: the status and other columns, from the row as it is in
        the transaction that writes them: so no cancel is missed.
    """
    with db.transaction() as session:
        claim.fence(session)
        after, values = decide(session.get_one(
            models.Flow, claim.flow_id, with_for_update=True))
        changes.move(session, after, claim.flow_id, before=(F.RUNNING,),
                     actor=claim.actor, lease_until=0, owner=None,
                     waits_for=None, **values)
        return after
