"""Ctrl-C while a command waits: once politely, twice at once.

Nothing survives a crash; what the flow did so far does.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import types
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """A context manager that counts SIGINT and SIGTERM.

    The first sets :attr:`event`; the second ends the process at once with
    128 and the signal's number. Outside of the main thread, where Python
    allows no handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.number = int(signal.SIGINT)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process ended by this signal."""
        return 128 + self.number

    def _handle(self, number: int, frame: types.FrameType | None) -> None:
        if self.event.is_set():
            # no buffered stream here: its lock may be held by this thread
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2,
                     b'\nstopped at once\n')
            os._exit(128 + number)
        self.number = number
        self.event.set()
