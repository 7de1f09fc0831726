"""Storing one disk: the caller's thread, which keeps order and checkpoints.

Whatever ends the work, no thread is left behind. After an interruption, or
when the source fails, all that was read is made durable first, so the next
session goes on from there.
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import time
from collections.abc import Callable

from bakflow import errors
from bakflow.store import buffers, layout
from bakflow.store.frontier import Frontier
from bakflow.store.history import History
from bakflow.store.model import DiskState, Progress
from bakflow.store.pipeline import (
    Durable,
    Ended,
    Known,
    Lines,
    Reader,
    Stored,
    Worker,
    Writer,
)
from bakflow.store.source import Source
from bakflow.store.space import Space

LOG = logging.getLogger(__name__)

Observe = Callable[[Progress], None]

WORKERS = 2
WRITERS = 1
ID_CACHE = 32 * layout.MIB
#: seconds: how long a pack may stay open, how long a read may hang after an
#: interruption, how often the observer hears of us at least.
PACK_AGE = 20.0
_PATIENCE = 1.0
_TICK = 0.25
#: a checkpoint every second, or less often if one takes more than a 20th.
_CHECKPOINT_EVERY = 1.0
_CHECKPOINT_SHARE = 20


def memory(space: Space) -> int:
    """Bytes of buffers that storing one disk needs."""
    return ((WORKERS + 2) * layout.SEGMENT + ID_CACHE
            + (WORKERS + WRITERS) * space.params.pack)


class Ticket:
    """What a disk's writer needs of its session."""

    def __init__(self, next_seq: Callable[[], int],
                 in_flight: Callable[[], set[int]],
                 durable: Callable[[int], None],
                 checkpoint: Callable[[DiskState], None]) -> None:
        self.next_seq = next_seq
        self.in_flight = in_flight
        self.durable = durable
        self.checkpoint = checkpoint


class DiskWriter:
    """Stores a disk from where its frontier stands to its end."""

    def __init__(self, space: Space, session: str, source: Source,
                 frontier: Frontier, history: History | None,
                 ticket: Ticket, observe: Observe) -> None:
        self._space = space
        self._session = session
        self._source = source
        self._frontier = frontier
        self._history = history
        self._ticket = ticket
        self._observe = observe
        state = frontier.state
        self._live = Progress(
            total=state.size, position=state.position, read=state.read,
            skipped=state.skipped, new=state.new, stored=state.stored,
            durable=state.position)
        self.now_read = 0
        self._running: dict[str, int] = {}
        self._fault: BaseException | None = None
        self._saved = state.position
        self._saved_at = time.monotonic()
        self._pause = _CHECKPOINT_EVERY

    def run(self) -> None:
        """Store the disk.

        :raises Interrupted: the observer did; all that was read is durable.
        :raises BakflowError: the first cause, whichever thread met it.
        """
        buffers.tune_malloc()
        with buffers.default.take(memory(self._space), self._tell):
            self._lines = Lines(WORKERS, WRITERS, self._space.params.pack,
                                layout.segments(self._source.size))
            threads = self._threads()
            self._running = {'read': 1, 'pack': WORKERS, 'write': WRITERS}
            try:
                for thread in threads:
                    thread.start()
                self._drive()
            finally:
                self._lines.stop_all()
                if threads[0].is_alive():
                    self._source.cancel()
                for thread in threads:
                    if thread.ident is not None:
                        thread.join()

    def _threads(self) -> list[Reader | Worker | Writer]:
        lines, space, known = self._lines, self._space, Known()
        return [
            Reader(lines, '0', self._source, self._frontier.state.position,
                   self._history),
            *(Worker(lines, str(n), space, self._session, known,
                     self._ticket.next_seq, PACK_AGE)
              for n in range(WORKERS)),
            *(Writer(lines, str(n), space, self._session)
              for n in range(WRITERS))]

    def _drive(self) -> None:
        interrupted: errors.Interrupted | None = None
        try:
            while self._running:
                self._step()
                self._tell()
                self._checkpoint(self._pause)
        except errors.Interrupted as exc:
            interrupted = exc
            self._drain(exc)
        except errors.StoreError as exc:
            self._save_what_is()
            if self._fault is not None:     # the source had failed before
                raise self._fault from exc
            raise
        self._checkpoint(0)
        if interrupted is not None:
            raise interrupted
        if self._fault is not None:
            raise self._fault
        self._tell()

    def _drain(self, cause: errors.Interrupted) -> None:
        """Make durable what was read; read no more."""
        self._lines.halt.set()
        self._lines.segments.put(None)
        deadline = time.monotonic() + _PATIENCE
        try:
            while self._running:
                self._step()
                if 'read' in self._running and time.monotonic() > deadline:
                    self._source.cancel()
                    deadline = float('inf')
        except errors.StoreError as exc:
            LOG.warning('Not all that was read could be stored: %s', exc)
            self._save_what_is()
            raise cause from exc

    def _save_what_is(self) -> None:
        """The store failed: what is durable already is worth a try."""
        self._lines.stop_all()
        try:
            self._checkpoint(0)
        except errors.BakflowError as exc:
            LOG.warning('No last checkpoint of session %s: %s',
                        self._session, exc)

    def _step(self) -> None:
        """Handle all messages that are there; wait for one a while."""
        results = self._lines.results
        try:
            message = results.get(timeout=_TICK)
            while True:
                self._handle(message)
                message = results.get_nowait()
        except queue.Empty:
            pass
        self._frontier.advance(self._ticket.in_flight())

    def _handle(self, message: Stored | Durable | Ended) -> None:
        live = self._live
        if isinstance(message, Stored):
            self._frontier.add(message)
            self.now_read += message.read
            self._live = dataclasses.replace(
                live, position=self._frontier.position,
                read=live.read + message.read,
                skipped=live.skipped + message.skipped,
                new=live.new + message.new)
        elif isinstance(message, Durable):
            self._ticket.durable(message.seq)
            self._frontier.state.stored += message.size
            self._live = dataclasses.replace(
                live, stored=live.stored + message.size)
        else:
            self._ended(message)

    def _ended(self, message: Ended) -> None:
        if message.error is not None:
            if message.kind != 'read':
                raise message.error
            self._fault = message.error
        left = self._running[message.kind] - 1
        self._running[message.kind] = left
        if left:
            return
        del self._running[message.kind]
        if message.kind == 'pack':
            for _ in range(WRITERS):
                self._lines.writes.put(None)

    def _tell(self) -> None:
        self._observe(dataclasses.replace(self._live, durable=self._saved))

    def _checkpoint(self, pause: float) -> None:
        """Write a checkpoint if there is news and the last is old enough."""
        start = time.monotonic()
        state = self._frontier.state
        if (state.position == self._saved or start - self._saved_at < pause
                or not self._frontier.whole):
            return
        self._ticket.checkpoint(self._frontier.snapshot())
        self._saved = state.position
        self._saved_at = time.monotonic()
        self._pause = max(_CHECKPOINT_EVERY,
                          _CHECKPOINT_SHARE * (self._saved_at - start))
