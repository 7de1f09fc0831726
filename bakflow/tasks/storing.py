"""Storing a backup: its rows, the upload and the commit.

The upload's checkpoint is the store's: a run that goes on takes over what
earlier runs made durable. The head, written by the commit, is the point of
no return.
"""

from __future__ import annotations

import importlib.metadata
import threading
import weakref
from typing import Any

from oslo_log import log as logging

from bakflow import errors, fault, states, store
from bakflow.cloud.image_source import open_source
from bakflow.tasks import copying
from bakflow.tasks.base import Result, Step
from bakflow.tasks.context import StepContext

LOG = logging.getLogger(__name__)

#: The session of each run: its name can be used only once, and upload and
#: commit share it. Goes with the context.
_sessions: weakref.WeakKeyDictionary[StepContext, store.Session] = (
    weakref.WeakKeyDictionary())
_lock = threading.Lock()


def domain_of(ctx: StepContext) -> store.Domain:
    """The flow's project in the flow's target."""
    return ctx.targets.open(ctx.request['target']).domain(ctx.project_id)


def session_of(ctx: StepContext) -> store.Session:
    """The store session of this run; begun when it is first asked for.

    It takes over what earlier runs of the flow have stored, and fences
    them.
    """
    with _lock:
        found = _sessions.get(ctx)
    if found is None:       # a flow runs in one thread: nobody else begins it
        found = domain_of(ctx).start(
            f'{ctx.flow_id}.{ctx.epoch}', backup_id=ctx.owner_id,
            sizes=[ctx.records.backup(ctx.owner_id).size],
            adopt=ctx.records.earlier_epochs(),
            parent=ctx.records.parent_of(ctx.owner_id))
        with _lock:
            _sessions[ctx] = found
    return found


class OpenBackup(Step):
    """The backup is ``running`` from here; reverted last, it is ``error``."""

    def run(self, ctx: StepContext) -> Result:
        """Mark it."""
        ctx.records.backup_running(ctx.owner_id)
        return None

    def undo(self, ctx: StepContext) -> None:
        """All that was made is gone, or in the ledger as orphaned."""
        ctx.records.backup_error(ctx.owner_id)


class UploadDisk(Step):
    """Reads the image into the store."""

    def run(self, ctx: StepContext) -> Result:
        """Store from where an earlier run had come to."""
        image = copying.MakeImage('image', ctx.flow_id).ensure(ctx)
        ctx.records.note(copying.UPLOADING, True)
        session = session_of(ctx)
        fault.point('upload:started')
        source = open_source(ctx.cloud.images.reader(image),
                             ctx.records.backup(ctx.owner_id).size)
        try:
            done = session.write_disk(
                0, source, observe=lambda p: self._observe(ctx, p))
        finally:
            source.close()
        return {'read': done.read, 'skipped': done.skipped, 'new': done.new,
                'stored': done.stored, 'resumed_at': done.resumed_at,
                'now_read': done.now_read, 'parent': session.parent}

    def _observe(self, ctx: StepContext, p: store.Progress) -> None:
        ctx.check()
        fault.point('upload:segment')
        ctx.records.progress(
            step=self.name, total=p.total, position=p.position, read=p.read,
            skipped=p.skipped, new=p.new, stored=p.stored)

    def undo(self, ctx: StepContext) -> None:
        """Remove what was stored, a head too that was never announced.

        What cannot be removed now the collector removes.
        """
        available = (states.Backup.AVAILABLE, states.Backup.DAMAGED)
        if ctx.records.backup(ctx.owner_id).status in available:
            return
        if not ctx.records.notes().get(copying.UPLOADING):
            return
        try:
            domain = domain_of(ctx)
            domain.delete(ctx.owner_id)
            domain.abort(f'{ctx.flow_id}.')
        except (errors.StoreError, errors.NotFound, errors.ConfigError,
                errors.Conflict, OSError) as exc:
            LOG.warning('What flow %s stored is left to the collector: %s',
                        ctx.flow_id, exc)


class CommitBackup(Step):
    """Writes the head. From then on the backup is there, whatever comes."""

    def run(self, ctx: StepContext) -> Result:
        """Write it, read it back, and only then announce it."""
        head = self._finish(ctx)
        fault.point('commit:head')
        ctx.records.backup_available(ctx.owner_id, head=head)
        return {'digest': head.digest, 'session': head.session}

    def _finish(self, ctx: StepContext) -> store.Head:
        session = session_of(ctx)
        try:
            return session.finish(document=document(ctx))
        except errors.Conflict:
            # A run that died after its head was whole has left no session
            # to take over. Older runs are fenced since ours was begun.
            try:
                return domain_of(ctx).head(ctx.owner_id)
            except errors.NotFound:
                LOG.warning('There is no head of backup %s', ctx.owner_id)
            raise


def document(ctx: StepContext) -> dict[str, Any]:
    """What is kept with the bytes: enough to restore without a database."""
    row = ctx.records.backup(ctx.owner_id)
    try:
        version = importlib.metadata.version('bakflow')
    except importlib.metadata.PackageNotFoundError:
        version = 'unknown'     # run from a source tree
    return {**ctx.request['volume'], 'size_gib': ctx.request['size_gib'],
            'source_kind': row.source_kind, 'source_id': row.source_id,
            'source_name': row.source_name, 'backup_name': row.name,
            'consistency': row.consistency, 'bakflow': version}
