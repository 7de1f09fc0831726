"""The ledger: every temporary is written down before it is asked for.

Each method is one transaction that checks the lease. A row survives what the
process does not; :meth:`Ledger.intend` finds it again.
"""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa
from sqlalchemy import orm

from bakflow import errors, states
from bakflow.cloud.naming import Tag
from bakflow.db import changes, models
from bakflow.db.engine import Database

S = states.Temporary

#: A row in one of these says nothing about the cloud any more.
CLOSED = (S.GONE, S.ABSENT, S.KEPT)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A ledger row as it was read.

    :ivar seen_before: the row was there already when it was intended, so
        the resource may have been made.
    """

    id: int
    role: str
    kind: str
    ordinal: int
    name: str
    cloud_id: str | None
    status: states.Temporary
    last_error: str | None
    tag: Tag
    seen_before: bool = True


class Ledger:
    """The temporaries of one flow, under one lease."""

    def __init__(self, db: Database, claim: changes.Claim, *, owner_id: str,
                 cloud: str | None) -> None:
        self._db = db
        self._claim = claim
        self._owner_id = owner_id
        self._cloud = cloud
        self._deployment = db.deployment

    def intend(self, role: str, kind: str) -> Entry:
        """Write down that a resource will be asked for.

        :returns: the newest row of the role that is not closed, or a new
            one with the next ordinal.
        """
        with self._db.transaction() as session:
            self._claim.fence(session)
            newest = self._newest(session, role)
            if newest is not None and newest.status not in CLOSED:
                return self._entry(newest)
            ordinal = 0 if newest is None else newest.ordinal + 1
            row = models.Temporary(
                flow_id=self._claim.flow_id, owner_id=self._owner_id,
                role=role, kind=kind, ordinal=ordinal,
                name=self._tag(role, ordinal).name, cloud=self._cloud or '')
            session.add(row)
            session.flush()
            session.add(models.Event(
                kind='temporary', subject_id=str(row.id),
                after=S.INTENDED.value, actor=self._claim.actor,
                data={'name': row.name}))
            return self._entry(row, seen_before=False)

    def current(self, role: str) -> Entry | None:
        """The newest row of the role, unless it is closed."""
        with self._db.transaction() as session:
            newest = self._newest(session, role)
            if newest is None or newest.status in CLOSED:
                return None
            return self._entry(newest)

    def entries(self) -> list[Entry]:
        """All rows of the flow in the order of their making."""
        with self._db.transaction() as session:
            rows = session.scalars(
                sa.select(models.Temporary)
                .where(models.Temporary.flow_id == self._claim.flow_id)
                .order_by(models.Temporary.id))
            return [self._entry(row) for row in rows]

    def record(self, entry: Entry, cloud_id: str) -> Entry:
        """The resource was made and has this id."""
        return self._move(entry, S.LIVE, (S.INTENDED,), cloud_id=cloud_id)

    def releasing(self, entry: Entry) -> Entry:
        """Its deletion begins."""
        if entry.status is S.RELEASING:
            return entry
        return self._move(entry, S.RELEASING,
                          (S.INTENDED, S.LIVE, S.ORPHANED))

    def gone(self, entry: Entry) -> Entry:
        """It was seen to be gone."""
        return self._move(entry, S.GONE, (S.RELEASING, S.LIVE, S.ORPHANED),
                          last_error=None)

    def absent(self, entry: Entry) -> Entry:
        """It was looked for, and never made."""
        return self._move(entry, S.ABSENT, (S.INTENDED,))

    def orphaned(self, entry: Entry, error: str) -> Entry:
        """It resists deletion; audit names it until it is gone."""
        return self._move(entry, S.ORPHANED, (S.RELEASING,),
                          last_error=error,
                          attempts=models.Temporary.attempts + 1)

    def kept(self, entry: Entry) -> Entry:
        """It is the user's now."""
        return self._move(entry, S.KEPT, (S.LIVE,))

    def failed_once(self, entry: Entry, error: str) -> None:
        """Remember a failure that is tried again."""
        with self._db.transaction() as session:
            self._claim.fence(session)
            session.execute(
                sa.update(models.Temporary)
                .where(models.Temporary.id == entry.id)
                .values(attempts=models.Temporary.attempts + 1,
                        last_error=error))

    # -- inside -----------------------------------------------------------

    def _newest(self, session: orm.Session, role: str
                ) -> models.Temporary | None:
        return session.scalars(
            sa.select(models.Temporary).where(
                models.Temporary.flow_id == self._claim.flow_id,
                models.Temporary.role == role)
            .order_by(models.Temporary.ordinal.desc()).limit(1)).first()

    def _tag(self, role: str, ordinal: int) -> Tag:
        return Tag(self._deployment, self._owner_id, self._claim.flow_id,
                   role, ordinal)

    def _entry(self, row: models.Temporary, seen_before: bool = True
               ) -> Entry:
        return Entry(
            id=row.id, role=row.role, kind=row.kind, ordinal=row.ordinal,
            name=row.name, cloud_id=row.cloud_id,
            status=S(row.status or 'intended'), last_error=row.last_error,
            tag=self._tag(row.role, row.ordinal), seen_before=seen_before)

    def _move(self, entry: Entry, after: states.Temporary,
              before: tuple[states.Temporary, ...], **values: object
              ) -> Entry:
        with self._db.transaction() as session:
            self._claim.fence(session)
            if not changes.move(session, after, entry.id, before=before,
                                actor=self._claim.actor,
                                data={'name': entry.name}, **values):
                raise errors.Conflict(
                    f'the ledger row of {entry.name} did not go to {after}',
                    resource=entry.name)
            row = session.get_one(models.Temporary, entry.id)
            session.refresh(row)
            return self._entry(row)
