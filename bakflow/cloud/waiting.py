"""Waiting until a resource is as it should be, or cannot become so.

A wait has a deadline, sees every way to fail, survives answers that do not
come, and stops when the flow must stop: ``pause`` is the caller's, it sleeps
and raises. Nothing is remembered: after a crash the wait starts anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import NoReturn

from oslo_log import log as logging

from bakflow import errors
from bakflow.cloud.resources import Resource

LOG = logging.getLogger(__name__)

Get = Callable[[], Resource]
Pause = Callable[[float], None]
Observe = Callable[[Resource], None]
Explain = Callable[[Resource], str | None]

#: The first look after 0.2 s, then each time an eighth of what was waited
#: already: so nothing is noticed later than 1/8 of the time that it took
#: (measured: growing by half made a step of 11 s one of 15), at 24 looks for
#: 10 s and 40 for a minute. From 40 s on every 5 s.
_SHORTEST, _SHARE, _LONGEST = 0.2, 1 / 8, 5.0

#: Glance keeps what is deleted later as pending_delete.
_GONE = ('deleted', 'pending_delete')


def is_failed(status: str) -> bool:
    """The states that a resource does not leave by itself."""
    return status.startswith('error') or status in (
        'killed', 'deleted', 'deactivated')


def until(get: Get, *, want: Collection[str],
          failed: Callable[[str], bool] = is_failed, deadline_seconds: float,
          pause: Pause, observe: Observe | None = None,
          explain: Explain | None = None) -> Resource:
    """Look until the status is one of ``want``; the resource then.

    The first look comes after 0.2 s, the next ones at growing intervals of
    at most 5 s.

    :param observe: is told each resource seen (for progress).
    :param explain: what the service says about a failure, if anything.
    :raises ResourceFailed: it went to a failed state.
    :raises ResourceVanished: it is gone.
    :raises WaitTimeout: the deadline passed.
    """
    wait = _Wait(deadline_seconds, pause, f'did not become {_either(want)}')
    while True:
        wait.sleep()
        seen = wait.look(get)
        if seen is None:
            continue
        if observe is not None:
            observe(seen)
        if seen.status in want:
            return seen
        if failed(seen.status):
            _fail(seen, want, explain)


def gone(get: Get, *, deadline_seconds: float, pause: Pause,
         again: Callable[[], None] | None = None,
         failed: Callable[[str], bool] = lambda s: s.startswith('error'),
         observe: Observe | None = None,
         explain: Explain | None = None) -> None:
    """Look until a resource that was told to go is gone.

    :param again: asks for the deletion once more. Cinder gives a deletion
        up without an error: an RBD volume that something still reads (so
        for some seconds after a failed upload-to-image) goes from
        ``deleting`` back to ``available``.
    :raises ResourceFailed: it went to ``error_deleting`` or another state
        that begins with ``error``.
    :raises ResourceBusy: the deletion was given up, and there is no
        ``again``.
    :raises WaitTimeout: the deadline passed.
    """
    wait = _Wait(deadline_seconds, pause, 'was not gone')
    while True:
        wait.sleep()
        try:
            seen = wait.look(get)
        except errors.ResourceVanished:
            return
        if seen is None:
            continue
        if observe is not None:
            observe(seen)
        if seen.status in _GONE:
            return
        if failed(seen.status):
            _fail(seen, ('gone',), explain)
        if seen.status != 'deleting':
            _delete_again(seen, again)


def _delete_again(seen: Resource, again: Callable[[], None] | None) -> None:
    if again is None:
        raise errors.ResourceBusy(
            f'the deletion of {seen} was given up: it is {seen.status}',
            resource=str(seen), hint='something still uses it; it is tried '
                                     'again')
    try:
        again()
    except (errors.ResourceBusy, errors.CloudUnavailable) as exc:
        LOG.debug('Cannot delete %s again yet: %s', seen, exc)


class _Wait:
    """The clock of one wait, and what was seen last."""

    def __init__(self, deadline_seconds: float, pause: Pause,
                 missing: str) -> None:
        self._begin = time.monotonic()
        self._end = self._begin + deadline_seconds
        self._seconds = deadline_seconds
        self._pause = pause
        self._missing = missing
        self._last: Resource | None = None
        self._missed = 0
        self._error: errors.CloudError | None = None

    def sleep(self) -> None:
        now = time.monotonic()
        if now >= self._end:
            self._time_out()
        grown = max(_SHORTEST, (now - self._begin) * _SHARE)
        self._pause(min(grown, _LONGEST, self._end - now))

    def look(self, get: Get) -> Resource | None:
        """What is there; None when the service did not answer."""
        try:
            seen = get()
        except errors.CloudUnavailable as exc:
            self._missed += 1
            self._error = exc
            return None
        self._last = seen
        return seen

    def _time_out(self) -> NoReturn:
        what = str(self._last) if self._last else 'the resource'
        status = self._last.status if self._last else 'not known'
        text = (f'{what} {self._missing} within '
                f'{self._seconds:.0f} s: its status is {status}')
        if self._missed:
            text += f', and {self._missed} looks found no answer'
        raise errors.WaitTimeout(
            text, resource=what if self._last else None,
            request_id=self._error.request_id if self._error else None,
            hint='look at the service; raise the deadline if it is only '
                 'slow') from self._error


def _fail(seen: Resource, want: Collection[str],
          explain: Explain | None) -> NoReturn:
    reason = explain(seen) if explain is not None else None
    text = (f'{seen} became {seen.status} where {_either(want)} was waited '
            f'for')
    raise errors.ResourceFailed(
        f'{text}: {reason}' if reason else text, resource=str(seen),
        hint='the log of the service tells more')


def _either(want: Collection[str]) -> str:
    return ' or '.join(sorted(want))
