"""Faults on demand: what the simulated cloud does wrong, when told to.

A fault names the requests it is for (``on='volume.create'``, or service,
method, path and action), which of them (from the ``nth`` on, ``count`` of
them) and what happens. In process: :meth:`Faults.add`; from another process:
``POST /devcloud/faults``, see ``control.py``.

Effects on the request:

``hold``    wait until released; ``when`` is ``before`` or ``after`` it took
            effect, or ``body``: when ``after_bytes`` of it went over (of the
            request's body for an image.upload, else of the answer's)
``drop``    close the connection; ``when`` as above
``status``  answer with ``status`` (and ``retry_after`` seconds, ``message``)
            and do nothing
``expire``  revoke the caller's token and answer 401
``slow``    send the answer's body at ``rate`` bytes a second
``cut``     the same as ``drop`` with ``when='body'``
``quota``   answer as the service does when a quota is used up (413)
``refuse``  answer as the service does when the resource is busy: 400 for
            volumes and snapshots, 409 for images

Effects on the work that the request starts:

``error``   the resource ends in ``error`` (a deletion in ``error_deleting``,
            an upload to an image vanishes)
``stuck``   the resource stays in its first state until released
``vanish``  the image is deleted ``at`` ``queued``, ``saving`` or ``active``
"""

from __future__ import annotations

import dataclasses
import re
import threading
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bakflow.devcloud.web import Request

ON_REQUEST = ('hold', 'drop', 'status', 'expire', 'slow', 'cut', 'quota',
              'refuse')
ON_WORK = ('error', 'stuck', 'vanish')

_V = r'^/v3(/[0-9a-f]{32})?'
_VOLUME = _V + r'/volumes/(?!detail$)[^/]+$'
_SNAPSHOT = _V + r'/snapshots/(?!detail$)[^/]+$'
_ACTION = _V + r'/volumes/[^/]+/action$'
_IMAGE = r'^/v2/images/[^/]+$'
_FILE = r'^/v2/images/[^/]+/file$'

#: name -> service, method, path, action
OPERATIONS: dict[str, tuple[str, str, str, str | None]] = {
    'token.create': ('identity', 'POST', r'^/v3/auth/tokens$', None),
    'volume.create': ('volume', 'POST', _V + '/volumes$', None),
    'volume.list': ('volume', 'GET', _V + '/volumes(/detail)?$', None),
    'volume.show': ('volume', 'GET', _VOLUME, None),
    'volume.update': ('volume', 'PUT', _VOLUME, None),
    'volume.delete': ('volume', 'DELETE', _VOLUME, None),
    'volume.upload': ('volume', 'POST', _ACTION, 'os-volume_upload_image'),
    'volume.reimage': ('volume', 'POST', _ACTION, 'os-reimage'),
    'volume.extend': ('volume', 'POST', _ACTION, 'os-extend'),
    'volume.set_bootable': ('volume', 'POST', _ACTION, 'os-set_bootable'),
    'volume.set_image_metadata': (
        'volume', 'POST', _ACTION, 'os-set_image_metadata'),
    'volume.unset_image_metadata': (
        'volume', 'POST', _ACTION, 'os-unset_image_metadata'),
    'snapshot.create': ('volume', 'POST', _V + '/snapshots$', None),
    'snapshot.list': ('volume', 'GET', _V + '/snapshots(/detail)?$', None),
    'snapshot.show': ('volume', 'GET', _SNAPSHOT, None),
    'snapshot.delete': ('volume', 'DELETE', _SNAPSHOT, None),
    'image.create': ('image', 'POST', '^/v2/images$', None),
    'image.list': ('image', 'GET', '^/v2/images$', None),
    'image.show': ('image', 'GET', _IMAGE, None),
    'image.patch': ('image', 'PATCH', _IMAGE, None),
    'image.delete': ('image', 'DELETE', _IMAGE, None),
    'image.upload': ('image', 'PUT', _FILE, None),
    'image.download': ('image', 'GET', _FILE, None),
    'image.tag': ('image', 'PUT', r'^/v2/images/[^/]+/tags/.+$', None),
}


