"""Writing a disk to a file or a block device, with its holes.

After a crash the caller goes on at the ``durable`` offset that it was last
told; what lies before is written and synced.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator

from bakflow.store import layout
from bakflow.store.decoding import Decoder, Job
from bakflow.store.layout import CHUNK, SEGMENT
from bakflow.store.model import Progress
from bakflow.store.pages import Sessions
from bakflow.store.reading import Reader, Team, spans
from bakflow.store.space import Space

_SYNC_EVERY = 5.0
_ZEROS = bytes(layout.MIB)
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_NO_PUNCH = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV)


def restore_file(space: Space, reader: Reader, disk: int, fd: int, *,
                 start: int, observe: Callable[[Progress], None]) -> None:
    """Write a disk; synced when this returns.

    :param fd: open for writing. A file is made as long as the disk; in one
        that is not empty, what must be zero is made so.
    :param start: offset up to which an earlier call had come.
    :param observe: called with the progress at least twice a second; what
        it raises stops the writing.
    :raises StoreCorrupt: names the object and the bytes that it hits.
    :raises OSError: of the file.
    """
    size = reader.head.disks[disk].size
    with _Target(fd, size) as target:
        target.prepare()
        _Restore(space, reader, disk, target, observe).run(start)


class _Target:
    """The file: O_DIRECT where it takes it, punched where it must be."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size
        self.fresh = False
        self._punch = True
        self._flags = fcntl.fcntl(fd, fcntl.F_GETFL)

    def __enter__(self) -> _Target:
        try:
            fcntl.fcntl(self.fd, fcntl.F_SETFL, self._flags | os.O_DIRECT)
        except OSError:
            self._buffered()
        return self

    def __exit__(self, *exc: object) -> None:
        self._buffered()

    def _buffered(self) -> None:
        fcntl.fcntl(self.fd, fcntl.F_SETFL, self._flags)

    def prepare(self) -> None:
        """Give the file its length."""
        found = os.fstat(self.fd)
        if not stat.S_ISREG(found.st_mode):
            return
        self.fresh = found.st_size == 0 or found.st_blocks == 0
        if found.st_size != self.size:
            os.ftruncate(self.fd, self.size)

    def write(self, view: memoryview, offset: int) -> None:
        """Write all; called from several threads."""
        done = 0
        while done < len(view):
            try:
                done += os.pwrite(self.fd, view[done:], offset + done)
            except OSError as exc:
                flags = fcntl.fcntl(self.fd, fcntl.F_GETFL)
                if exc.errno != errno.EINVAL or not flags & os.O_DIRECT:
                    raise
                self._buffered()    # the tail, or a picky file system

    def zero(self, offset: int, length: int) -> None:
        """Make a stretch read as zeros."""
        if self.fresh or length <= 0:
            return
        if self._punch and _fallocate(self.fd, offset, length):
            return
        self._punch = False
        while length:
            step = min(length, len(_ZEROS) - offset % len(_ZEROS))
            self.write(memoryview(_ZEROS)[:step], offset)
            offset += step
            length -= step


def _fallocate(fd: int, offset: int, length: int) -> bool:
    """Punch a hole; False when the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    call = getattr(libc, 'fallocate64', None) or libc.fallocate
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64,
                     ctypes.c_int64]
    if call(fd, _PUNCH_HOLE | _KEEP_SIZE, offset, length) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NO_PUNCH:
        return False
    raise OSError(code, os.strerror(code))


class _Restore:
    """One run: threads write segments, this thread keeps the order."""

    def __init__(self, space: Space, reader: Reader, disk: int,
                 target: _Target,
                 observe: Callable[[Progress], None]) -> None:
        self._space = space
        self._reader = reader
        self._disk = disk
        self._target = target
        self._observe = observe
        self._position = self._durable = self._written = 0
        self._synced_at = time.monotonic()

    def run(self, start: int) -> None:
        start -= start % SEGMENT
        self._position = self._durable = start
        sessions = Sessions('')
        size = self._target.size
        with Team(self._space, sessions, self._tell) as team:
            todo = self._reader.jobs(self._disk, sessions, start, size)
            for job, count, _ in team.run(self._work, self._zeroing(
                    todo, start)):
                self._position = min((job.segment + 1) * SEGMENT, size)
                self._written += count
                self._sync(_SYNC_EVERY)
                self._tell()
        self._position = size
        self._sync(0)
        self._tell()

    def _zeroing(self, todo: Iterator[Job], start: int) -> Iterator[Job]:
        """Zero what lies between the jobs, before they are started."""
        at = start
        for job in todo:
            base = job.segment * SEGMENT
            for first, last in spans(job):
                self._target.zero(at, base + first * CHUNK - at)
                at = base + last * CHUNK
            yield job
        self._target.zero(at, self._target.size - at)

    def _work(self, decoder: Decoder, job: Job, out: memoryview) -> int:
        self._reader.decode(decoder, self._disk, job, out)
        base = job.segment * SEGMENT
        count = 0
        for first, last in spans(job):
            end = min(last * CHUNK, self._target.size - base)
            with out[first * CHUNK:end] as view:
                self._target.write(view, base + first * CHUNK)
            count += end - first * CHUNK
        return count

    def _sync(self, every: float) -> None:
        if time.monotonic() - self._synced_at < every:
            return
        os.fsync(self._target.fd)
        self._durable = self._position
        self._synced_at = time.monotonic()

    def _tell(self) -> None:
        self._observe(Progress(
            self._target.size, self._position, read=self._written,
            skipped=self._position - self._written, durable=self._durable))
