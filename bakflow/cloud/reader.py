"""The data of an image, read over HTTP as if it were a file.

One streaming GET is kept open for reads that follow each other, in pieces
of a megabyte or more: measured, small pieces cost several times the CPU. A
stream that is cut is opened again with ``Range`` at the byte where it ended,
after a look whether the image is still the same one. Nothing survives a
crash here: the successor opens a reader and begins at its own offset.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import requests

from bakflow import errors
from bakflow.cloud import errors as cloud_errors
from bakflow.cloud import rest
from bakflow.cloud.resources import Resource

#: A gap up to this is read and dropped; behind a larger one a new request
#: is cheaper.
SKIP = 1 << 20

#: What is taken from the connection at once, at most.
PIECE = 4 << 20

_TRIES = 6              # without a single byte between them
_RANGE = re.compile(r'bytes (\d+)-(\d+)/(\d+|\*)')


class ImageReader:
    """Random and sequential reads of one image.

    ``readinto`` and ``pread`` belong to one thread, ``cancel`` may come from
    another. Use as a context manager, or ``close``.

    :param image: as it was when the upload began; active.
    :param look: gives the image as it is now.
    """

    def __init__(self, glance: rest.Api, image: Resource,
                 look: Callable[[str], Resource]) -> None:
        if image.size_bytes is None:
            raise errors.ResourceFailed(
                f'{image} has no data', resource=str(image),
                hint='its status is ' + image.status)
        self.image = image
        self.size = image.size_bytes
        self._glance = glance
        self._look = look
        self._stream: _Stream | None = None
        self._ranges = True     # the server is taken to know Range
        self._opened = False
        self._cancelled = False
        self._lock = threading.Lock()   # of _stream against cancel

    def __enter__(self) -> ImageReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def readinto(self, offset: int, view: memoryview) -> None:
        """Fill all of ``view`` with the bytes from ``offset`` on.

        :raises SourceChanged: the image is another one than before.
        :raises ResourceVanished: it was deleted.
        :raises CloudUnavailable: several tries in a row brought nothing.
        :raises Interrupted: after :meth:`cancel`.
        """
        self._check(offset, len(view))
        done, failures = 0, 0
        while done < len(view):
            try:
                stream = self._at(offset + done)
                done += stream.readinto(view[done:done + PIECE])
                failures = 0
            except errors.CloudUnavailable as exc:
                self._drop()
                failures = self._after_failure(exc, failures)

    def pread(self, offset: int, length: int) -> bytes:
        """Bytes from anywhere, by a request of their own; the open stream
        stays as it is. Less than ``length`` only at the end of the image.

        For tables, not for data. Raises as :meth:`readinto`.
        """
        length = max(0, min(length, self.size - offset))
        if not length:
            return b''
        failures = 0
        while True:
            self._check(offset, length)
            try:
                stream = self._open(offset, offset + length - 1)
                try:
                    stream.skip(offset - stream.position)
                    return stream.read(length)
                finally:
                    stream.close()
            except errors.CloudUnavailable as exc:
                failures = self._after_failure(exc, failures)

    def cancel(self) -> None:
        """Make a read that waits raise soon. From any thread, any time."""
        self._cancelled = True
        with self._lock:
            if self._stream is not None:
                self._stream.abort()

    def close(self) -> None:
        """End the open request, if any. A read opens a new one."""
        self._drop()

    # -- inside -----------------------------------------------------------

    def _check(self, offset: int, length: int) -> None:
        if self._cancelled:
            raise errors.Interrupted(f'reading {self.image} was cancelled')
        if offset < 0 or offset + length > self.size:
            raise errors.SourceChanged(
                f'{self.image} has {self.size} bytes; {offset + length} were '
                f'asked for', resource=str(self.image))

    def _after_failure(self, exc: errors.CloudUnavailable,
                       failures: int) -> int:
        """Count, pause, or give up with the last error."""
        if self._cancelled:
            raise errors.Interrupted(
                f'reading {self.image} was cancelled') from exc
        if failures + 1 >= _TRIES:
            raise exc
        self._glance.sleep(max(exc.retry_after, 0.2 * 2 ** failures))
        return failures + 1

    def _at(self, offset: int) -> _Stream:
        """An open stream whose next byte is the one at ``offset``."""
        stream = self._stream
        if stream is not None:
            gap = offset - stream.position
            if gap == 0:
                return stream
            if gap > 0 and (gap <= SKIP or not self._ranges):
                stream.skip(gap)
                return stream
            self._drop()
        stream = self._open(offset)
        with self._lock:
            self._stream = stream
        if self._cancelled:
            stream.abort()
        stream.skip(offset - stream.position)
        return stream

    def _open(self, offset: int, last: int | None = None) -> _Stream:
        if self._opened:
            self._still_the_same()
        headers = {'Accept-Encoding': 'identity'}
        if offset or last is not None:
            headers['Range'] = f'bytes={offset}-{"" if last is None else last}'
        answer = self._glance.send(
            'GET', f'/images/{self.image.id}/file', headers=headers,
            stream=True, doing=f'read image {self.image.id}',
            resource=f'image {self.image.id}')
        self._opened = True
        try:
            begin = self._begin(answer, offset)
        except errors.CloudError:
            answer.close()
            raise
        return _Stream(answer, begin, str(self.image))

    def _begin(self, answer: requests.Response, offset: int) -> int:
        """Where the body of an answer begins in the image."""
        if answer.status_code == 200:
            self._ranges = self._ranges and not offset
            return 0
        if answer.status_code == 206:
            found = _RANGE.match(answer.headers.get('Content-Range', ''))
            if not found:
                return offset       # the range that was asked for
            total = found[3]
            if int(found[1]) == offset and total in ('*', str(self.size)):
                return offset
            raise errors.SourceChanged(
                f'{self.image} answered with range {found[0]!r} where byte '
                f'{offset} of {self.size} was asked for',
                resource=str(self.image))
        raise errors.ResourceFailed(
            f'{self.image} has no data (HTTP {answer.status_code})',
            resource=str(self.image))

    def _still_the_same(self) -> None:
        now = self._look(self.image.id)
        before = (self.size, self.image.details['os_hash_value'])
        after = (now.size_bytes, now.details['os_hash_value'])
        if before != after or now.status != self.image.status:
            raise errors.SourceChanged(
                f'{self.image} is not the image any more that the reading '
                f'began with', resource=str(self.image),
                hint='the upload has to begin anew')

    def _drop(self) -> None:
        with self._lock:
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


class _Stream:
    """The body of one answer; ``position`` is that of its next byte."""

    def __init__(self, answer: requests.Response, position: int,
                 name: str) -> None:
        self._answer = answer
        self.position = position
        self._name = name
        self._scratch: bytearray | None = None

    def readinto(self, view: memoryview) -> int:
        """Some bytes, at least one.

        :raises CloudUnavailable: the connection was cut, or ended early.
        """
        try:
            count = self._answer.raw.readinto(view)
        except rest.cloud_failures() as exc:
            raise cloud_errors.from_exception(
                exc, doing=f'go on reading {self._name}',
                resource=self._name) from exc
        except (ValueError, AttributeError, OSError) as exc:
            # What urllib3 raises when the socket goes away under it.
            raise errors.CloudUnavailable(
                f'could not go on reading {self._name}: connection lost',
                resource=self._name) from exc
        if not count:
            raise errors.CloudUnavailable(
                f'the data of {self._name} ended at byte {self.position}',
                resource=self._name, hint='it is tried again from there')
        self.position += count
        return int(count)

    def read(self, length: int) -> bytes:
        """Exactly that much."""
        data = bytearray(length)
        done = 0
        with memoryview(data) as view:
            while done < length:
                done += self.readinto(view[done:])
        return bytes(data)

    def skip(self, count: int) -> None:
        """Read and drop."""
        if not count:
            return
        if self._scratch is None:
            self._scratch = bytearray(SKIP)
        with memoryview(self._scratch) as view:
            while count:
                count -= self.readinto(view[:min(count, SKIP)])

    def abort(self) -> None:
        """Wake a read that waits in another thread."""
        try:
            self._answer.raw.shutdown()
        except (ValueError, RuntimeError, OSError):
            return      # it has ended already: nobody waits

    def close(self) -> None:
        """End it; the connection cannot be used again."""
        self._answer.close()
