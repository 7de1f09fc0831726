"""The backup that a restore reads, and its disk as a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from bakflow import store
from bakflow.tasks.context import StepContext

GIB = 1 << 30


class Saved:
    """A backup in its store: bytes and document, both authenticated."""

    def __init__(self, ctx: StepContext) -> None:
        request = ctx.request
        domain = ctx.targets.open(request['target']).domain(ctx.project_id)
        self.reader: store.Reader = domain.reader(request['backup_id'])

    @property
    def size(self) -> int:
        """Bytes of the disk."""
        return self.reader.head.sizes[0]

    @property
    def document(self) -> dict[str, Any]:
        """What was saved of the volume beside its bytes."""
        return self.reader.head.document

    @property
    def size_gib(self) -> int:
        """GiB of a volume that holds the disk."""
        return int(self.document.get('size_gib') or -(-self.size // GIB))

    def extents(self) -> Iterator[tuple[int, int]]:
        """What of the disk holds data."""
        return self.reader.extents(0)


class Forward:
    """Reads a disk at offsets that only grow, zeros included.

    Close it: it holds buffers and threads of the store.

    :param waiting: called now and then while nothing comes; may raise.
    """

    def __init__(self, reader: store.Reader,
                 waiting: Callable[[], None]) -> None:
        self._runs = reader.stream(0, waiting=waiting)
        self._at = 0
        self._view = memoryview(b'')
        self._over = False

    def read(self, offset: int, length: int) -> bytearray:
        """Bytes of the disk.

        :raises StoreCorrupt: names the object and the bytes that it hits.
        """
        out = bytearray(length)
        end = offset + length
        while not self._over:
            low = max(offset, self._at)
            high = min(end, self._at + len(self._view))
            if low < high:
                out[low - offset:high - offset] = (
                    self._view[low - self._at:high - self._at])
            if self._at + len(self._view) > end or self._at >= end:
                break
            self._next()
        return out

    def _next(self) -> None:
        try:
            self._at, self._view = next(self._runs)
        except StopIteration:
            self._over = True

    def close(self) -> None:
        """Give everything back."""
        close = getattr(self._runs, 'close', None)
        if close is not None:
            close()
