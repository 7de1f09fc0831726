"""The conductor in the process of its user."""

from __future__ import annotations

import time

from bakflow.cli import embedded


def test_its_end_takes_no_time(house):
    """Less than the second that idle threads of the server would sleep."""
    running = embedded.start(house.conductor.conf)
    assert running.api.list_backups() == []
    begin = time.monotonic()
    running.close()
    assert time.monotonic() - begin < 0.7
