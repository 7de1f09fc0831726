"""The conductor of a command ends with it."""

from __future__ import annotations

import threading
import time

from bakflow.cli import embedded


def test_it_leaves_no_thread_behind(house):
    """A thread that lives on would delay, or outlive, the command."""
    before = set(threading.enumerate())
    running = embedded.start(house.conductor.conf)
    assert running.api.list_backups() == []
    assert set(threading.enumerate()) - before
    running.close()
    end = time.monotonic() + 10
    while left := set(threading.enumerate()) - before:
        assert time.monotonic() < end, left
        time.sleep(0.01)
