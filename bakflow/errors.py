"""Every error that bakflow shows to somebody, with what to do about it.

An error says what happened, to which resource, on which request, and how to
go on. It is plain data: :meth:`BakflowError.to_dict` goes into SQL rows and
over RPC, :func:`from_dict` brings the same class back. No error may carry a
token, a password or a key.

Errors raised by a step fall into classes of :class:`Retry`; one pure function
(``bakflow.conductor.decisions``) turns the class into requeue, hold or
revert.
"""

from __future__ import annotations

import enum
from typing import Any


class Retry(enum.StrEnum):
    """What trying the same thing again would bring."""

    NEVER = 'never'   #: the same answer; an operator has to act first
    SOON = 'soon'     #: a fault of the moment: again within seconds, minutes
    LATER = 'later'   #: somebody must make room (quota): minutes to hours


class BakflowError(Exception):
    """Base of all errors that bakflow raises on purpose.

    :param message: what happened, as a sentence without a full stop.
    :param hint: what the reader can do about it.
    :param resource: what it happened to, as ``kind id`` (``volume 3f…``).
    :param request_id: the cloud's ``x-openstack-request-id``.
    """

    code = 'error'
    retry = Retry.NEVER

    def __init__(self, message: str, *, hint: str | None = None,
                 resource: str | None = None,
                 request_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.resource = resource
        self.request_id = request_id

    def __str__(self) -> str:
        parts = [self.message]
        if self.resource and self.resource not in self.message:
            parts.append(f'({self.resource})')
        if self.request_id:
            parts.append(f'[{self.request_id}]')
        return ' '.join(parts)

    def to_dict(self) -> dict[str, Any]:
        """The error as JSON-ready data: code, message and what is known."""
        known = {'code': self.code, 'message': self.message,
                 'retry': str(self.retry), 'hint': self.hint,
                 'resource': self.resource, 'request_id': self.request_id}
        return {k: v for k, v in known.items() if v is not None}


# -- the request ----------------------------------------------------------

class InvalidRequest(BakflowError):
    """The request itself cannot be carried out."""

    code = 'invalid'


class NotFound(BakflowError):
    """There is no such thing, or it belongs to somebody else."""

    code = 'not-found'


class NotUnique(BakflowError):
    """A name fits more than one thing."""

    code = 'not-unique'


class Conflict(BakflowError):
    """The thing is not in a state in which this can be done."""

    code = 'conflict'


class Forbidden(BakflowError):
    """Policy does not allow this to the caller."""

    code = 'forbidden'


class ConfigError(BakflowError):
    """The configuration is wrong; the message names the option."""

    code = 'config'


class ServiceUnavailable(BakflowError):
    """No conductor answered in time: nothing is known to be recorded."""

    code = 'unavailable'
    retry = Retry.SOON


# -- the cloud ------------------------------------------------------------

class CloudError(BakflowError):
    """The cloud answered, or failed to answer, in a way that stops us."""

    code = 'cloud'

    #: Seconds that the service itself asks to wait (Retry-After).
    retry_after = 0.0


class CloudUnavailable(CloudError):
    """No answer, or 429 or 5xx, for longer than the retries last."""

    code = 'cloud-unavailable'
    retry = Retry.SOON


class CloudRefused(CloudError):
    """The cloud said no (4xx): the same call brings the same answer."""

    code = 'cloud-refused'


class CloudAuthFailed(CloudError):
    """The credentials are refused."""

    code = 'cloud-auth'


class QuotaReached(CloudError):
    """A quota is used up."""

    code = 'cloud-quota'
    retry = Retry.LATER


class ResourceFailed(CloudError):
    """A resource went to an error state."""

    code = 'resource-failed'


class ResourceVanished(CloudError):
    """A resource that must be there is gone."""

    code = 'resource-vanished'


class ImageRefused(ResourceVanished):
    """Glance did not take the image: it vanished before it was active."""

    code = 'image-refused'


class ResourceBusy(CloudError):
    """The resource is in use, has dependents, or changes its state."""

    code = 'resource-busy'
    retry = Retry.SOON


class AmbiguousCreate(CloudError):
    """The answer to a create was lost: the resource may exist or not."""

    code = 'create-ambiguous'
    retry = Retry.SOON


class WaitTimeout(CloudError):
    """A resource did not reach its state before the deadline."""

    code = 'wait-timeout'
    retry = Retry.SOON


class WrongCloud(CloudError):
    """The flow belongs to another cloud than the one configured now."""

    code = 'wrong-cloud'


class SourceChanged(CloudError):
    """The image that is read is not the one the upload began with."""

    code = 'source-changed'


# -- the store ------------------------------------------------------------

class StoreError(BakflowError):
    """The store of a target cannot do what is asked."""

    code = 'store'


class StoreUnavailable(StoreError):
    """The target does not answer, for the moment."""

    code = 'store-unavailable'
    retry = Retry.SOON


class StoreFull(StoreError):
    """No space is left at the target."""

    code = 'store-full'


class StoreNotWritable(StoreError):
    """The target refuses writes."""

    code = 'store-not-writable'


class NotAStore(StoreError):
    """There is no store at this target yet."""

    code = 'store-none'


class StoreForeign(StoreError):
    """The store belongs to another deployment."""

    code = 'store-foreign'


class StoreTooNew(StoreError):
    """The store's format is newer than this program."""

    code = 'store-too-new'


class StoreKeyWrong(StoreError):
    """The key does not open this store."""

    code = 'store-key'


class StoreCorrupt(StoreError):
    """An object of the store is damaged or missing; the message names it."""

    code = 'store-corrupt'


# -- the flow itself ------------------------------------------------------

class ControlError(BakflowError):
    """A flow was stopped by something other than its own work."""

    code = 'control'


class LeaseLost(ControlError):
    """Another conductor owns the flow now: write nothing more."""

    code = 'lease-lost'


class Interrupted(ControlError):
    """The conductor stops; the flow goes on later, here or elsewhere."""

    code = 'interrupted'


class Cancelled(ControlError):
    """Somebody asked for this flow to be cancelled."""

    code = 'cancelled'


class FlowChanged(ControlError):
    """The flow was made by another version: its atoms differ."""

    code = 'flow-changed'


class UnknownError(BakflowError):
    """An error whose class this program does not know."""

    code = 'unknown'


def _all_classes(root: type[BakflowError]) -> dict[str, type[BakflowError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update(_all_classes(child))
    return found


def from_dict(data: dict[str, Any]) -> BakflowError:
    """The error that :meth:`BakflowError.to_dict` described.

    A code that this program does not know becomes :class:`UnknownError`.
    """
    cls = _all_classes(BakflowError).get(str(data.get('code')), UnknownError)
    return cls(str(data.get('message', '')), hint=data.get('hint'),
               resource=data.get('resource'),
               request_id=data.get('request_id'))
