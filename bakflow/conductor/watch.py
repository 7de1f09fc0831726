"""Tells a running flow when it must stop; every wait in a flow goes here."""

from __future__ import annotations

import threading
import time

from bakflow import errors, states
from bakflow.db import changes, claims


class Watch:
    """One running flow as its conductor sees it.

    :ivar renewed: when the lease was last renewed (monotonic seconds).
    """

    def __init__(self, taken: claims.Taken, stopping: threading.Event,
                 lease: float) -> None:
        self.taken = taken
        self.renewed = time.monotonic()
        self.lost = False
        self.cancel = False
        self._stopping = stopping
        self._lease = lease
        self._changed = threading.Condition()

    @property
    def claim(self) -> changes.Claim:
        """Under which it runs."""
        return self.taken.claim

    def tell(self, *, lost: bool = False, cancel: bool = False) -> None:
        """Wake the flow if it waits."""
        with self._changed:
            self.lost = self.lost or lost
            self.cancel = self.cancel or cancel
            self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Sleep, unless the flow must stop.

        :raises LeaseLost: taken by another, or not renewed for two thirds
            of the lease.
        :raises Interrupted: this conductor stops.
        :raises Cancelled: somebody asked for it.
        """
        end = time.monotonic() + seconds
        while True:
            self._check()
            left = end - time.monotonic()
            if left <= 0:
                return
            with self._changed:
                self._changed.wait(min(left, 1.0))

    def _check(self) -> None:
        overdue = time.monotonic() - self.renewed > self._lease * 2 / 3
        if self.lost or overdue:
            raise errors.LeaseLost(
                f'the lease of flow {self.claim.flow_id} '
                + ('could not be renewed' if overdue and not self.lost
                   else 'was taken'))
        if self._stopping.is_set():
            raise errors.Interrupted(
                'the conductor stops; the flow can be resumed',
                hint=f'bakflow flow resume {self.claim.flow_id}')
        if (self.cancel and not self.taken.committed
                and self.taken.direction is states.Direction.FORWARD):
            raise errors.Cancelled(
                f'flow {self.claim.flow_id} was cancelled')