@dataclasses.dataclass
class Fault:
    """One fault; made by :meth:`Faults.add`."""

    effect: str
    service: str | None = None
    method: str | None = None
    path: str | None = None         #: a regular expression, searched
    action: str | None = None
    contains: str | None = None     #: text that the JSON body must contain
    nth: int = 1
    count: int | None = 1           #: None: every time
    when: str = 'before'
    status: int = 503
    retry_after: float | None = None
    message: str | None = None
    rate: float = 1 << 20           #: bytes a second
    after_bytes: int = 0
    at: str = 'queued'
    id: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)
    seen: int = 0                   #: requests that fitted
    fired: int = 0                  #: times it took effect
    held: int = 0                   #: requests or works it holds now

    def __post_init__(self) -> None:
        if self.effect not in ON_REQUEST + ON_WORK:
            raise ValueError(f'no such effect: {self.effect}')
        if self.effect == 'cut':
            self.effect, self.when = 'drop', 'body'
        if self.when not in ('before', 'after', 'body'):
            raise ValueError(f'no such time: {self.when}')
        if self.at not in ('queued', 'saving', 'active'):
            raise ValueError(f'no such state: {self.at}')
        self._cond = threading.Condition()
        self._released = False

    def fits(self, request: Request) -> bool:
        return ((self.service is None or self.service == request.service)
                and (self.method is None or self.method == request.method)
                and (self.path is None
                     or re.search(self.path, request.path) is not None)
                and (self.action is None or self.action == request.action)
                and (self.contains is None
                     or self.contains.encode() in request.content))

    @property
    def in_body(self) -> bool:
        return self.when == 'body' and self.effect in ('hold', 'drop')

    def take(self, request: Request) -> bool:
        """Whether the fault is for this request; counts it."""
        if not self.fits(request):
            return False
        with self._cond:
            self.seen += 1
            if self.seen < self.nth or (
                    self.count is not None and self.fired >= self.count):
                return False
            self.fired += 1
            self._cond.notify_all()
            return True

    def hold(self) -> None:
        """Wait until somebody releases the fault."""
        with self._cond:
            self.held += 1
            self._cond.notify_all()
            self._cond.wait_for(lambda: self._released)
            self.held -= 1

    def release(self) -> None:
        """Let go what is held, now and later."""
        with self._cond:
            self._released = True
            self._cond.notify_all()

    def wait_held(self, timeout: float = 30) -> None:
        """Wait until a request or a work is held.

        :raises TimeoutError: when none is, after ``timeout`` seconds.
        """
        with self._cond:
            if not self._cond.wait_for(lambda: self.held > 0, timeout):
                raise TimeoutError(f'nothing is held by {self.effect}')

    def wait_fired(self, times: int = 1, timeout: float = 30) -> None:
        """Wait until the fault has taken effect ``times`` times.

        :raises TimeoutError: when it has not, after ``timeout`` seconds.
        """
        with self._cond:
            if not self._cond.wait_for(lambda: self.fired >= times, timeout):
                raise TimeoutError(f'{self.effect} fired {self.fired} times')

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class Faults:
    """The faults of one cloud."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: list[Fault] = []

    def add(self, effect: str, on: str | None = None,
            **details: Any) -> Fault:
        """Make a fault.

        :param on: a name of :data:`OPERATIONS`; or give service, method,
            path (regular expression) and action among the details.
        :raises ValueError: for an unknown name or effect.
        """
        if on is not None:
            if on not in OPERATIONS:
                raise ValueError(f'no such operation: {on}')
            service, method, path, action = OPERATIONS[on]
            details = {'service': service, 'method': method, 'path': path,
                       'action': action, **details}
        fault = Fault(effect, **details)
        with self._lock:
            self._all.append(fault)
        return fault

    def match(self, request: Request) -> list[Fault]:
        """The faults that are for this request, each counted once.

        The control API has none: it must be there to release them.
        """
        if request.service == 'devcloud':
            return []
        with self._lock:
            return [f for f in self._all if f.take(request)]

    def get(self, fault_id: str) -> Fault | None:
        with self._lock:
            return next((f for f in self._all if f.id == fault_id), None)

    def all(self) -> list[Fault]:
        with self._lock:
            return list(self._all)

    def remove(self, fault: Fault) -> None:
        """Forget a fault and release what it holds."""
        with self._lock:
            self._all = [f for f in self._all if f is not fault]
        fault.release()

    def clear(self) -> None:
        """Forget all faults and release what they hold."""
        for fault in self.all():
            self.remove(fault)
