"""Work that goes on after the answer: states with delays, and their faults.

Each operation that Cinder or Glance carry out in the background is a thread
that walks the real states. A fault matched by the request that started it is
applied here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bakflow.devcloud.faults import Fault

LOG = logging.getLogger(__name__)


class Stopped(Exception):
    """The cloud stops; the work is left as it is."""


class Failed(Exception):
    """The work fails; the resource goes to its error state."""


class Job:
    """One background operation: its delay and its faults."""

    def __init__(self, workers: Workers, operation: str,
                 faults: Iterable[Fault]) -> None:
        self._workers = workers
        self.operation = operation
        self.faults = [f for f in faults
                       if f.effect in ('error', 'stuck', 'vanish')]

    def pause(self, share: float = 1.0) -> None:
        """Wait ``share`` of the operation's delay.

        :raises Stopped: when the cloud stops meanwhile.
        """
        delay = self._workers.delay_of(self.operation) * share
        if self._workers.stopping.wait(delay):
            raise Stopped

    def begin(self) -> None:
        """The first pause; here a ``stuck`` fault holds the work.

        :raises Failed: by an ``error`` fault.
        """
        self.pause()
        for fault in self.faults:
            if fault.effect == 'stuck':
                fault.hold()
        if self._workers.stopping.is_set():
            raise Stopped
        if any(f.effect == 'error' for f in self.faults):
            raise Failed('a fault was asked for')

    def vanishes(self, state: str) -> bool:
        """Whether a fault lets the image vanish in this state."""
        return any(f.effect == 'vanish' and f.at == state
                   for f in self.faults)


class Workers:
    """The threads of one cloud.

    :param delay: seconds that a step takes; ``delays`` overrides it for
        operations by name (``volume.create``, ``image.saving`` ...).
    """

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.delays: dict[str, float] = {}
        self.stopping = threading.Event()
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()

    def delay_of(self, operation: str) -> float:
        return self.delays.get(operation, self.delay)

    def start(self, operation: str, faults: Iterable[Fault],
              body: Callable[[Job], None]) -> None:
        job = Job(self, operation, faults)
        thread = threading.Thread(target=self._run, args=(job, body),
                                  name=operation, daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _run(self, job: Job, body: Callable[[Job], None]) -> None:
        try:
            body(job)
        except Stopped:
            LOG.debug('%s was stopped', job.operation)
        except Exception:
            LOG.exception('%s failed', job.operation)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def stop(self, timeout: float = 10) -> None:
        self.stopping.set()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(timeout)
