"""The rows that users see, as a running flow changes them.

Every write checks the lease in its transaction. Moves are guarded: a move
that was made already is left as it is, so that a step can run again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from bakflow import errors, states
from bakflow.db import changes, models
from bakflow.db.engine import Database

if TYPE_CHECKING:
    from bakflow import store

B, R, F = states.Backup, states.Restore, states.Flow

#: Seconds between writes of progress.
_EVERY = 1.0

LIVE_FLOWS = (F.QUEUED, F.RUNNING, F.HELD)


class Records:
    """Rows of backups, restores and the flow itself, under one lease."""

    def __init__(self, db: Database, claim: changes.Claim) -> None:
        self._db = db
        self._claim = claim
        self._written = 0.0

    # -- backups ----------------------------------------------------------

    def backup(self, backup_id: str) -> models.Backup:
        """The backup's row.

        :raises NotFound: there is none.
        """
        with self._db.transaction() as session:
            row = session.get(models.Backup, backup_id)
            if row is None:
                raise errors.NotFound(f'there is no backup {backup_id}')
            return row

    def backup_running(self, backup_id: str) -> None:
        """The flow has begun."""
        self._move(B.RUNNING, backup_id, (B.QUEUED,))

    def backup_available(self, backup_id: str, *, head: store.Head) -> None:
        """The head is written and read back: the point of no return."""
        with self._db.transaction() as session:
            self._claim.fence(session)
            changes.move(
                session, B.AVAILABLE, backup_id, before=(B.RUNNING,),
                actor=self._claim.actor, size=head.logical_bytes,
                read_bytes=head.read_bytes,
                skipped_bytes=head.skipped_bytes, new_bytes=head.new_bytes,
                stored_bytes=head.stored_bytes, parent_id=head.parent,
                head_digest=head.digest, error=None,
                finished_at=models.now_ms())
            session.execute(
                sa.update(models.Disk)
                .where(models.Disk.backup_id == backup_id)
                .values(bytes_done=models.Disk.size))
            self._flow(session, committed=True)

    def backup_error(self, backup_id: str,
                     error: errors.BakflowError | None = None) -> None:
        """Nothing usable came of it."""
        self._move(B.ERROR, backup_id, (B.QUEUED, B.RUNNING),
                   error=self._why(error), finished_at=models.now_ms())

    def backup_verified(self, backup_id: str, report: dict[str, Any]
                        ) -> None:
        """Every byte was read and authenticated."""
        with self._db.transaction() as session:
            self._claim.fence(session)
            changes.move(session, B.AVAILABLE, backup_id,
                         before=(B.DAMAGED,), actor=self._claim.actor)
            session.execute(
                sa.update(models.Backup)
                .where(models.Backup.id == backup_id)
                .values(verified_at=models.now_ms(), damages=None))
            self._flow(session, notes=self._merged(session, report=report))

    def backup_damaged(self, backup_id: str, damages: list[Any]) -> None:
        """Verify found what is wrong or missing."""
        with self._db.transaction() as session:
            self._claim.fence(session)
            changes.move(session, B.DAMAGED, backup_id,
                         before=(B.AVAILABLE,), actor=self._claim.actor,
                         data={'damages': len(damages)})
            session.execute(
                sa.update(models.Backup)
                .where(models.Backup.id == backup_id)
                .values(verified_at=models.now_ms(), damages=damages))

    def backup_deleting(self, backup_id: str) -> None:
        """From now on nobody may use it."""
        self._move(B.DELETING, backup_id, (B.AVAILABLE, B.DAMAGED, B.ERROR))

    def backup_deleted(self, backup_id: str) -> None:
        """Its head is gone; collect frees the bytes."""
        self._move(B.DELETED, backup_id, (B.DELETING,),
                   finished_at=models.now_ms())

    def backup_not_deleted(self, backup_id: str, status: str) -> None:
        """The deletion was given up before anything was removed."""
        self._move(B(status), backup_id, (B.DELETING,))

    def parent_of(self, backup_id: str) -> str | None:
        """The newest available backup of the same volume and target."""
        row = self.backup(backup_id)
        with self._db.transaction() as session:
            return session.scalars(
                sa.select(models.Backup.id).where(
                    models.Backup.project_id == row.project_id,
                    models.Backup.source_id == row.source_id,
                    models.Backup.target == row.target,
                    models.Backup.status == B.AVAILABLE.value,
                    models.Backup.id != backup_id)
                .order_by(models.Backup.created_at.desc(),
                          models.Backup.id).limit(1)).first()

    # -- restores ---------------------------------------------------------

    def restore(self, restore_id: str) -> models.Restore:
        """The restore's row.

        :raises NotFound: there is none.
        """
        with self._db.transaction() as session:
            row = session.get(models.Restore, restore_id)
            if row is None:
                raise errors.NotFound(f'there is no restore {restore_id}')
            return row

    def restore_running(self, restore_id: str) -> None:
        """The flow has begun."""
        self._move(R.RUNNING, restore_id, (R.QUEUED,))

    def restore_done(self, restore_id: str, result: dict[str, Any]) -> None:
        """The destination holds what was saved: the point of no return."""
        with self._db.transaction() as session:
            self._claim.fence(session)
            changes.move(session, R.DONE, restore_id, before=(R.RUNNING,),
                         actor=self._claim.actor, result=result,
                         bytes_done=models.Restore.size,
                         finished_at=models.now_ms())
            self._flow(session, committed=True)

    def restore_error(self, restore_id: str,
                      error: errors.BakflowError | None = None) -> None:
        """The destination is not what was saved."""
        self._move(R.ERROR, restore_id, (R.QUEUED, R.RUNNING),
                   error=self._why(error), finished_at=models.now_ms())

    # -- the flow ---------------------------------------------------------

    def progress(self, step: str, total: int | None = None,
                 position: int = 0, read: int = 0, skipped: int = 0,
                 new: int = 0, stored: int = 0, force: bool = False) -> None:
        """Say how far the flow is, in bytes; at most one write a second."""
        now = time.monotonic()
        if not force and now - self._written < _EVERY:
            return
        self._written = now
        with self._db.transaction() as session:
            self._claim.fence(session)
            self._flow(session, progress={
                'step': step, 'total': total, 'position': position,
                'read': read, 'skipped': skipped, 'new': new,
                'stored': stored, 'at': int(time.time() * 1000)})

    def waits_for(self, text: str | None) -> None:
        """What ``flow show`` says that the flow waits for."""
        with self._db.transaction() as session:
            self._claim.fence(session)
            self._flow(session, waits_for=text)

    def note(self, key: str, value: Any) -> None:
        """Remember something small over a crash."""
        with self._db.transaction() as session:
            self._claim.fence(session)
            self._flow(session, notes=self._merged(session, **{key: value}))

    def notes(self) -> dict[str, Any]:
        """What was remembered."""
        with self._db.transaction() as session:
            return dict(session.get_one(
                models.Flow, self._claim.flow_id).notes or {})

    def earlier_epochs(self) -> list[str]:
        """Names of the flow's store sessions before this one."""
        return [f'{self._claim.flow_id}.{n}'
                for n in range(1, self._claim.epoch)]

    # -- the catalogue, for the collector ---------------------------------

    def live_sessions(self) -> set[str]:
        """Prefixes of the sessions of every flow that may go on."""
        with self._db.transaction() as session:
            found = session.scalars(sa.select(models.Flow.id).where(
                models.Flow.status.in_([s.value for s in LIVE_FLOWS]),
                models.Flow.kind == 'volume-backup'))
            return {f'{flow_id}.' for flow_id in found}

    def known_heads(self, target: str) -> set[tuple[str, str]]:
        """Project and id of each backup that the target must hold."""
        with self._db.transaction() as session:
            found = session.execute(
                sa.select(models.Backup.project_id, models.Backup.id).where(
                    models.Backup.target == target,
                    models.Backup.status.in_(
                        [B.AVAILABLE.value, B.DAMAGED.value])))
            return {(project, backup) for project, backup in found}

    # -- inside -----------------------------------------------------------

    def _why(self, error: errors.BakflowError | None
             ) -> dict[str, Any] | None:
        """The error given, or else the one that the flow's row tells."""
        if error is not None:
            return error.to_dict()
        with self._db.transaction() as session:
            return session.get_one(models.Flow, self._claim.flow_id).error

    def _flow(self, session: Any, **values: Any) -> None:
        session.execute(sa.update(models.Flow).where(
            models.Flow.id == self._claim.flow_id).values(**values))

    def _merged(self, session: Any, **more: Any) -> dict[str, Any]:
        row = session.get_one(models.Flow, self._claim.flow_id)
        return {**(row.notes or {}), **more}

    def _move(self, after: Any, row_id: str, before: tuple[Any, ...],
              **values: Any) -> None:
        with self._db.transaction() as session:
            self._claim.fence(session)
            changes.move(session, after, row_id, before=before,
                         actor=self._claim.actor, **values)
