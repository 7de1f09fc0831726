"""What a disk is read from.

A source gives the same bytes however often it is asked; a flow that goes on
after a crash reads from a new source of the same disk.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Protocol

from bakflow import errors
from bakflow.store import layout


class Source(Protocol):
    """A disk to store. ``size`` is in bytes.

    ``extents`` and ``readinto`` are called from one thread, ``cancel`` from
    another. Offsets of ``readinto`` only ever grow.
    """

    size: int

    def extents(self, start: int) -> Iterator[tuple[int, int, bool]]:
        """Offset, length, has-data from ``start`` to the end: no gaps.

        What has no data is known to read as zeros.
        """

    def readinto(self, offset: int, view: memoryview) -> None:
        """Fill all of ``view`` with the bytes from ``offset`` on."""

    def cancel(self) -> None:
        """Make a ``readinto`` that waits raise soon; it is not called again.

        A source whose reads cannot hang has nothing to do here.
        """


class FileSource:
    """A file or block device; its holes are not read.

    :param fd: an open descriptor; stays the caller's.
    :param size: bytes to take; default is all.
    """

    def __init__(self, fd: int, size: int | None = None) -> None:
        self._fd = fd
        self.size = os.lseek(fd, 0, os.SEEK_END) if size is None else size

    def extents(self, start: int) -> Iterator[tuple[int, int, bool]]:
        """Data and holes as the file system knows them."""
        while start < self.size:
            data = self._seek(start, os.SEEK_DATA)
            if data > start:
                yield start, data - start, False
            end = self._seek(data, os.SEEK_HOLE) if data < self.size else data
            if end > data:
                yield data, end - data, True
            start = end

    def _seek(self, start: int, whence: int) -> int:
        try:
            return min(self.size, os.lseek(self._fd, start, whence))
        except OSError as exc:
            if exc.errno == errno.ENXIO:        # only a hole is left
                return self.size
            # No such seeking here: everything counts as data.
            return start if whence == os.SEEK_DATA else self.size

    def readinto(self, offset: int, view: memoryview) -> None:
        """Read, however short the single reads are."""
        done = 0
        while done < len(view):
            count = os.preadv(self._fd, [view[done:]], offset + done)
            if not count:
                raise errors.SourceChanged(
                    f'the file ends at byte {offset + done}, not at '
                    f'{self.size}')
            done += count

    def cancel(self) -> None:
        """Reading a file does not wait."""


class Plan:
    """Cuts a source's extents into segments.

    Yields ``(segment, count, None)`` for ``count`` segments of nothing but
    holes, and ``(segment, 1, pieces)`` with the pieces ``(offset, length,
    has data)`` that fill one segment.
    """

    def __init__(self, source: Source, start: int) -> None:
        self._source = source
        self._start = start

    def __iter__(self) -> Iterator[
            tuple[int, int, list[tuple[int, int, bool]] | None]]:
        pos, size = self._start, self._source.size
        pieces: list[tuple[int, int, bool]] = []
        for offset, length, data in self._source.extents(pos):
            if offset != pos or length <= 0 or pos + length > size:
                raise errors.StoreError(
                    f'the source tells of {length} bytes at {offset} where '
                    f'those from {pos} of {size} were asked for')
            end = pos + length
            while pos < end:
                seg = pos // layout.SEGMENT
                if not pieces and not data and pos % layout.SEGMENT == 0:
                    whole = (end - pos) // layout.SEGMENT
                    if end == size:
                        whole = layout.segments(end) - seg
                    if whole:
                        yield seg, whole, None
                        pos = min(end, (seg + whole) * layout.SEGMENT)
                        continue
                stop = min(end, (seg + 1) * layout.SEGMENT)
                pieces.append((pos, stop - pos, data))
                pos = stop
                if pos % layout.SEGMENT == 0 or pos == size:
                    yield seg, 1, pieces
                    pieces = []
        if pos != size:
            raise errors.StoreError(
                f'the source tells of {pos} bytes only, not of {size}')


def spans(pieces: list[tuple[int, int, bool]]) -> list[tuple[int, int]]:
    """First chunk, and the one behind the last, of what may hold data."""
    start = pieces[0][0]
    out: list[tuple[int, int]] = []
    for offset, length, data in pieces:
        if data:
            first = (offset - start) // layout.CHUNK
            last = layout.chunks(offset - start + length)
            if out and first <= out[-1][1]:
                first = out.pop()[0]
            out.append((first, last))
    return out
