"""Points at which a test kills or stops this process.

``BAKFLOW_FAULT=NAME`` kills with SIGKILL when the point of that name is
reached, ``NAME:2`` the second time; names have colons themselves. Without
the variable a point costs one dictionary look-up.
"""

from __future__ import annotations

import os
import signal
import threading

_seen: dict[str, int] = {}
_lock = threading.Lock()


def point(name: str) -> None:
    """Die here when the environment says so."""
    wanted = os.environ.get('BAKFLOW_FAULT')
    if not wanted:
        return
    at, _, nth = wanted.rpartition(':')
    if not nth.isdigit():
        at, nth = wanted, '1'
    if at != name:
        return
    with _lock:
        _seen[name] = _seen.get(name, 0) + 1
        if _seen[name] == int(nth):
            os.kill(os.getpid(), signal.SIGKILL)
