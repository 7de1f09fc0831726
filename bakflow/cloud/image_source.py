"""Images as sources of the store: the bytes of the disk that they hold."""

from __future__ import annotations

from collections.abc import Iterator

from bakflow import errors
from bakflow.cloud.reader import ImageReader
from bakflow.qcow2.reader import Extent, Qcow2Image


class RawImageSource:
    """A raw image: its bytes are those of the disk.

    Owns the reader. ``size`` is in bytes.
    """

    def __init__(self, reader: ImageReader) -> None:
        self._reader = reader
        self.size = reader.size

    def extents(self, start: int) -> Iterator[tuple[int, int, bool]]:
        """All of it may hold data."""
        if start < self.size:
            yield start, self.size - start, True

    def readinto(self, offset: int, view: memoryview) -> None:
        """Fill all of ``view``; raises as :meth:`ImageReader.readinto`."""
        self._reader.readinto(offset, view)

    def cancel(self) -> None:
        """Make a read that waits raise soon."""
        self._reader.cancel()

    def close(self) -> None:
        """End the open request."""
        self._reader.close()


class Qcow2ImageSource:
    """A qcow2 image: its bytes lie where its tables say.

    Tables are fetched when they are needed, one ranged request for each
    512 MiB of disk that holds data. Owns the reader.

    :raises Qcow2Error: the image cannot be backed up.
    """

    def __init__(self, reader: ImageReader) -> None:
        self._reader = reader
        self._image = Qcow2Image.open(reader.pread, reader.size)
        self.size = self._image.size
        self._cursor: Iterator[Extent] = iter(())
        self._extent = Extent(0, 0, None)

    def extents(self, start: int) -> Iterator[tuple[int, int, bool]]:
        """What the tables say: clusters, or zeros."""
        for extent in self._image.extents(start):
            yield (extent.offset, extent.length,
                   extent.host_offset is not None)

    def readinto(self, offset: int, view: memoryview) -> None:
        """Fill all of ``view``; raises as :meth:`ImageReader.readinto`."""
        if offset < 0 or offset + len(view) > self.size:
            raise errors.SourceChanged(
                f'the disk of {self._reader.image} has {self.size} bytes; '
                f'{offset + len(view)} were asked for')
        done = 0
        while done < len(view):
            extent = self._at(offset + done)
            into = offset + done - extent.offset
            count = min(extent.length - into, len(view) - done)
            part = view[done:done + count]
            if extent.host_offset is None:
                part[:] = bytes(count)
            else:
                self._reader.readinto(extent.host_offset + into, part)
            done += count

    def cancel(self) -> None:
        """Make a read that waits raise soon."""
        self._reader.cancel()

    def close(self) -> None:
        """End the open request."""
        self._reader.close()

    def _at(self, offset: int) -> Extent:
        """The extent with this byte; cheap when offsets grow."""
        held = self._extent
        if offset < held.offset or not held.length:
            self._cursor = self._image.extents(offset)
            held = next(self._cursor)
        while offset >= held.offset + held.length:
            held = next(self._cursor)
        self._extent = held
        return held
