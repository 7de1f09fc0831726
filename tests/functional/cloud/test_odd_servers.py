"""Image services that answer ranges in their own way.

A small server of its own: the simulated cloud is as correct as Glance 33.
"""

from __future__ import annotations

import http.server
import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from keystoneauth1 import adapter, noauth
from keystoneauth1 import session as ks_session

from bakflow import errors
from bakflow.cloud import reader, rest
from bakflow.cloud.resources import Resource

DATA = os.urandom(3 << 20)

#: Gives status, headers and body for (offset, number of the request).
Answer = Callable[[int, int], tuple[int, dict[str, str], bytes]]


class Odd:
    def __init__(self) -> None:
        self.answer: Answer = lambda offset, number: (200, {}, DATA)
        self.asked: list[str | None] = []


@pytest.fixture
def odd() -> Odd:
    return Odd()


@pytest.fixture
def opened(odd: Odd) -> Iterator[reader.ImageReader]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def do_GET(self) -> None:       # noqa: N802
            asked = self.headers.get('Range')
            odd.asked.append(asked)
            offset = int(asked[6:].split('-')[0]) if asked else 0
            status, headers, body = odd.answer(offset, len(odd.asked))
            self.send_response(status)
            length = headers.pop('Content-Length', str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header('Content-Length', length)
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                self.close_connection = True
            if int(length) != len(body):
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            """Not on the terminal."""

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None   # type: ignore[assignment]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f'http://127.0.0.1:{server.server_address[1]}'
    api = rest.Api(adapter.Adapter(
        ks_session.Session(auth=noauth.NoAuth(endpoint=url), timeout=3),
        endpoint_override=url),
        pause=lambda s: time.sleep(min(s, 0.01)))
    image = Resource('image', 'i', 'n', 'active', {}, len(DATA), '',
                     {'os_hash_value': 'h'})
    with reader.ImageReader(api, image, lambda id: image) as made:
        yield made
    server.shutdown()
    server.server_close()
    thread.join()


def read(opened: reader.ImageReader, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    opened.readinto(offset, memoryview(buffer))
    return bytes(buffer)


def test_a_server_without_ranges(odd: Odd, opened: reader.ImageReader
                                 ) -> None:
    """What comes before the wanted byte is skipped."""
    assert read(opened, 1 << 20, 1000) == DATA[1 << 20:(1 << 20) + 1000]
    # It is known now: a large gap is skipped too, not asked for anew.
    assert read(opened, (5 << 19) + 7, 10) == DATA[(5 << 19) + 7:][:10]
    assert len(odd.asked) == 1
    assert opened.pread(77, 100) == DATA[77:177]


def test_a_server_without_ranges_that_cuts(
        odd: Odd, opened: reader.ImageReader) -> None:
    odd.answer = lambda offset, number: (
        200, {'Content-Length': str(len(DATA))},
        DATA[:1 << 20] if number == 1 else DATA)
    assert read(opened, 0, len(DATA)) == DATA
    assert len(odd.asked) == 2


def test_another_range_than_asked_for(odd: Odd, opened: reader.ImageReader
                                      ) -> None:
    odd.answer = lambda offset, number: (
        206, {'Content-Range': f'bytes {offset + 1}-9/{len(DATA)}'}, b'x')
    with pytest.raises(errors.SourceChanged, match='answered with range'):
        read(opened, 5, 1)


def test_a_range_of_another_size(odd: Odd, opened: reader.ImageReader
                                 ) -> None:
    odd.answer = lambda offset, number: (
        206, {'Content-Range': f'bytes {offset}-9/10'}, b'x')
    with pytest.raises(errors.SourceChanged):
        read(opened, 5, 1)


@pytest.mark.parametrize('headers', [
    {}, {'Content-Range': f'bytes 5-{len(DATA) - 1}/*'}])
def test_a_range_that_says_little(odd: Odd, opened: reader.ImageReader,
                                  headers: dict[str, str]) -> None:
    odd.answer = lambda offset, number: (206, dict(headers), DATA[offset:])
    assert read(opened, 5, 1000) == DATA[5:1005]


def test_no_data(odd: Odd, opened: reader.ImageReader) -> None:
    odd.answer = lambda offset, number: (204, {}, b'')
    with pytest.raises(errors.ResourceFailed, match='no data'):
        read(opened, 0, 1)


def test_an_end_that_comes_too_early(odd: Odd, opened: reader.ImageReader
                                     ) -> None:
    """A server that says a shorter length is not believed for ever."""
    odd.answer = lambda offset, number: (
        206 if offset else 200, {}, DATA[offset:1 << 20])
    with pytest.raises(errors.CloudError):
        read(opened, 0, len(DATA))
    assert read(opened, 0, 1 << 20) == DATA[:1 << 20]
