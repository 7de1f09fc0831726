"""Requests, answers and routes of the simulated services.

The three services report errors in three ways (JSON with a fault's name,
HTML, JSON with ``error``), as the real ones do: see :func:`error_answer`.
"""

from __future__ import annotations

import dataclasses
import html
import http
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from bakflow.devcloud.faults import Fault
    from bakflow.devcloud.state import Token

_CINDER_FAULTS = {400: 'badRequest', 401: 'unauthorized', 403: 'forbidden',
                  404: 'itemNotFound', 405: 'badMethod',
                  409: 'conflictingRequest', 413: 'overLimit',
                  415: 'badMediaType', 429: 'overLimit',
                  501: 'notImplemented', 503: 'serviceUnavailable'}

_TITLES = {413: 'Request Entity Too Large', 415: 'Unsupported Media Type',
           416: 'Request Range Not Satisfiable'}

_EXPLAIN = {
    403: 'Access was denied to this resource.',
    404: 'The resource could not be found.',
    409: 'There was a conflict when trying to complete your request.',
    415: 'The request media type {type} is not supported by this server.\n',
    416: 'The Range requested is not available.',
}


class Body(Protocol):
    """The body of a request; ``read`` gives b'' at its end."""

    def read(self, amount: int) -> bytes: ...


class ApiError(Exception):
    """An answer other than success, put in words by the service's custom.

    ``detail`` is Glance's second paragraph, after its standard sentence.
    """

    def __init__(self, status: int, message: str = '', *,
                 detail: str = '',
                 headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.detail = detail
        self.headers = headers or {}


@dataclasses.dataclass
class FileBody:
    """Bytes of a file as the body of an answer."""

    path: str
    offset: int
    length: int


@dataclasses.dataclass
class Answer:
    status: int = 200
    body: bytes | FileBody = b''
    headers: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def length(self) -> int:
        if isinstance(self.body, FileBody):
            return self.body.length
        return len(self.body)


def json_answer(data: Any, status: int = 200,
                headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, json.dumps(data).encode(),
                  {'Content-Type': 'application/json', **(headers or {})})


@dataclasses.dataclass
class Request:
    """One request as a handler sees it."""

    method: str
    service: str                    #: identity, volume, image, devcloud
    path: str                       #: below the service, starts with /
    query: str
    headers: dict[str, str]         #: names in lower case
    host: str                       #: scheme, host and port
    stream: Body
    length: int | None              #: of the body; None when chunked
    request_id: str
    content: bytes = b''            #: the body, when it is JSON
    faults: list[Fault] = dataclasses.field(default_factory=list)
    token: Token | None = None
    version: tuple[int, int] = (3, 0)
    groups: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def params(self) -> list[tuple[str, str]]:
        return parse_qsl(self.query, keep_blank_values=True)

    def param(self, name: str, default: str | None = None) -> str | None:
        found = [v for k, v in self.params if k == name]
        return found[-1] if found else default

    @property
    def url(self) -> str:
        """The service's root as the client knows it."""
        return f'{self.host}/{self.service}'

    @property
    def caller(self) -> Token:
        if self.token is None:
            raise ApiError(401)
        return self.token

    @property
    def project_id(self) -> str:
        project = self.caller.project
        if project is None:
            raise ApiError(401)
        return project.id

    def json(self) -> Any:
        try:
            return json.loads(self.content)
        except ValueError:
            raise ApiError(400, 'Malformed request body') from None

    @property
    def action(self) -> str | None:
        """The name of the action that a POST to /action asks for."""
        if not self.path.endswith('/action') or not self.content:
            return None
        try:
            data = json.loads(self.content)
        except ValueError:
            return None
        return next(iter(data), None) if isinstance(data, dict) else None


Handler = Callable[[Any, Request], Answer]


@dataclasses.dataclass(frozen=True)
class Route:
    method: str
    pattern: re.Pattern[str]
    handler: Handler


def route(method: str, path: str, handler: Handler) -> Route:
    """A route; ``{name}`` in the path is one segment."""
    pattern = re.sub(r'\{(\w+)\}', r'(?P<\1>[^/]+)', path)
    return Route(method, re.compile(f'^{pattern}$'), handler)


def dispatch(routes: list[Route], request: Request, path: str,
             cloud: Any) -> Answer | None:
    """The answer of the first route that fits; None when no path fits.

    :raises ApiError: 405 when the path is known with other methods.
    """
    allowed = set()
    for item in routes:
        match = item.pattern.match(path)
        if match is None:
            continue
        if item.method == request.method:
            request.groups = match.groupdict()
            return item.handler(cloud, request)
        allowed.add(item.method)
    if allowed:
        raise ApiError(405, f'The method {request.method} is not allowed for '
                       'this resource. ',
                       headers={'Allow': ', '.join(sorted(allowed))})
    return None


def title(status: int) -> str:
    return _TITLES.get(status) or http.HTTPStatus(status).phrase


def error_answer(request: Request, error: ApiError) -> Answer:
    """An error as the service in question words it."""
    status = error.status
    if request.service == 'image' or (
            request.service == 'volume' and status in (404, 405)
            and not error.message):
        return html_answer(error, request.headers.get('content-type', ''))
    message = error.message
    if status == 401:
        message = 'The request you have made requires authentication.'
    data: dict[str, Any]
    if request.service == 'volume' and status != 401:
        message = message or _EXPLAIN.get(status, title(status))
        fault: dict[str, Any] = {'code': status, 'message': message}
        if status in (413, 429):
            fault['retryAfter'] = error.headers.get('Retry-After', '0')
        data = {_CINDER_FAULTS.get(status, 'computeFault'): fault}
    else:
        data = {'error': {'code': status, 'title': title(status),
                          'message': message or title(status)}}
    return json_answer(data, status, error.headers)


def html_answer(error: ApiError, media_type: str) -> Answer:
    """An error as WebOb writes it for Glance."""
    head = f'{error.status} {title(error.status)}'
    text = error.message or _EXPLAIN.get(error.status, '')
    if error.status == 401:
        text = ('This server could not verify that you are authorized to '
                'access the document you requested. Either you supplied the '
                'wrong credentials (e.g., bad password), or your browser '
                'does not understand how to supply the credentials required.')
    text = html.escape(text.replace('{type}', media_type))
    page = (f'<html>\n <head>\n  <title>{head}</title>\n </head>\n <body>\n'
            f'  <h1>{head}</h1>\n  {text}<br /><br />\n'
            f'{html.escape(error.detail)}\n\n\n </body>\n</html>')
    return Answer(error.status, page.encode(),
                  {'Content-Type': 'text/html; charset=UTF-8',
                   **error.headers})
