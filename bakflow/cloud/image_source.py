"""Images as sources of the store: the bytes of the disk that they hold."""

from __future__ import annotations

from collections.abc import Iterator

from bakflow import errors
from bakflow.cloud.reader import ImageReader
from bakflow.qcow2.reader import Extent, Qcow2Image

#: Extents of data are told at this length, however much follows.
_RUN = 64 << 20

#: What is read of a compressed image at once, and what of it is kept behind.
_WINDOW, _KEPT = 4 << 20, 1 << 20


def open_source(reader: ImageReader, disk_size: int
                ) -> RawImageSource | Qcow2ImageSource:
    """The source that fits the image's format.

    Cinder's file-based drivers, and any upload as qcow2, look at the content
    of a volume to guess its format (measured on Cinder 29): of a disk that
    begins like a vmdk, vhdx or qcow2 image they hand out the disk inside it.
    That is only seen when its size differs, so it is always checked.

    :param disk_size: of the volume that the image was made from, in bytes.
    :raises ResourceFailed: the disk of the image has another size.
    :raises Qcow2Error: the image cannot be backed up.
    """
    source: RawImageSource | Qcow2ImageSource
    if reader.image.details.get('disk_format') == 'qcow2':
        source = Qcow2ImageSource(reader)
    else:
        source = RawImageSource(reader)
    if source.size != disk_size:
        source.close()
        raise errors.ResourceFailed(
            f'{reader.image} holds a disk of {source.size} bytes where the '
            f'volume has {disk_size}: Cinder took the content of the volume '
            f'for a disk image', resource=str(reader.image),
            hint='the services cannot copy this volume as it is; back up '
                 'what it holds from within')
    return source


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
        self._window = _Window(reader)

    def extents(self, start: int) -> Iterator[tuple[int, int, bool]]:
        """What the tables say: data, or zeros."""
        begin, end, data = start, start, False
        for extent in self._image.extents(start):
            has_data = extent.host_offset is not None
            if end > begin and (has_data != data or end - begin >= _RUN):
                yield begin, end - begin, data
                begin = end
            end, data = extent.offset + extent.length, has_data
        if end > begin:
            yield begin, end - begin, data

    def readinto(self, offset: int, view: memoryview) -> None:
        """Fill all of ``view``; raises as :meth:`ImageReader.readinto`, and
        Qcow2Error when a compressed cluster is damaged."""
        if offset < 0 or offset + len(view) > self.size:
            raise errors.SourceChanged(
                f'the disk of {self._reader.image} has {self.size} bytes; '
                f'{offset + len(view)} were asked for')
        done = 0
        while done < len(view):
            extent = self._at(offset + done)
            into = offset + done - extent.offset
            count = min(extent.length - into, len(view) - done)
            self._fill(extent, into, view[done:done + count])
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

    def _fill(self, extent: Extent, into: int, view: memoryview) -> None:
        if extent.host_offset is None:
            view[:] = bytes(len(view))
        elif extent.packed is None:
            self._window.readinto(extent.host_offset + into, view)
        else:
            data = self._image.inflate(extent, self._window.get(
                extent.host_offset, extent.packed))
            view[:] = data[into:into + len(view)]


class _Window:
    """The part of the image file that was read last.

    Compressed clusters share sectors with their neighbours, and QEMU's
    threads write them a little out of order: going back for that on a
    stream would open a new request each time.
    """

    def __init__(self, reader: ImageReader) -> None:
        self._reader = reader
        self._buffer = memoryview(b'')      # made when first needed
        self._start = self._end = 0         # in the file

    def get(self, offset: int, length: int) -> memoryview:
        """Bytes of the file, good until the next call."""
        if offset < self._start and self._end:
            return memoryview(self._reader.pread(offset, length))
        if offset + length > self._end:
            self._slide(offset)
        begin = offset - self._start
        return self._buffer[begin:begin + length]

    def readinto(self, offset: int, view: memoryview) -> None:
        """Fill ``view``, what is at hand from the window."""
        held = 0
        if self._start <= offset < self._end:
            held = min(self._end - offset, len(view))
            begin = offset - self._start
            view[:held] = self._buffer[begin:begin + held]
        if held < len(view):
            self._reader.readinto(offset + held, view[held:])

    def _slide(self, offset: int) -> None:
        """Let the window begin a little before ``offset``."""
        if not self._buffer:
            self._buffer = memoryview(bytearray(_WINDOW))
        if offset <= self._end:
            start = max(self._start, offset - _KEPT)
            kept = bytes(self._buffer[start - self._start:
                                      self._end - self._start])
        else:
            start, kept = offset, b''
        self._buffer[:len(kept)] = kept
        self._start, self._end = start, start + len(kept)
        more = min(_WINDOW - len(kept), self._reader.size - self._end)
        self._reader.readinto(
            self._end, self._buffer[len(kept):len(kept) + more])
        self._end += more
