"""Finding rows on behalf of a caller: what the endpoint's methods share."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from oslo_log import log as logging
from sqlalchemy import orm

from bakflow import errors, policies, states
from bakflow.conductor.service import Conductor
from bakflow.context import RequestContext
from bakflow.db import models

LOG = logging.getLogger(__name__)

#: Rows in one answer, at most.
MAX_LIMIT = 1000


class Lookups:
    """Rows that a caller may see."""

    def __init__(self, conductor: Conductor) -> None:
        self.conductor = conductor
        self.db = conductor.db
        self.targets = conductor.targets

    def _scope(self, context: RequestContext, all_projects: bool = False
               ) -> str | None:
        """The project that a caller sees; None is every one.

        The local operator of an embedded conductor owns the database: the
        project is that of the configured cloud, if there is one.
        """
        if all_projects:
            policies.authorize(context, 'all_projects')
            return None
        if context.project_id:
            return str(context.project_id)
        if not context.local:
            raise errors.Forbidden('the request names no project')
        try:
            return self.conductor.cloud().project_id
        except (errors.ConfigError, errors.CloudError) as exc:
            LOG.info('Showing all projects, since no cloud is usable: %s',
                     exc)
            return None

    def _own_project(self, context: RequestContext) -> None:
        """Work is done with the credentials of the conductor's project."""
        mine = self.conductor.cloud().project_id
        if context.project_id and context.project_id != mine:
            raise errors.Forbidden(
                'this conductor works for another project')

    def _now(self) -> int:
        with self.db.transaction() as session:
            return int(session.scalar(sa.select(models.now_ms())) or 0)

    def _one(self, context: RequestContext, model: Any, row_id: str) -> Any:
        with self.db.transaction() as session:
            row = session.get(model, row_id)
        scope = self._scope(context)
        if row is None or (scope and row.project_id not in (scope, '')):
            raise errors.NotFound(
                f'there is no {model.__name__.lower()} {row_id}')
        return row

    def _repeated(self, model: Any, project_id: str, key: str | None
                  ) -> Any | None:
        if key is None:
            return None
        with self.db.transaction() as session:
            return session.scalars(sa.select(model).where(
                model.project_id == project_id,
                model.idempotency_key == key)).first()

    def _page(self, context: RequestContext, query: Any, model: Any,
              limit: int | None, marker: str | None, all_projects: bool
              ) -> list[Any]:
        scope = self._scope(context, all_projects)
        if scope is not None:
            query = query.where(model.project_id.in_((scope, '')))
        if limit is not None and not 0 < limit <= MAX_LIMIT:
            raise errors.InvalidRequest(
                f'limit is {limit}; it may be 1 to {MAX_LIMIT}')
        if marker is not None:
            last = self._one(context, model, marker)
            query = query.where(sa.or_(
                model.created_at < last.created_at,
                sa.and_(model.created_at == last.created_at,
                        model.id < last.id)))
        query = query.order_by(model.created_at.desc(), model.id.desc())
        with self.db.transaction() as session:
            return list(session.scalars(query.limit(limit or MAX_LIMIT)))

    def _refuse_busy(self, session: orm.Session, row: models.Backup) -> None:
        busy = session.scalars(sa.select(models.Flow).where(
            models.Flow.owner_id == row.id, models.Flow.status.in_(
                [s.value for s in (states.Flow.QUEUED, states.Flow.RUNNING,
                                   states.Flow.HELD)])).limit(1)).first()
        if busy is None:
            readers = sa.select(models.Restore.id).where(
                models.Restore.backup_id == row.id,
                models.Restore.status.in_(('queued', 'running')))
            if session.scalar(readers.limit(1)) is None:
                return
            raise errors.Conflict(f'backup {row.id} is being restored',
                                  resource=f'backup {row.id}')
        raise errors.Conflict(
            f'flow {busy.id} ({busy.kind}) works on backup {row.id}',
            resource=f'backup {row.id}',
            hint=f'bakflow flow show {busy.id}')

    def _newest_flow(self, owner_id: str) -> str | None:
        with self.db.transaction() as session:
            return session.scalars(
                sa.select(models.Flow.id)
                .where(models.Flow.owner_id == owner_id)
                .order_by(models.Flow.created_at.desc(),
                          models.Flow.epoch).limit(1)).first()
