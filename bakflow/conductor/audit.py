"""Compares cloud, ledger and stores, and names what does not fit.

Only what is provably this deployment's and no longer needed is ever
deleted: its metadata names this deployment, and its flow has ended.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from oslo_log import log as logging

from bakflow import errors, states
from bakflow.cloud import naming, waiting
from bakflow.cloud.resources import Resource
from bakflow.conductor.service import Conductor
from bakflow.db import changes, models
from bakflow.db.records import LIVE_FLOWS

LOG = logging.getLogger(__name__)

T = states.Temporary

NOT_NEEDED = 'ours, not needed'
UNKNOWN = 'unknown owner'
FOREIGN = 'other deployment'
MISSING = 'missing'

#: Rows that say that something may be in the cloud.
_OPEN = (T.INTENDED, T.LIVE, T.RELEASING, T.ORPHANED)


@dataclasses.dataclass
class Stray:
    """Something that is where it should not be, or not where it should."""

    where: str
    kind: str
    id: str
    name: str
    what: str
    verdict: str
    fixed: bool | None = None


def run(conductor: Conductor, *, fix: bool) -> dict[str, Any]:
    """Look everywhere; mend what can safely be mended.

    :returns: ``strays``, and whether all is ``clean`` now.
    """
    look = _Audit(conductor, fix)
    strays = [*look.cloud(), *look.ledger(), *look.stores()]
    left = [s for s in strays if s.verdict != FOREIGN and not s.fixed]
    return {'strays': [dataclasses.asdict(s) for s in strays],
            'clean': not left}


class _Audit:
    def __init__(self, conductor: Conductor, fix: bool) -> None:
        self.conductor = conductor
        self.db = conductor.db
        self.fix = fix
        self._cloud = conductor.cloud()
        self._kinds: dict[str, Any] = {
            'volume': self._cloud.volumes, 'image': self._cloud.images,
            'snapshot': self._cloud.snapshots}
        with self.db.transaction() as session:
            self._live = set(session.scalars(sa.select(models.Flow.id).where(
                models.Flow.status.in_([s.value for s in LIVE_FLOWS]))))
            self._rows = {row.name: row for row in session.scalars(
                sa.select(models.Temporary))}

    # -- cloud ------------------------------------------------------------

    def cloud(self) -> Iterator[Stray]:
        """Resources that bear our mark and have no living flow."""
        # Snapshots last: a volume made from one may hold it.
        for kind in ('image', 'volume', 'snapshot'):
            for resource in self._kinds[kind].ours(self.db.deployment):
                stray = self._judge(resource)
                if stray is None:
                    continue
                if self.fix and stray.verdict == NOT_NEEDED:
                    stray.fixed = self._delete(resource)
                yield stray

    def _judge(self, resource: Resource) -> Stray | None:
        tag = naming.parse(resource)
        if tag is None:
            return None
        row, flow = self._owner(resource, tag)
        if flow in LIVE_FLOWS or (row is not None
                                  and row.status == T.KEPT.value):
            return None
        stray = Stray('cloud', resource.kind, resource.id, resource.name,
                      f'{resource.status}, made {resource.created_at}',
                      NOT_NEEDED)
        if tag.by_name_only and (row is None
                                 or row.cloud_id != resource.id):
            stray.verdict = UNKNOWN
        elif tag.deployment not in ('', self.db.deployment):
            stray.verdict = FOREIGN
        elif flow is None:
            stray.verdict = UNKNOWN     # of a database that was lost?
        return stray

    def _owner(self, resource: Resource, tag: naming.Tag
               ) -> tuple[models.Temporary | None, str | None]:
        """Its ledger row, and the status of its flow, as they are now.

        Asked after the resource was seen: its row, its flow and their states
        are older than it is. It may bear another name than the ledger's: a
        restored volume gets its own before it loses the marks.
        """
        with self.db.transaction() as session:
            row = session.scalars(
                sa.select(models.Temporary)
                .where(sa.or_(models.Temporary.cloud_id == resource.id,
                              models.Temporary.name == resource.name))
                .order_by(models.Temporary.cloud_id != resource.id)
                .limit(1)).first()
            flow = session.scalar(sa.select(models.Flow.status).where(
                models.Flow.id == (row.flow_id if row else tag.flow)))
        return row, flow

    def _delete(self, resource: Resource) -> bool:
        kind = self._kinds[resource.kind]
        try:
            kind.delete(resource.id)
            waiting.gone(lambda: kind.get(resource.id),
                         deadline_seconds=120, pause=time.sleep,
                         again=lambda: kind.delete(resource.id))
        except errors.ResourceVanished:
            return True
        except errors.BakflowError as exc:
            LOG.warning('audit cannot delete %s: %s', resource, exc)
            return False
        return True

    # -- ledger -----------------------------------------------------------

    def ledger(self) -> Iterator[Stray]:
        """Open rows of flows that have ended."""
        for row in self._rows.values():
            if row.status not in _OPEN or row.flow_id in self._live:
                continue
            if row.cloud != str(self._cloud.key):
                yield self._row(row, f'in another cloud ({row.cloud})',
                                UNKNOWN)
                continue
            there = self._find(row)
            stray = self._row(
                row, 'still in the cloud' if there else
                'gone from the cloud', NOT_NEEDED)
            if self.fix and (not there or self._delete(there)):
                self._close(row)
                stray.fixed = True
            elif self.fix:
                stray.fixed = False
            yield stray

    def _find(self, row: models.Temporary) -> Resource | None:
        kind = self._kinds[row.kind]
        if row.cloud_id:
            try:
                return kind.get(row.cloud_id)
            except errors.ResourceVanished:
                return None
        tag = naming.Tag(self.db.deployment, row.owner_id, row.flow_id,
                         row.role, row.ordinal)
        return next(iter(kind.find(tag)), None)

    def _row(self, row: models.Temporary, what: str, verdict: str) -> Stray:
        text = f'{row.status}, {what}'
        if row.last_error:
            text += f': {row.last_error}'
        return Stray('ledger', row.kind, row.cloud_id or '-', row.name, text,
                     verdict)

    def _close(self, row: models.Temporary) -> None:
        with self.db.transaction() as session:
            if row.status == T.INTENDED.value:
                changes.move(session, T.RELEASING, row.id,
                             before=(T.INTENDED,), actor='audit')
            changes.move(session, T.GONE, row.id, last_error=None,
                         before=(T.LIVE, T.RELEASING, T.ORPHANED),
                         actor='audit')

    # -- stores -----------------------------------------------------------

    def stores(self) -> Iterator[Stray]:
        """Heads without rows, and rows without heads."""
        for target in self.conductor.targets.names:
            if not self.conductor.targets.exists(target):
                yield from self._missing(target, set())
                continue
            try:
                opened = self.conductor.targets.open(target)
                listed = {(domain.project_id, backup)
                          for domain in opened.domains()
                          for backup in domain.heads()}
            except errors.BakflowError as exc:
                yield Stray('store', 'target', target, target, str(exc),
                            UNKNOWN)
                continue
            yield from self._missing(target, listed)
            yield from self._unlisted(target, listed)

    def _missing(self, target: str, listed: set[tuple[str, str]]
                 ) -> Iterator[Stray]:
        with self.db.transaction() as session:
            rows = session.scalars(sa.select(models.Backup).where(
                models.Backup.target == target,
                models.Backup.status.in_(('available', 'damaged')))).all()
        for row in rows:
            if (row.project_id, row.id) not in listed:
                yield Stray('store', 'backup', row.id, row.name,
                            f'{row.status}, but target {target} does not '
                            f'hold it', MISSING)

    def _unlisted(self, target: str, listed: set[tuple[str, str]]
                  ) -> Iterator[Stray]:
        with self.db.transaction() as session:
            rows = {row.id: row for row in session.scalars(
                sa.select(models.Backup).where(
                    models.Backup.target == target))}
        for _, backup in sorted(listed):
            row = rows.get(backup)
            if row is None:
                yield Stray('store', 'backup', backup, '-',
                            f'in target {target}, unknown to the database',
                            UNKNOWN)
            elif row.status in ('error', 'deleted'):
                yield Stray('store', 'backup', backup, row.name,
                            f'in target {target}, but {row.status}',
                            UNKNOWN)
