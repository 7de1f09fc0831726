"""The RPC endpoint: every method of ``rpc.api``, for one deployment.

Commands write rows and answer at once; the wake-up may be lost, since
conductors also look by themselves. Every call is authorised by policy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from oslo_log import log as logging

from bakflow import errors, policies
from bakflow.conductor import (
    audit,
    lookups,
    operations,
    preview,
    requests,
    views,
)
from bakflow.context import RequestContext
from bakflow.db import models
from bakflow.engine import persistence, runner
from bakflow.rpc import envelope

LOG = logging.getLogger(__name__)

Handler = Callable[..., Any]


def _defect(method: str, exc: Exception) -> dict[str, Any]:
    """The text may hold SQL and its values: only the log tells it."""
    LOG.error('%s failed', method, exc_info=exc)
    if isinstance(exc, sa.exc.OperationalError | sa.exc.TimeoutError):
        return envelope.failure(errors.ServiceUnavailable(
            f'the database failed: {type(exc).__name__}',
            hint='try again; the log of the conductor tells more'))
    return envelope.failure(errors.UnknownError(
        f'{method} failed: {type(exc).__name__}',
        hint='the log of the conductor tells more'))


def exposed(rule: str) -> Callable[[Handler], Handler]:
    """A method that may be called, and the policy rule that guards it."""
    def decorate(method: Handler) -> Handler:
        @functools.wraps(method)
        def wrapper(self: Endpoint, ctxt: dict[str, Any], **kwargs: Any
                    ) -> dict[str, Any]:
            try:
                context = RequestContext.from_dict(ctxt)
                policies.authorize(context, rule)
                return envelope.answer(method(self, context, **kwargs))
            except errors.BakflowError as exc:
                return envelope.failure(exc)
            except TypeError as exc:
                if kwargs and 'argument' in str(exc):
                    return envelope.failure(errors.InvalidRequest(
                        f'{method.__name__}: {exc}'))
                return _defect(method.__name__, exc)
            except Exception as exc:    # noqa: BLE001 - answers anyway
                return _defect(method.__name__, exc)
        return wrapper
    return decorate


class Endpoint(lookups.Lookups):
    """Answers requests beside one conductor."""

    # -- backups ----------------------------------------------------------

    @exposed('backup:create')
    def preview(self, context: RequestContext, *, kind: str,
                request: dict[str, Any]) -> dict[str, Any]:
        """The resolved request, before anything is made."""
        if kind == 'backup':
            return preview.backup(self.conductor, **request)
        if kind == 'restore':
            scope = self._scope(context)
            with self.db.transaction() as session:
                row = requests.usable(requests.one_backup(
                    session, request.pop('backup'), scope))
            return preview.restore(self.conductor, row, **request)
        raise errors.InvalidRequest(f'there is no preview of {kind!r}')

    @exposed('backup:create')
    def create_backup(self, context: RequestContext, *, volume: str,
                      target: str | None = None, name: str | None = None,
                      image_format: str | None = None,
                      on_failure: str | None = None,
                      idempotency_key: str | None = None) -> dict[str, Any]:
        """Accept a backup of a volume."""
        cloud = self.conductor.cloud()
        self._own_project(context)
        known = self._repeated(models.Backup, cloud.project_id,
                               idempotency_key)
        if known is not None:
            return self._backup(known, wake=True)
        target = self.targets.known(target or self.targets.default)
        wanted = requests.choice(
            'image format', image_format, requests.FORMATS,
            self.conductor.conf.conductor.image_format)
        on_failure = requests.choice('on_failure', on_failure,
                                     requests.ON_FAILURE, 'hold')
        document = requests.source(cloud.volumes.find_one(volume))
        self.targets.open(target)       # its errors come before any row
        try:
            with self.db.transaction() as session:
                row = requests.add_backup(
                    session, project_id=cloud.project_id,
                    cloud=str(cloud.key), document=document, target=target,
                    name=name, image_format=wanted, on_failure=on_failure,
                    key=idempotency_key)
        except sa.exc.IntegrityError:
            # The same request, at the same time, was a little quicker.
            known = self._repeated(models.Backup, cloud.project_id,
                                   idempotency_key)
            if known is None:
                raise
            row = known
        return self._backup(row, wake=True)

    @exposed('backup:list')
    def list_backups(self, context: RequestContext, *,
                     volume: str | None = None, status: str | None = None,
                     target: str | None = None, limit: int | None = None,
                     marker: str | None = None, all_projects: bool = False
                     ) -> list[dict[str, Any]]:
        """Backups, newest first; deleted ones only by status."""
        query = sa.select(models.Backup)
        if volume:
            query = query.where(sa.or_(models.Backup.source_id == volume,
                                       models.Backup.source_name == volume))
        if target:
            query = query.where(models.Backup.target == target)
        query = (query.where(models.Backup.status == status) if status else
                 query.where(models.Backup.status != 'deleted'))
        rows = self._page(context, query, models.Backup, limit, marker,
                          all_projects)
        return [self._backup(row) for row in rows]

    @exposed('backup:show')
    def show_backup(self, context: RequestContext, *, backup: str
                    ) -> dict[str, Any]:
        """One backup."""
        scope = self._scope(context)
        with self.db.transaction() as session:
            row = requests.one_backup(session, backup, scope)
        return self._backup(row)

    @exposed('backup:delete')
    def delete_backup(self, context: RequestContext, *, backup: str
                      ) -> dict[str, Any]:
        """Accept the deletion of a backup."""
        return self._on_backup(context, backup, 'backup-delete',
                               ('available', 'damaged', 'error',
                                'deleting'))     # one that was held

    @exposed('backup:verify')
    def verify_backup(self, context: RequestContext, *, backup: str
                      ) -> dict[str, Any]:
        """Accept the verification of a backup."""
        return self._on_backup(context, backup, 'backup-verify',
                               ('available', 'damaged'))

    # -- restores ---------------------------------------------------------

    @exposed('restore:create')
    def create_restore(self, context: RequestContext, *, backup: str,
                       destination: dict[str, Any],
                       volume_type: str | None = None,
                       availability_zone: str | None = None,
                       on_failure: str | None = None,
                       idempotency_key: str | None = None
                       ) -> dict[str, Any]:
        """Accept a restore."""
        where = requests.destination(destination)
        on_failure = requests.choice('on_failure', on_failure,
                                     requests.ON_FAILURE, 'hold')
        scope = self._scope(context)
        with self.db.transaction() as session:
            saved = requests.usable(
                requests.one_backup(session, backup, scope))
        known = self._repeated(models.Restore, saved.project_id,
                               idempotency_key)
        if known is not None:
            return self._restore(known, wake=True)
        cloud_key = None
        if where['kind'] == 'file':
            if not context.local:
                raise errors.InvalidRequest(
                    'a restore to a file is only for a conductor in the '
                    'process of its user')
        else:
            cloud = self.conductor.cloud()
            cloud_key = str(cloud.key)
            if where['kind'] == 'existing-volume':
                volume = cloud.volumes.find_one(where['volume_id'])
                requests.check_existing(volume, saved.size)
                where['volume_id'] = volume.id
        try:
            with self.db.transaction() as session:
                row = requests.add_restore(
                    session, cloud=cloud_key, where=where,
                    backup=requests.still_usable(session, saved.id),
                    volume_type=volume_type, zone=availability_zone,
                    on_failure=on_failure, key=idempotency_key)
        except sa.exc.IntegrityError:
            known = self._repeated(models.Restore, saved.project_id,
                                   idempotency_key)
            if known is None:
                raise
            row = known
        return self._restore(row, wake=True)

    @exposed('restore:list')
    def list_restores(self, context: RequestContext, *,
                      backup: str | None = None, status: str | None = None,
                      limit: int | None = None, marker: str | None = None,
                      all_projects: bool = False) -> list[dict[str, Any]]:
        """Restores, newest first."""
        query = sa.select(models.Restore)
        if status:
            query = query.where(models.Restore.status == status)
        if backup:
            query = query.where(models.Restore.backup_id == backup)
        rows = self._page(context, query, models.Restore, limit, marker,
                          all_projects)
        return [self._restore(row) for row in rows]

    @exposed('restore:show')
    def show_restore(self, context: RequestContext, *, restore: str
                     ) -> dict[str, Any]:
        """One restore."""
        return self._restore(self._one(context, models.Restore, restore))

    # -- flows ------------------------------------------------------------

    @exposed('flow:list')
    def list_flows(self, context: RequestContext, *,
                   status: str | None = None, kind: str | None = None,
                   limit: int | None = None, marker: str | None = None,
                   all_projects: bool = False) -> list[dict[str, Any]]:
        """Flows, newest first."""
        query = sa.select(models.Flow)
        if status:
            query = query.where(models.Flow.status == status)
        if kind:
            query = query.where(models.Flow.kind == kind)
        rows = self._page(context, query, models.Flow, limit, marker,
                          all_projects)
        now = self._now()
        return [views.flow(row, now, operations.resumable(row, now))
                for row in rows]

    @exposed('flow:show')
    def show_flow(self, context: RequestContext, *, flow: str
                  ) -> dict[str, Any]:
        """One flow with its steps and temporaries."""
        row = self._one(context, models.Flow, flow)
        now = self._now()
        shown = views.flow(row, now, operations.resumable(row, now))
        names, after = runner.outline(row.kind)
        shown['steps'] = views.steps(
            names, after, persistence.atoms(self.db, row.id),
            (row.notes or {}).get('times') or {}, row.error)
        with self.db.transaction() as session:
            shown['temporaries'] = [views.temporary(t) for t in
                                    session.scalars(
                sa.select(models.Temporary)
                .where(models.Temporary.flow_id == row.id)
                .order_by(models.Temporary.id))]
        return shown

    @exposed('flow:resume')
    def resume_flow(self, context: RequestContext, *, flow: str
                    ) -> dict[str, Any]:
        """Go on with a flow that stopped."""
        return self._operate(context, flow, operations.resume)

    @exposed('flow:abandon')
    def abandon_flow(self, context: RequestContext, *, flow: str
                     ) -> dict[str, Any]:
        """Revert a flow that stopped."""
        return self._operate(context, flow, operations.abandon)

    @exposed('flow:cancel')
    def cancel_flow(self, context: RequestContext, *, flow: str
                    ) -> dict[str, Any]:
        """Stop and revert a flow, wherever it runs."""
        return self._operate(context, flow, operations.cancel)

    # -- targets and the whole --------------------------------------------

    @exposed('target:list')
    def list_targets(self, context: RequestContext) -> list[dict[str, Any]]:
        """The configured targets."""
        return [self._target(name) for name in self.targets.names]

    @exposed('target:list')
    def show_target(self, context: RequestContext, *, target: str
                    ) -> dict[str, Any]:
        """One target."""
        return self._target(target)

    @exposed('target:check')
    def check_target(self, context: RequestContext, *, target: str
                     ) -> dict[str, Any]:
        """Try what a backup and a restore need of a target."""
        return self.targets.check(target)

    @exposed('target:collect')
    def collect_target(self, context: RequestContext, *, target: str
                       ) -> dict[str, Any]:
        """Accept a collection: free what no backup needs."""
        self.targets.open(target)
        scope = self._scope(context) or ''
        with self.db.transaction() as session:
            row = requests.add_flow(session, 'target-collect', target,
                                    scope, None, {'target': target})
        return self._flow(row, wake=True)

    @exposed('audit')
    def audit(self, context: RequestContext, *, fix: bool = False
              ) -> dict[str, Any]:
        """Compare cloud, ledger and stores; name each stray."""
        return audit.run(self.conductor, fix=fix)

    @exposed('status')
    def status(self, context: RequestContext) -> dict[str, Any]:
        """What is at work."""
        with self.db.transaction() as session:
            counts = dict(session.execute(
                sa.select(models.Flow.status, sa.func.count())
                .group_by(models.Flow.status)).tuples().all())
        return {'deployment': self.db.deployment, 'flows': counts,
                'running_here': self.conductor.running,
                'database': self.db.engine.dialect.name}

    # -- inside -----------------------------------------------------------

    def _on_backup(self, context: RequestContext, ref: str, kind: str,
                   allowed: tuple[str, ...]) -> dict[str, Any]:
        scope = self._scope(context)
        with self.db.transaction() as session:
            row = requests.one_backup(session, ref, scope)
            session.refresh(row, with_for_update=True)
            if row.status not in allowed:
                raise errors.Conflict(
                    f'backup {row.id} is {row.status}; it must be '
                    + ' or '.join(allowed), resource=f'backup {row.id}',
                    hint='bakflow flow list shows what works on it')
            self._refuse_busy(session, row)
            requests.add_flow(session, kind, row.id, row.project_id, None,
                              {'backup_id': row.id, 'target': row.target})
        return self._backup(row, wake=True)

    def _operate(self, context: RequestContext, flow: str,
                 operation: Callable[..., None]) -> dict[str, Any]:
        seen = self._one(context, models.Flow, flow)
        if seen.cloud is not None:
            mine = str(self.conductor.cloud().key)
            if mine != seen.cloud:
                raise errors.WrongCloud(
                    f'flow {flow} belongs to {seen.cloud}, and {mine} is '
                    f'configured', hint='use the OS_CLOUD that it was '
                                        'started with')
        now = self._now()
        with self.db.transaction() as session:
            row = session.get_one(models.Flow, flow, with_for_update=True)
            operation(session, row, now, 'operator')
        return self._flow(row, wake=True)

    def _flow(self, row: models.Flow, wake: bool = False) -> dict[str, Any]:
        with self.db.transaction() as session:
            row = session.get_one(models.Flow, row.id)
        if wake and row.status == 'queued':
            self.conductor.wake(row.id)
        now = self._now()
        return views.flow(row, now, operations.resumable(row, now))

    def _backup(self, row: models.Backup, wake: bool = False
                ) -> dict[str, Any]:
        flow_id = self._newest_flow(row.id)
        if wake:
            self.conductor.wake(flow_id)
        return views.backup(row, flow_id)

    def _restore(self, row: models.Restore, wake: bool = False
                 ) -> dict[str, Any]:
        flow_id = self._newest_flow(row.id)
        if wake:
            self.conductor.wake(flow_id)
        return views.restore(row, flow_id)

    def _target(self, name: str) -> dict[str, Any]:
        found = self.targets.describe(name)
        with self.db.transaction() as session:
            found['backups'] = session.scalar(
                sa.select(sa.func.count()).select_from(models.Backup).where(
                    models.Backup.target == name,
                    models.Backup.status.in_(('available', 'damaged'))))
        return found
