"""What all steps have in common, and the steps that make a temporary.

A step finds everything by the flow's id; TaskFlow passes nothing else on.
After a crash TaskFlow runs the step again that was running, so every step
finds out what is there already. Nothing is kept in the objects themselves.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from oslo_log import log as logging
from taskflow import task

from bakflow import errors, fault, states
from bakflow.cloud import waiting
from bakflow.cloud.naming import Tag
from bakflow.cloud.resources import Resource
from bakflow.tasks import releasing
from bakflow.tasks.context import StepContext, context_of

if TYPE_CHECKING:
    from bakflow.db.ledger import Entry

LOG = logging.getLogger(__name__)

Result = dict[str, Any] | None


class Parts(Protocol):
    """What snapshots, volumes and images of a cloud can all do."""

    kind: str

    def get(self, id: str) -> Resource: ...

    def find(self, tag: Tag) -> list[Resource]: ...

    def adopt(self, resource: Resource, tag: Tag) -> Resource: ...

    def delete(self, id: str) -> None: ...

    def explain(self, resource: Resource) -> str | None: ...


class Step(task.Task):
    """A step of a flow: ``run`` forward, ``undo`` backward.

    :param name: of the atom. It is stored: renaming one makes running flows
        unusable.
    """

    def __init__(self, name: str, flow_id: str) -> None:
        super().__init__(name=name, inject={'flow_id': flow_id})

    def execute(self, flow_id: str) -> Result:
        """Called by TaskFlow."""
        ctx = context_of(flow_id)
        ctx.check()
        fault.point(f'{self.name}:begin')
        ctx.records.progress(step=self.name, force=True)
        result = self.run(ctx)
        fault.point(f'{self.name}:end')
        return result

    def revert(self, flow_id: str, **_: Any) -> None:
        """Called by TaskFlow, which loses the result when this raises."""
        ctx = context_of(flow_id)
        fault.point(f'{self.name}:reverting')
        self.undo(ctx)
        fault.point(f'{self.name}:reverted')

    @abc.abstractmethod
    def run(self, ctx: StepContext) -> Result:
        """Do it, or find that it was done. Gives small JSON data."""

    def undo(self, ctx: StepContext) -> None:
        """Take it back, however far it had come. Raises control errors
        only, unless what it says cannot go unsaid."""


@contextlib.contextmanager
def waits_for(ctx: StepContext, what: str) -> Iterator[None]:
    """Let ``flow show`` tell what the flow waits for."""
    ctx.records.waits_for(what)
    try:
        yield
    except errors.ControlError:
        raise           # the flow may not be ours any more
    except Exception:
        ctx.records.waits_for(None)
        raise
    ctx.records.waits_for(None)


class Temporary(Step):
    """Makes one resource that must not outlive its flow.

    The ledger row is written before the cloud is asked. A row that was
    there before means that the cloud may have been asked: it is searched by
    the row's tag. A resource that is of no use any more is deleted, and
    another one is made under the next ordinal.

    :cvar role: in the ledger.
    :cvar kind: ``snapshot``, ``volume`` or ``image``.
    :cvar want: the states in which it can be used.
    """

    role: str
    kind: str
    want: Collection[str] = ('available',)

    @abc.abstractmethod
    def create(self, ctx: StepContext, tag: Tag) -> Resource:
        """Ask for it, once.

        :raises AmbiguousCreate: it may exist.
        """

    def prepare(self, ctx: StepContext) -> None:
        """See that what it is made from is there; when it is not the first
        time that it is asked for."""

    def may_replace(self, ctx: StepContext) -> None:
        """Raise when another one, made now, would not be the same."""

    def vanished(self, ctx: StepContext,
                 exc: errors.ResourceVanished) -> errors.BakflowError:
        """The error to raise when it is gone before it could be used."""
        del ctx
        return exc

    def spoiled(self, status: str) -> bool:
        """Whether one in this state is of no use any more."""
        return waiting.is_failed(status) or status == 'deleting'

    def run(self, ctx: StepContext) -> Result:
        """Make it, wait until it can be used."""
        made = self.ensure(ctx)
        return {'id': made.id, 'name': made.name}

    def undo(self, ctx: StepContext) -> None:
        """Release all of this role that the ledger knows."""
        for entry in reversed(ctx.ledger.entries()):
            if entry.role == self.role:
                releasing.release(ctx, entry)

    def ensure(self, ctx: StepContext) -> Resource:
        """One that can be used: the one that is there, or a new one.

        :raises CloudError: it cannot be made, or went wrong.
        """
        entry = ctx.ledger.intend(self.role, self.kind)
        fault.point(f'{self.role}:intended')
        again = entry.seen_before
        if entry.cloud_id is not None:
            seen = self._look(ctx, entry)
            if seen is not None and seen.status in self.want:
                return seen
            if seen is None:
                self.may_replace(ctx)
                self._give_up(ctx, entry)
                entry = ctx.ledger.intend(self.role, self.kind)
        elif entry.ordinal:
            again = True
            self.may_replace(ctx)
        if entry.cloud_id is None:
            entry = self._make(ctx, entry, again)
        return self._wait(ctx, entry)

    # -- inside -----------------------------------------------------------

    def _look(self, ctx: StepContext, entry: Entry) -> Resource | None:
        """The recorded resource, when it is, or may become, of use."""
        if entry.status != states.Temporary.LIVE:
            return None
        try:
            seen = releasing.parts(ctx, self.kind).get(str(entry.cloud_id))
        except errors.ResourceVanished:
            return None
        if self.spoiled(seen.status):
            return None
        return seen

    def _give_up(self, ctx: StepContext, entry: Entry) -> None:
        if not releasing.release(ctx, entry):
            raise errors.ResourceFailed(
                f'{self.kind} {entry.cloud_id} is of no use and cannot be '
                f'deleted', resource=f'{self.kind} {entry.cloud_id}',
                hint='have it deleted by an operator of the cloud, then '
                     'resume the flow; or abandon the flow')

    def _make(self, ctx: StepContext, entry: Entry, again: bool) -> Entry:
        made = None
        if entry.seen_before:
            doubt = entry.last_error is not None
            made = releasing.find(
                ctx, entry, releasing.grace_of(ctx) if doubt else 0)
        if made is None:
            if again:
                self.prepare(ctx)
            made = self._create(ctx, entry)
        fault.point(f'{self.role}:created')
        entry = ctx.ledger.record(entry, made.id)
        fault.point(f'{self.role}:recorded')
        return entry

    def _create(self, ctx: StepContext, entry: Entry) -> Resource:
        """Create; when the answer is lost look, and once more create."""
        try:
            return self.create(ctx, entry.tag)
        except errors.AmbiguousCreate as exc:
            LOG.warning('%s: it is looked for', exc)
            ctx.ledger.failed_once(entry, str(exc))
        with waits_for(ctx, f'{self.kind} {entry.name} to appear: the '
                            f'answer to its creation was lost'):
            found = releasing.find(ctx, entry, releasing.grace_of(ctx))
        return found or self.create(ctx, entry.tag)

    def _wait(self, ctx: StepContext, entry: Entry) -> Resource:
        kind, id = releasing.parts(ctx, self.kind), str(entry.cloud_id)
        wanted = ' or '.join(self.want)
        try:
            with waits_for(ctx, f'{self.kind} {id} to become {wanted}'):
                usable = waiting.until(
                    lambda: kind.get(id), want=self.want,
                    deadline_seconds=ctx.options[f'{self.kind}_timeout'],
                    pause=ctx.pause, explain=kind.explain)
        except errors.ResourceVanished as exc:
            raise self.vanished(ctx, exc) from exc
        fault.point(f'{self.role}:usable')
        return usable
