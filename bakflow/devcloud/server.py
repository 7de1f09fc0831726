"""The HTTP server: reads requests, applies faults, writes answers.

HTTP/1.1 with keep-alive and chunked request bodies, one thread a connection,
files sent by sendfile. Every request is kept in :class:`RequestLog`.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import http.server
import logging
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from bakflow.devcloud.files import PIECE
from bakflow.devcloud.web import (
    Answer,
    ApiError,
    FileBody,
    Request,
    error_answer,
)

if TYPE_CHECKING:
    from bakflow.devcloud.cloud import DevCloud
    from bakflow.devcloud.faults import Fault

LOG = logging.getLogger(__name__)
_JSON_LIMIT = 4 << 20
_DRAIN = 1 << 16


class Dropped(Exception):
    """The connection is to be closed without an answer, or in mid body."""


@dataclasses.dataclass
class Record:
    """One request in the log; ``status`` is None until there is an answer.

    ``status`` 0: the connection was dropped or the client went away, be it
    in mid body.
    """

    method: str
    service: str
    path: str
    query: str
    range: str | None
    action: str | None
    project: str | None = None
    received: int = 0               #: bytes of the request's body
    sent: int = 0                   #: bytes of the answer's body
    status: int | None = None


class RequestLog:
    """What the cloud was asked, oldest first; the newest 100 000."""

    def __init__(self) -> None:
        self._records: collections.deque[Record] = collections.deque(
            maxlen=100_000)

    def add(self, record: Record) -> None:
        self._records.append(record)

    def __iter__(self) -> Iterator[Record]:
        return iter(list(self._records))

    def __len__(self) -> int:
        return len(self._records)

    def clear(self) -> None:
        self._records.clear()

    def find(self, on: str | None = None, **wanted: Any) -> list[Record]:
        """Those of an operation (``faults.OPERATIONS``) or with values."""
        from bakflow.devcloud.faults import Fault, Faults
        probe = Faults().add('hold', on) if on else Fault('hold')
        return [r for r in self if probe.fits(r)   # type: ignore[arg-type]
                and all(getattr(r, k) == v for k, v in wanted.items())]


def _stops(faults: list[Fault]) -> list[Fault]:
    """The faults that strike in mid body, in the order they do."""
    return sorted((f for f in faults if f.in_body),
                  key=lambda f: f.after_bytes)


def _strike(fault: Fault) -> None:
    """Hold, or drop the connection."""
    if fault.effect == 'drop':
        raise Dropped('a fault was asked for')
    fault.hold()


class _Body:
    """The request's body, by Content-Length or chunked."""

    def __init__(self, stream: Any, length: int | None,
                 chunked: bool) -> None:
        self._stream = stream
        self._left = 0 if chunked else (length or 0)
        self._chunked = chunked
        self._last = not chunked
        self.received = 0
        self.stops: list[Fault] = []

    @property
    def finished(self) -> bool:
        return self._last and not self._left

    def _next_chunk(self) -> None:
        line = self._stream.readline(1024)
        if not line:
            raise Dropped('the client went away in mid body')
        self._left = int(line.split(b';')[0], 16)
        if not self._left:
            self._last = True
            while self._stream.readline(1024) not in (b'\r\n', b'\n', b''):
                continue

    def read(self, amount: int) -> bytes:
        if not self._left and not self._last:
            self._next_chunk()
        if not self._left:
            return b''
        amount = min(amount, self._left)
        if self.stops:
            until = self.stops[0].after_bytes - self.received
            if until <= 0:
                _strike(self.stops.pop(0))
            else:
                amount = min(amount, until)
        data: bytes = self._stream.read(amount)
        if not data:
            raise Dropped('the client went away in mid body')
        self._left -= len(data)
        self.received += len(data)
        if self._chunked and not self._left:
            self._stream.readline(8)
        return data


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = 'HTTP/1.1'
    server_version = 'devcloud'
    sys_version = ''
    disable_nagle_algorithm = True
    rbufsize = 1 << 18
    cloud: DevCloud                 # set by serve()

    def log_message(self, format: str, *args: Any) -> None:
        LOG.debug(format, *args)

    def _request(self) -> tuple[Request, _Body]:
        headers = {k.lower(): v for k, v in self.headers.items()}
        chunked = 'chunked' in headers.get('transfer-encoding', '')
        length = None if chunked else int(headers.get('content-length') or 0)
        parts = urlsplit(self.path)
        service, _, path = parts.path.lstrip('/').partition('/')
        body = _Body(self.rfile, length, chunked)
        request = Request(
            self.command, service, '/' + unquote(path), parts.query, headers,
            self.cloud.url, body, length, f'req-{uuid.uuid4()}')
        streamed = headers.get('content-type') == 'application/octet-stream'
        if not streamed and not chunked and length and length <= _JSON_LIMIT:
            while not body.finished:
                request.content += body.read(length)
        return request, body

    def _run(self) -> None:
        request, body = self._request()
        record = Record(self.command, request.service, request.path,
                        request.query, request.headers.get('range'),
                        request.action)
        self.cloud.requests.add(record)
        try:
            request.faults = self.cloud.faults.match(request)
            if not body.finished:
                body.stops = _stops(request.faults)
            self._before(request)
            answer = self._answer(request)
            self._after(request.faults)
            record.received = body.received
            if request.token and request.token.project:
                record.project = request.token.project.id
            record.status = answer.status   # before the client can see it
            self._send(request, answer, body, record)
        except (Dropped, ConnectionError):
            record.status, record.received = 0, body.received
            self._hang_up()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _run

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _before(self, request: Request) -> None:
        for fault in request.faults:
            if fault.when == 'before' and fault.effect in ('hold', 'drop'):
                _strike(fault)

    def _after(self, faults: list[Fault]) -> None:
        for fault in faults:
            if fault.when == 'after' and fault.effect in ('hold', 'drop'):
                _strike(fault)

    def _answer(self, request: Request) -> Answer:
        try:
            return self.cloud.answer(request)
        except ApiError as e:
            return error_answer(request, e)
        except (Dropped, ConnectionError):
            raise
        except Exception:
            LOG.exception('%s %s', request.method, request.path)
            return error_answer(request, ApiError(500))

    def _send(self, request: Request, answer: Answer, body: _Body,
              record: Record) -> None:
        with contextlib.ExitStack() as stack:
            source: Any = None
            if isinstance(answer.body, FileBody):
                try:
                    source = stack.enter_context(open(answer.body.path, 'rb'))
                except FileNotFoundError:
                    raise Dropped('the file is gone') from None
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header('x-openstack-request-id', request.request_id)
            if answer.status != 204:
                self.send_header('Content-Length', str(answer.length))
            self.end_headers()
            if answer.length and self.command != 'HEAD':
                self._send_body(request.faults, answer, source, record)
        if not body.finished and not self._drained(body):
            # As the real servers: a body not read ends the connection.
            self._hang_up()

    def _drained(self, body: _Body) -> bool:
        """Read what little is left of the body, at most 64 KiB.

        More is read only lest the answer be lost to a reset.
        """
        with contextlib.suppress(OSError, Dropped, ValueError):
            left = _DRAIN
            while left > 0 and not body.finished:
                left -= len(body.read(left))
            if body.finished:
                return True
            self.connection.settimeout(0.5)
            left = 64 * _DRAIN
            while left > 0 and not body.finished:
                left -= len(body.read(_DRAIN))
        return False

    def _send_body(self, faults: list[Fault], answer: Answer, source: Any,
                   record: Record) -> None:
        stops = _stops(faults)
        slow = [f.rate for f in faults if f.effect == 'slow']
        if self.cloud.send_rate:
            slow.append(self.cloud.send_rate)
        rate = min(slow) if slow else None
        for fault in stops:
            self._send_run(answer, source, record,
                           min(fault.after_bytes, answer.length), rate)
            _strike(fault)
        self._send_run(answer, source, record, answer.length, rate)

    def _send_run(self, answer: Answer, source: Any, record: Record,
                  end: int, rate: float | None) -> None:
        """Send the body up to byte ``end``."""
        if isinstance(answer.body, bytes):
            self.wfile.write(answer.body[record.sent:end])
            record.sent = max(end, record.sent)
            return
        piece = PIECE if rate is None else max(1, min(PIECE, int(rate / 20)))
        while record.sent < end:
            amount = min(piece, end - record.sent)
            done = self._send_piece(source, answer.body, record.sent, amount)
            record.sent += done
            if rate is not None:
                time.sleep(done / rate)

    def _send_piece(self, source: Any, body: FileBody, sent: int,
                    amount: int) -> int:
        done = self.connection.sendfile(source, body.offset + sent, amount)
        if not done:
            raise Dropped('the file is shorter than it was')
        return done


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        LOG.debug('connection of %s failed', client_address, exc_info=True)


class Listener:
    """The listening socket and its threads."""

    def __init__(self, cloud: DevCloud, port: int) -> None:
        handler = type('CloudHandler', (Handler,), {'cloud': cloud})
        self._server = _Server(('127.0.0.1', port), handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True,
            name='devcloud')

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and close what is open."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._server.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
