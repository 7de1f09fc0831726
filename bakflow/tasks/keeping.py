"""What is done with backups that are there: delete, verify, collect.

Nothing here touches the cloud. Each step can be done again.
"""

from __future__ import annotations

import dataclasses
import time

from bakflow import errors, fault, states, store
from bakflow.tasks.base import Result, Step
from bakflow.tasks.context import StepContext
from bakflow.tasks.storing import domain_of

#: So many damages are told one by one.
_TOLD = 100

#: The note of the status of a backup before its deletion.
_BEFORE = 'status_before'


class OpenDelete(Step):
    """Nobody may use the backup any more."""

    def run(self, ctx: StepContext) -> Result:
        """Mark it, and remember what it was."""
        status = ctx.records.backup(backup_id(ctx)).status
        if status != states.Backup.DELETING:
            ctx.records.note(_BEFORE, status)
        ctx.records.backup_deleting(backup_id(ctx))
        return None

    def undo(self, ctx: StepContext) -> None:
        """It is what it was, unless its head has gone already."""
        before = ctx.records.notes().get(_BEFORE)
        if before is None:
            return
        if (before != states.Backup.ERROR
                and backup_id(ctx) not in domain_of(ctx).heads()):
            ctx.records.backup_deleted(backup_id(ctx))
            return
        ctx.records.backup_not_deleted(backup_id(ctx), before)


class RemoveBackup(Step):
    """Removes the head; the collector frees the bytes."""

    def run(self, ctx: StepContext) -> Result:
        """One that has no head is fine."""
        domain_of(ctx).delete(backup_id(ctx))
        fault.point('remove:removed')
        return None


class FinishDelete(Step):
    """Announces it."""

    def run(self, ctx: StepContext) -> Result:
        """Mark it."""
        ctx.records.backup_deleted(backup_id(ctx))
        return None


class OpenVerify(Step):
    """Only a backup that is there can be read."""

    def run(self, ctx: StepContext) -> Result:
        """Check its status.

        :raises Conflict: it is neither available nor damaged.
        """
        status = ctx.records.backup(backup_id(ctx)).status
        if status not in (states.Backup.AVAILABLE, states.Backup.DAMAGED):
            raise errors.Conflict(
                f'backup {backup_id(ctx)} is {status}',
                resource=f'backup {backup_id(ctx)}',
                hint='only one that is available can be verified')
        return None


class ReadBackup(Step):
    """Reads and authenticates everything that the backup needs."""

    def run(self, ctx: StepContext) -> Result:
        """Remember what was found."""
        try:
            found = domain_of(ctx).verify(
                backup_id(ctx), observe=lambda p: self._observe(ctx, p))
        except errors.NotFound as exc:
            found = store.VerifyReport([store.Damage(
                'head', 0, 0, 0, exc.message)])
        report = {
            'frames': found.frames, 'bytes': found.bytes,
            'damaged': len(found.damages),
            'damages': [dataclasses.asdict(d)
                        for d in found.damages[:_TOLD]]}
        ctx.records.note('report', report)
        return {'bytes': found.bytes, 'damaged': len(found.damages)}

    def _observe(self, ctx: StepContext, p: store.Progress) -> None:
        ctx.check()
        fault.point('read:segment')
        ctx.records.progress(step=self.name, total=p.total,
                             position=p.position, read=p.read,
                             skipped=p.skipped)


class FinishVerify(Step):
    """The backup is ``available``, or ``damaged``; the flow ends well."""

    def run(self, ctx: StepContext) -> Result:
        """Announce what was found."""
        report = ctx.records.notes()['report']
        if report['damaged']:
            ctx.records.backup_damaged(backup_id(ctx), report['damages'])
        else:
            ctx.records.backup_verified(backup_id(ctx), report)
        return {'damaged': report['damaged']}


class OpenCollect(Step):
    """The target must be there."""

    def run(self, ctx: StepContext) -> Result:
        """Open it."""
        return {'store': ctx.targets.open(ctx.request['target']).id}


class CollectGarbage(Step):
    """Removes what no backup and no running flow needs."""

    def run(self, ctx: StepContext) -> Result:
        """Remember what was done."""
        target = ctx.request['target']
        told = 0.0

        def observe(report: store.CollectReport) -> None:
            nonlocal told
            ctx.check()
            fault.point('collect:removed')
            if time.monotonic() - told > 1:
                told = time.monotonic()
                ctx.records.progress(step=self.name, position=report.freed)

        report = ctx.targets.open(target).collect(
            live_sessions=ctx.records.live_sessions,
            known_heads=lambda: ctx.records.known_heads(target),
            observe=observe)
        told_all = dataclasses.asdict(report)
        told_all['damaged'] = told_all['damaged'][:_TOLD]
        told_all['fenced'] = len(report.fenced)
        ctx.records.note('report', told_all)
        return {'removed': report.removed, 'freed': report.freed}


class FinishCollect(Step):
    """Ends it."""

    def run(self, ctx: StepContext) -> Result:
        """What was done is in the note ``report``."""
        return {'blocked': len(ctx.records.notes()['report']['blocked'])}


def backup_id(ctx: StepContext) -> str:
    """The backup that the flow is about."""
    return str(ctx.request['backup_id'])
