"""Big buffers: one budget for the process, so that memory has a bound.

Whoever needs buffers takes all of them before starting and gives them back
at the end; whoever waits holds none.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import mmap
import threading
from collections import deque
from collections.abc import Callable, Iterator

from bakflow.store import layout

_WAIT = 0.5


class Budget:
    """So many bytes for all that is written and read at one time.

    First come, first served. A single demand above the limit is served when
    nobody else holds anything.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._free = threading.Condition()
        self._queue: deque[object] = deque()

    @contextlib.contextmanager
    def take(self, size: int,
             waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold ``size`` bytes of the budget.

        :param waiting: called every half second while others hold them;
            what it raises ends the waiting.
        """
        size = min(size, self.limit)
        ticket = object()
        with self._free:
            self._queue.append(ticket)
        try:
            while not self._try(ticket, size):
                waiting()
        except BaseException:
            with self._free:
                self._queue.remove(ticket)
                self._free.notify_all()
            raise
        try:
            yield
        finally:
            with self._free:
                self.used -= size
                self._free.notify_all()

    def _try(self, ticket: object, size: int) -> bool:
        with self._free:
            if not self._fits(ticket, size):
                self._free.wait(_WAIT)
                if not self._fits(ticket, size):
                    return False
            self._queue.popleft()
            self.used += size
            self._free.notify_all()
            return True

    def _fits(self, ticket: object, size: int) -> bool:
        return self._queue[0] is ticket and self.used + size <= self.limit


#: The budget of this process; :func:`configure` changes its limit. Two
#: disks can be written at once, or one written and two read.
default = Budget(320 * layout.MIB)


def configure(limit: int) -> None:
    """Set the limit, in bytes, of the process's budget."""
    default.limit = limit


def make(size: int) -> mmap.mmap:
    """Memory that begins at a page, as O_DIRECT needs it."""
    return mmap.mmap(-1, size)


@functools.cache
def tune_malloc() -> None:
    """Let glibc keep and reuse buffers of some MiB.

    By default it maps and unmaps each of them, and the first touch of a
    fresh page costs 3 µs: 0.79 CPU seconds a GiB (measured). Without glibc
    it is only slower.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(m_mmap_threshold, 32 * layout.MIB)
        libc.mallopt(m_trim_threshold, 64 * layout.MIB)
