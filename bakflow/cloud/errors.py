"""The one place that turns failures of the SDK into errors of bakflow.

Nothing of a request but its resource and request id gets into an error: no
header, no body that was sent, no configuration.
"""

from __future__ import annotations

import html
import re

import requests
import urllib3
from keystoneauth1 import exceptions as ks
from openstack import exceptions as sdk

from bakflow import errors

#: What raises when a request finds no answer, whoever raises it.
CONNECTION_FAILURES = (
    ks.ConnectionError, ks.RetriableConnectionFailure,
    requests.ConnectionError, requests.Timeout,
    requests.exceptions.ChunkedEncodingError, urllib3.exceptions.HTTPError,
    ConnectionError, TimeoutError)

#: What a refusal of the moment says (Cinder answers 400 for these).
_BUSY = re.compile(
    r'status must|must be available|must be in|dependent|is busy|in use|'
    r'currently |attached|migrating|while |being |has snapshots|'
    r'must not be|another|cannot .* in its current', re.IGNORECASE)

_QUOTA = re.compile(r'quota|limit exceeded|exceeds? .*limit|OverLimit',
                    re.IGNORECASE)

#: A 404 to a create names the part that is missing, if it had an id.
_MISSING = re.compile(r'(Volume|Snapshot|Image) ([0-9a-f-]{36}) could not be',
                      re.IGNORECASE)

#: What the exceptions of a connection mean, in order of importance.
_REASONS = {
    'connection refused': {'ConnectionRefusedError'},
    'unknown host': {'gaierror', 'NameResolutionError'},
    'timeout while connecting': {'ConnectTimeoutError'},
    'timeout': {'ReadTimeoutError', 'ConnectTimeout', 'Timeout',
                'TimeoutError', 'timeout'},
}

#: The request never left, so nothing can have come of it.
_NOT_SENT = ('connection refused', 'unknown host')

_LONGEST = 600      # characters of a service's own words


def from_response(response: requests.Response, *, doing: str,
                  resource: str | None = None,
                  creating: bool = False) -> errors.CloudError:
    """The error that an answer of 400 or more means.

    :param doing: what was tried, as in ``could not {doing}``.
    :param creating: the request creates something, so a failure in the
        service leaves open whether it did.
    """
    said, request_id = _words(response)
    missing = _MISSING.search(said) if response.status_code == 404 else None
    if missing:
        resource = f'{missing[1].lower()} {missing[2]}'
    cls, hint = _classify(response.status_code, said,
                          creating and not missing)
    return cls(f'could not {doing}: {said} (HTTP {response.status_code})',
               hint=hint, resource=resource, request_id=request_id)


def from_exception(exc: Exception, *, doing: str,
                   resource: str | None = None,
                   creating: bool = False) -> errors.BakflowError:
    """The error that an exception of the SDK, or below it, means."""
    response = getattr(exc, 'response', None)
    if isinstance(exc, ks.Unauthorized):
        return errors.CloudAuthFailed(
            f'could not {doing}: the credentials are refused',
            hint='check user, password or application credential, and that '
                 'the project still grants a role', resource=resource,
            request_id=getattr(exc, 'request_id', None))
    if isinstance(exc, (ks.SSLError, requests.exceptions.SSLError)):
        return errors.ConfigError(
            f'could not {doing}: the TLS certificate is not trusted',
            hint='set cacert in clouds.yaml, OS_CACERT, or [cloud] cafile',
            resource=resource)
    if isinstance(exc, CONNECTION_FAILURES):
        return _no_answer(exc, doing, resource, creating)
    if isinstance(exc, (ks.EndpointNotFound, ks.MissingAuthPlugin)):
        return errors.ConfigError(
            f'could not {doing}: the cloud offers no such service in this '
            f'region: {_first_line(exc)}',
            hint='check region_name and interface', resource=resource)
    if isinstance(exc, ks.DiscoveryFailure):
        return errors.CloudUnavailable(
            f'could not {doing}: the service does not say which versions it '
            f'speaks', hint='check that its endpoint answers',
            resource=resource)
    if isinstance(response, requests.Response):
        return from_response(response, doing=doing, resource=resource,
                             creating=creating)
    if isinstance(exc, ks.HttpError):
        return _from_keystone(exc, doing, resource)
    if isinstance(exc, (ks.ClientException, sdk.SDKException)):
        return errors.CloudError(
            f'could not {doing}: {type(exc).__name__}: {_first_line(exc)}',
            resource=resource)
    raise TypeError(f'{type(exc).__name__} is no failure of the cloud'
                    ) from exc


def _classify(status: int, said: str, creating: bool
              ) -> tuple[type[errors.CloudError], str | None]:
    if status == 401:
        return errors.CloudAuthFailed, 'check the credentials'
    if status == 404 and not creating:
        return errors.ResourceVanished, (
            'it was deleted, or belongs to another project')
    if status == 413 or (status in (400, 403, 409) and _QUOTA.search(said)):
        return errors.QuotaReached, (
            'free or raise the quota; openstack quota show tells it')
    if status == 403:
        return errors.CloudRefused, (
            'the user lacks a role for this, or the resource is protected')
    if status == 409 or (status == 400 and _BUSY.search(said)):
        return errors.ResourceBusy, (
            'it is tried again; openstack shows what uses it')
    if status == 429:
        return errors.CloudUnavailable, 'the service asks for patience'
    if status >= 500:
        return _lost_or_unavailable(creating)
    return errors.CloudRefused, 'the same request brings the same answer'


def _lost_or_unavailable(creating: bool
                         ) -> tuple[type[errors.CloudError], str]:
    if creating:
        return errors.AmbiguousCreate, (
            'it is looked for by name before it is asked for again')
    return errors.CloudUnavailable, (
        'check that the service is up; it is tried again')


def _no_answer(exc: Exception, doing: str, resource: str | None,
               creating: bool) -> errors.CloudError:
    reason = _reason(exc)
    cls, hint = _lost_or_unavailable(creating and reason not in _NOT_SENT)
    return cls(f'could not {doing}: no answer ({reason})', hint=hint,
               resource=resource)


def _from_keystone(exc: ks.HttpError, doing: str, resource: str | None
                   ) -> errors.CloudError:
    """A refusal while a token was fetched: nothing was created."""
    said = _first_line(exc)
    status = exc.http_status or 500
    cls, hint = _classify(status, said, creating=False)
    if status == 404:
        cls, hint = errors.CloudAuthFailed, 'check auth_url'
    return cls(f'could not {doing}: no token: {said}', hint=hint,
               resource=resource, request_id=exc.request_id)


def _words(response: requests.Response) -> tuple[str, str | None]:
    """What the service says, and the request id."""
    try:
        sdk.raise_from_response(response)
    except sdk.HttpException as exc:
        said = html.unescape(str(exc.details or ''))
        said = ' '.join(re.sub(r'<[^>]*>', ' ', said).split())
        said = re.sub(rf'^{response.status_code} [\w ]*: ', '', said)
        return (said.strip(': ')[:_LONGEST] or 'no reason is given',
                exc.request_id)
    raise ValueError('the answer is no failure')


def _reason(exc: BaseException) -> str:
    """The innermost cause, without addresses of objects."""
    seen = [exc]
    while (inner := seen[-1].__cause__ or seen[-1].__context__):
        if inner in seen:
            break
        seen.append(inner)
    names = {type(e).__name__ for e in seen}
    for reason, types in _REASONS.items():
        if names & types:
            return reason
    return 'connection lost'


def _first_line(exc: BaseException) -> str:
    return str(exc).strip().split('\n')[0][:_LONGEST]
