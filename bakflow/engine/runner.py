"""Runs one claimed flow, forward or back, and tells how it ended.

Forward, ``never_resolve`` leaves everything standing when a step fails: what
to do about it is decided outside. Nothing here survives a crash; TaskFlow's
rows do, and the next run goes on from them. A step that was running is run
again.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Container, Iterable
from typing import Any

import sqlalchemy as sa
from oslo_log import log as logging
from taskflow import engines
from taskflow import exceptions as tf_errors
from taskflow import states as tf
from taskflow.types import failure, notifier

from bakflow import errors, flows, states
from bakflow.db import changes, claims, records
from bakflow.db.engine import Database
from bakflow.engine import persistence

LOG = logging.getLogger(__name__)

#: Faults of the moment of the database.
_DATABASE = (sa.exc.OperationalError, sa.exc.InterfaceError,
             sa.exc.TimeoutError, tf_errors.StorageFailure)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended.

    :ivar error: why it did not succeed; None when it did.
    """

    direction: states.Direction
    error: errors.BakflowError | None = None


def run(db: Database, taken: claims.Taken) -> Outcome:
    """Run the flow until it ends, fails or is stopped.

    :raises LeaseLost: another conductor owns the flow; write nothing more.
    """
    backend = persistence.FencedBackend(db, taken.claim)
    flow_id = taken.claim.flow_id
    try:
        detail = persistence.flow_detail(backend, flow_id, taken.kind)
        graph = flows.build(taken.kind, flow_id)
        _same_atoms(graph, detail)
        clock = _Clock(db, taken.claim)
        forward = taken.direction is states.Direction.FORWARD
        engine = engines.load(graph, flow_detail=detail, backend=backend,
                              engine='serial', never_resolve=forward)
        engine.compile()
        engine.prepare()
        engine.storage.inject({'flow_id': flow_id}, transient=True)
        names = [atom.name for atom in graph]
        found = engine.storage.get_atoms_states(names)
        if forward:
            _go_on(engine, found)
        else:
            _turn_back(engine, found, clock.begun)
        engine.atom_notifier.register(notifier.Notifier.ANY, clock.hear)
        error = _run_forward(engine) if forward else _run_back(engine, names)
    except errors.LeaseLost:
        raise
    except Exception as exc:    # noqa: BLE001 - a step may raise anything
        error = cause(exc)
    if isinstance(error, errors.LeaseLost):
        raise error
    return Outcome(taken.direction, error)


def _run_forward(engine: Any) -> errors.BakflowError | None:
    engine.run()
    return None


def _run_back(engine: Any, names: list[str]) -> errors.BakflowError | None:
    """Only the steps' states tell how a revert ended.

    TaskFlow raises what it finds in its rows: failures of earlier runs too,
    and returns without a word where it could not revert.
    """
    raised: Exception | None = None
    try:
        engine.run()
    except errors.LeaseLost:
        raise
    except Exception as exc:    # noqa: BLE001 - a step may raise anything
        raised = exc
    found = engine.storage.get_atoms_states(names)
    left = [name for name in names
            if found[name][0] not in (tf.REVERTED, tf.PENDING, tf.IGNORE)]
    if not left:
        return None
    failed = engine.storage.get_revert_failures()
    for name in left:
        if name in failed and failed[name].exception is not None:
            return cause(failed[name].exception)
    return cause(raised or errors.UnknownError(
        f'not reverted: {", ".join(left)}'))


def _same_atoms(graph: Iterable[Any], detail: Iterable[Any]) -> None:
    """A graph of other atoms would silently forget what was made."""
    made = {a.name for a in detail if not a.name.startswith('_')}
    now = {a.name for a in graph}
    if made and made != now:
        raise errors.FlowChanged(
            'the flow was made by another version of bakflow: its steps '
            f'were {", ".join(sorted(made))}',
            hint='resume it with the version that made it, or abandon it '
                 'there')


def _go_on(engine: Any, found: dict[str, tuple[str, str]]) -> None:
    for name, (state, _) in found.items():
        if state in (tf.FAILURE, tf.REVERTED, tf.REVERT_FAILURE,
                     tf.REVERTING):
            engine.storage.reset(name)


def _turn_back(engine: Any, found: dict[str, tuple[str, str]],
               begun: Container[str]) -> None:
    """Nothing need have failed: every atom is told to revert.

    A revert that was stopped in the middle is terminal for TaskFlow; it is
    taken up again. A step that failed, and was reset for a run that died
    before it came to it, looks as if it had never run: TaskFlow would leave
    what it made.
    """
    for name, (state, _) in found.items():
        if state == tf.REVERT_FAILURE:
            engine.storage.set_atom_state(name, tf.REVERTING)
        elif state == tf.PENDING and name in begun:
            engine.storage.set_atom_state(name, tf.RUNNING)
        engine.storage.set_atom_intention(name, tf.REVERT)


class _Clock:
    """Notes when each step began and ended, for display."""

    def __init__(self, db: Database, claim: changes.Claim) -> None:
        self._rows = records.Records(db, claim)
        self._times = dict(self._rows.notes().get('times') or {})

    @property
    def begun(self) -> Container[str]:
        """Steps that were ever begun."""
        return self._times.keys()

    def hear(self, state: str, details: dict[str, Any]) -> None:
        """TaskFlow tells that a step changed its state."""
        name = details.get('task_name')
        if name is None:
            return
        now = int(time.time() * 1000)
        if state in (tf.RUNNING, tf.REVERTING):
            self._times[name] = [now, None]
        elif name in self._times:
            self._times[name] = [self._times[name][0], now]
        self._rows.note('times', self._times)


def cause(exc: Exception) -> errors.BakflowError:
    """The first cause of a failed run, as an error that can be shown."""
    found = list(_causes(exc))
    for known in found:
        if isinstance(known, errors.ControlError):
            return known
    for known in found:
        if isinstance(known, errors.BakflowError):
            return known
    if any(isinstance(one, _DATABASE) for one in found):
        return errors.ServiceUnavailable(
            f'the database failed: {type(found[0]).__name__}',
            hint='it is tried again; the log has more')
    first = found[0]
    LOG.error('A step failed in a way that bakflow does not know',
              exc_info=first)
    # SQL and its values belong into the log, not into rows.
    text = '' if isinstance(first, sa.exc.SQLAlchemyError) else f': {first}'
    return errors.UnknownError(
        f'{type(first).__name__}{text}',
        hint='this is a defect of bakflow: the log has the traceback')


def _causes(exc: BaseException) -> list[BaseException]:
    """The exceptions inside TaskFlow's wrapper, first one first."""
    if isinstance(exc, tf_errors.WrappedFailure):
        inner: list[BaseException] = []
        for one in exc:
            if isinstance(one, failure.Failure) and one.exception:
                inner += _causes(one.exception)
        return inner or [exc]
    return [exc]


def outline(kind: str) -> tuple[list[str], dict[str, list[str]]]:
    """The steps of a kind of flow in order, and what each comes after."""
    graph = flows.build(kind, '-')
    after: dict[str, list[str]] = {}
    for before, then, _ in graph.iter_links():
        after.setdefault(then.name, []).append(before.name)
    return [atom.name for atom, _ in graph.iter_nodes()], after
