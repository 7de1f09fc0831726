"""Everything that a whole flow needs, and what a test does to it."""

from __future__ import annotations

import pathlib
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from bakflow import errors, fault, states, store
from bakflow.cloud import session as cloud_session
from bakflow.cloud.volumes import Look
from bakflow.db import claims, engine, models, records
from bakflow.db.ledger import Ledger
from bakflow.devcloud import DevCloud
from bakflow.engine import persistence, runner
from bakflow.tasks import context

MIB = 1 << 20
SIZE = 16 * MIB
FORWARD, REVERT = states.Direction.FORWARD, states.Direction.REVERT


class Crash(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


class Targets:
    def __init__(self, opened: store.Store) -> None:
        self._store = opened

    def open(self, name: str) -> store.Store:
        if name != 'local':
            raise errors.NotFound(f'there is no target {name!r}')
        return self._store


class World:
    """Everything a flow needs, and what a test does to it."""

    def __init__(self, db: engine.Database, dev: DevCloud,
                 cloud: cloud_session.Cloud, opened: store.Store,
                 monkeypatch: pytest.MonkeyPatch) -> None:
        self.db = db
        self.dev = dev
        self.cloud = cloud
        self.store = opened
        self.project = cloud.project_id
        self.options = {
            'snapshot_timeout': 20, 'volume_timeout': 20,
            'image_timeout': 20, 'delete_timeout': 20, 'ambiguity_grace': 1}
        self.no_cloud: errors.BakflowError | None = None
        self.stop: errors.ControlError | None = None
        self._crash: tuple[str, int] | None = None
        self._stop_at: tuple[str, errors.ControlError] | None = None
        self.points: list[str] = []
        self.waited: list[str] = []
        monkeypatch.setattr(fault, 'point', self._point)

    # -- what goes wrong --------------------------------------------------

    def _point(self, name: str) -> None:
        self.points.append(name)
        if self._stop_at is not None and self._stop_at[0] == name:
            self.stop, self._stop_at = self._stop_at[1], None
        if self._crash is not None and self._crash[0] == name:
            self._crash = (name, self._crash[1] - 1)
            if not self._crash[1]:
                self._crash = None
                raise Crash(name)

    def crash_at(self, point: str, nth: int = 1) -> None:
        """Die when this point is reached."""
        self._crash = (point, nth)

    def stop_at(self, point: str, error: errors.ControlError) -> None:
        """Ask the flow to stop from this point on."""
        self._stop_at = (point, error)

    def _connect(self) -> cloud_session.Cloud:
        if self.no_cloud is not None:
            raise self.no_cloud
        return self.cloud

    def _pause(self, seconds: float) -> None:
        if self.stop is not None:
            raise self.stop
        time.sleep(min(seconds, 0.02))

    # -- requests ---------------------------------------------------------

    def volume(self, data: Any = None, **details: Any) -> str:
        return self.dev.make_volume('demo', details.pop('name', 'source'),
                                    1, data, **details)

    def backup(self, volume_id: str, **request: Any) -> tuple[str, str]:
        """Ask for a backup: its id and its flow's."""
        seen = self.cloud.volumes.get(volume_id)
        look = Look.of(seen)
        document = {
            'name': look.name, 'description': look.description,
            'bootable': look.bootable, 'metadata': look.metadata,
            'image_metadata': look.image_metadata,
            'type': seen.details['type'], 'az': seen.details['az'],
            'size_gib': 1, 'multiattach': False}
        with self.db.transaction() as session:
            row = models.Backup(
                id=models.new_id(), project_id=self.project, name='b',
                target='local', source_id=volume_id, source_name=look.name,
                size=SIZE, document=document)
            session.add(row)
        return row.id, self.flow('volume-backup', row.id, {
            'volume_id': volume_id, 'volume': document, 'size_gib': 1,
            'target': 'local', 'name': 'b', 'image_format': 'auto',
            'parent': None, **request})

    def restore(self, kind: str, backup_id: str,
                destination: dict[str, Any], **request: Any
                ) -> tuple[str, str]:
        """Ask for a restore: its id and its flow's."""
        with self.db.transaction() as session:
            row = models.Restore(
                id=models.new_id(), project_id=self.project, size=SIZE,
                backup_id=backup_id, destination=destination)
            session.add(row)
        return row.id, self.flow(kind, row.id, {
            'backup_id': backup_id, 'target': 'local',
            'destination': destination, 'volume_type': None,
            'availability_zone': None, 'name': None, **request})

    def flow(self, kind: str, owner: str, request: dict[str, Any]) -> str:
        with self.db.transaction() as session:
            row = models.Flow(
                id=models.new_id(), kind=kind, owner_id=owner,
                project_id=self.project, request=request,
                cloud=str(self.cloud.key))
            session.add(row)
        return row.id

    # -- running ----------------------------------------------------------

    def run(self, flow_id: str, direction: states.Direction = FORWARD
            ) -> errors.BakflowError | None:
        """One run under a new lease; the error it ended with."""
        with self.db.transaction() as session:
            session.execute(
                sa.update(models.Flow).where(models.Flow.id == flow_id)
                .values(status='queued', direction=direction.value,
                        lease_until=0, run_after=0))
        taken = claims.take(self.db, 'test', 600, {flow_id})
        assert taken is not None
        self.stop = None
        context.bind(context.StepContext(
            flow_id=flow_id, epoch=taken.claim.epoch,
            owner_id=taken.owner_id, project_id=taken.project_id,
            deployment=self.db.deployment, request=taken.request,
            ledger=Ledger(self.db, taken.claim, owner_id=taken.owner_id,
                          cloud=taken.cloud),
            records=records.Records(self.db, taken.claim),
            targets=Targets(self.store), connect=self._connect,
            pause=self._pause, options=self.options))
        try:
            return runner.run(self.db, taken).error
        finally:
            context.unbind(flow_id)

    def go(self, flow_id: str) -> None:
        """Run it to a good end."""
        error = self.run(flow_id)
        assert error is None, f'{error!r} {error.to_dict()}'

    def abandon(self, flow_id: str) -> None:
        """Revert it, and see that every step that had begun was."""
        self.run(flow_id, REVERT)
        found = {a.name: a.state
                 for a in persistence.atoms(self.db, flow_id)}
        assert set(found.values()) <= {'REVERTED', 'PENDING'}, found
        assert found['open'] == 'REVERTED'

    def backed_up(self, volume_id: str, **request: Any) -> str:
        """A backup that went well."""
        backup_id, flow_id = self.backup(volume_id, **request)
        self.go(flow_id)
        assert self.status(backup_id) == 'available'
        return backup_id

    # -- looking ----------------------------------------------------------

    def row(self, model: type, row_id: str) -> Any:
        with self.db.transaction() as session:
            return session.get_one(model, row_id)

    def status(self, backup_id: str) -> str:
        return str(self.row(models.Backup, backup_id).status)

    def restored(self, restore_id: str) -> Any:
        return self.row(models.Restore, restore_id)

    def notes(self, flow_id: str) -> dict[str, Any]:
        return dict(self.row(models.Flow, flow_id).notes)

    def ledger(self, flow_id: str) -> dict[str, str]:
        """Status by role and ordinal."""
        with self.db.transaction() as session:
            rows = session.scalars(
                sa.select(models.Temporary)
                .where(models.Temporary.flow_id == flow_id)
                .order_by(models.Temporary.id))
            return {f'{r.role}-{r.ordinal}': r.status for r in rows}

    def left(self, *own: str) -> dict[str, str]:
        """All that is in the cloud but the volumes and images given."""
        found = self.dev.inventory('demo')
        return {f'{kind} {id}': told for kind, things in found.items()
                for id, told in things.items() if id not in own}

    def bytes_of(self, volume_id: str) -> bytes:
        return pathlib.Path(self.dev.volume_path(volume_id)).read_bytes()

    def saved(self, backup_id: str) -> bytes:
        """The bytes of a backup as the store gives them."""
        reader = self.store.domain(self.project).reader(backup_id)
        return reader.read(0, 0, SIZE)

    def heads(self) -> list[str]:
        return self.store.domain(self.project).heads()


def fill(seed: bytes) -> Callable[[Any], None]:
    """Writes a believable disk."""
    def write(f: Any) -> None:
        source = random.Random(seed)
        for offset in range(0, SIZE, 2 * MIB):
            f.seek(offset)
            f.write(source.randbytes(MIB))
    return write
