"""One service of the cloud over HTTP.

Reads are repeated with growing pauses while the service does not answer or
asks for patience. Writes are sent exactly once: openstacksdk's own retries
send a create again when its answer was lost, and make two (or three).
"""

from __future__ import annotations

import email.utils
import random
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import requests
import tenacity
from openstack import proxy

from bakflow import errors
from bakflow.cloud import errors as cloud_errors

Json = dict[str, Any]
Pause = Callable[[float], None]

_LONGEST_PAUSE = 10.0


class Api:
    """One service: single-shot writes, patient reads.

    :param adapter: the SDK's proxy of the service.
    :param patience: seconds during which a read is repeated.
    :param pause: sleeps; may raise to stop the flow.
    """

    def __init__(self, adapter: proxy.Proxy, *, patience: float = 30,
                 pause: Pause = time.sleep) -> None:
        self.adapter = adapter
        self._patience = patience
        self._pause = pause

    def pausing(self, pause: Pause) -> Api:
        """The same service with another way to wait."""
        return Api(self.adapter, patience=self._patience, pause=pause)

    @property
    def timeout(self) -> float:
        """Seconds without a byte after which a request has failed."""
        return float(self.adapter.session.timeout or 60)

    def sleep(self, seconds: float) -> None:
        """Wait as the flow wants it."""
        self._pause(seconds)

    def get(self, url: str, *, doing: str, resource: str | None = None,
            params: Mapping[str, Any] | None = None,
            microversion: str | None = None) -> Json:
        """The JSON body of a GET.

        :raises CloudUnavailable: when it stays without a good answer.
        :raises CloudError: any other refusal.
        """
        answer = self.patiently(
            lambda: self.send('GET', url, doing=doing, resource=resource,
                              params=params, microversion=microversion))
        return _json(answer, doing)

    def pages(self, url: str, key: str, *, doing: str,
              params: Mapping[str, Any] | None = None) -> Iterator[Json]:
        """All items of a listing, page by page."""
        asked: Any = params
        while True:
            body = self.get(url, doing=doing, params=asked)
            yield from body.get(key, [])
            link = _next(body, key)
            if link is None:
                return
            # Only its query counts: behind a proxy it names another host.
            following = urllib.parse.parse_qsl(
                urllib.parse.urlsplit(link).query)
            if following == asked:
                return
            asked = following

    def send(self, method: str, url: str, *, doing: str,
             resource: str | None = None, creating: bool = False,
             microversion: str | None = None,
             **kwargs: Any) -> requests.Response:
        """One request, sent once; its answer is below 400.

        :param creating: see :func:`bakflow.cloud.errors.from_response`.
        """
        try:
            if creating:
                # What fails here creates nothing, so it is not ambiguous.
                self.adapter.get_token()
                self.adapter.get_endpoint()
        except cloud_failures() as exc:
            raise cloud_errors.from_exception(
                exc, doing=doing, resource=resource) from exc
        try:
            answer = self.adapter.request(
                url, method, raise_exc=False, connect_retries=0,
                status_code_retries=0, microversion=microversion, **kwargs)
        except cloud_failures() as exc:
            raise cloud_errors.from_exception(
                exc, doing=doing, resource=resource, creating=creating
            ) from exc
        if answer.status_code >= 400:
            error = cloud_errors.from_response(
                answer, doing=doing, resource=resource, creating=creating)
            error.retry_after = _retry_after(
                answer.headers.get('Retry-After'))
            raise error
        return answer

    def patiently(self, call: Callable[[], requests.Response]
                  ) -> requests.Response:
        """Repeat ``call`` while it raises CloudUnavailable."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(errors.CloudUnavailable),
            wait=_wait, stop=tenacity.stop_after_delay(self._patience),
            sleep=self._pause, reraise=True)
        return retrying(call)


def created(answer: requests.Response, doing: str) -> Json:
    """The body of the answer to a create.

    :raises AmbiguousCreate: it cannot be read, though something was made.
    """
    try:
        return _json(answer, doing)
    except errors.CloudUnavailable as exc:
        raise errors.AmbiguousCreate(exc.message, hint=exc.hint,
                                     request_id=exc.request_id) from exc


def cloud_failures() -> tuple[type[Exception], ...]:
    """Every exception that the SDK and what is below it raise."""
    return (*cloud_errors.CONNECTION_FAILURES,
            cloud_errors.ks.ClientException, cloud_errors.sdk.SDKException,
            requests.RequestException)


def _wait(state: tenacity.RetryCallState) -> float:
    """0.25 s doubled each time, jittered, or what Retry-After says."""
    grown = min(_LONGEST_PAUSE, 0.25 * 2 ** (state.attempt_number - 1))
    jittered = grown * random.uniform(0.7, 1.3)     # noqa: S311
    outcome = state.outcome
    exc = outcome.exception() if outcome else None
    asked = exc.retry_after if isinstance(exc, errors.CloudError) else 0.0
    return max(jittered, asked)


def _retry_after(value: str | None) -> float:
    """Seconds that a Retry-After header asks for; at most a minute."""
    if not value:
        return 0.0
    if value.strip().isdigit():
        return min(60.0, float(value))
    try:
        at = email.utils.parsedate_to_datetime(value).timestamp()
    except ValueError:
        return 0.0
    return min(60.0, max(0.0, at - time.time()))


def _next(body: Json, key: str) -> str | None:
    if body.get('next'):                                # Glance
        return str(body['next'])
    for link in body.get(f'{key}_links', []):           # Cinder
        if link.get('rel') == 'next':
            return str(link['href'])
    return None


def _json(answer: requests.Response, doing: str) -> Json:
    try:
        body = answer.json()
    except ValueError as exc:
        raise errors.CloudUnavailable(
            f'could not {doing}: the answer is not JSON',
            request_id=answer.headers.get('x-openstack-request-id')
        ) from exc
    if not isinstance(body, dict):
        raise errors.CloudUnavailable(
            f'could not {doing}: the answer is no JSON object')
    return body
