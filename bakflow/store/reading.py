"""Reading a backup: in order, in parallel, every frame authenticated.

Nothing is written to the store; a crash of a reader leaves nothing.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from bakflow import errors
from bakflow.store import buffers, layout
from bakflow.store.decoding import (
    PACK_CACHE,
    Decoder,
    Job,
    PackCache,
    PageDamage,
    jobs,
    runs,
)
from bakflow.store.layout import CHUNK, SEGMENT, ZERO_REF
from bakflow.store.model import Head
from bakflow.store.pages import Sessions
from bakflow.store.space import Space

THREADS = 2
WINDOW = 4
_TICK = 0.5
#: Bytes of buffers that a running read holds.
MEMORY = WINDOW * SEGMENT + THREADS * 4 * SEGMENT + PACK_CACHE

T = TypeVar('T')
Work = Callable[[Decoder, Job, memoryview], T]


class Team:
    """A few threads that decode segments; results come in order.

    To be used in a ``with``: at its end no thread is left and the budget is
    given back.
    """

    def __init__(self, space: Space, sessions: Sessions,
                 waiting: Callable[[], None] = lambda: None) -> None:
        self._space = space
        self._sessions = sessions
        self._waiting = waiting
        self._local = threading.local()
        self._cache = PackCache(PACK_CACHE)

    def __enter__(self) -> Team:
        buffers.tune_malloc()
        with contextlib.ExitStack() as stack:
            stack.enter_context(buffers.default.take(MEMORY, self._waiting))
            self._free = deque(buffers.make(SEGMENT) for _ in range(WINDOW))
            self._pool = ThreadPoolExecutor(
                THREADS, thread_name_prefix='bakflow-decode')
            stack.callback(self._pool.shutdown, cancel_futures=True)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def run(self, work: Work[T], todo: Iterator[Job]) -> Iterator[
            tuple[Job, T, memoryview]]:
        """Do ``work`` for each job; the memory is valid until the next."""
        busy: deque[tuple[Job, Future[T], mmap.mmap]] = deque()
        while True:
            while self._free:
                job = next(todo, None)
                if job is None:
                    break
                buffer = self._free.popleft()
                busy.append((job, self._pool.submit(
                    self._do, work, job, buffer), buffer))
            if not busy:
                return
            job, future, buffer = busy.popleft()
            result = self._wait(future)
            yield job, result, memoryview(buffer)
            self._free.append(buffer)

    def _do(self, work: Work[T], job: Job, buffer: mmap.mmap) -> T:
        decoder = getattr(self._local, 'decoder', None)
        if decoder is None:
            decoder = self._local.decoder = Decoder(
                self._space, self._sessions, self._cache)
        with memoryview(buffer) as out:
            return work(decoder, job, out)

    def _wait(self, future: Future[T]) -> T:
        while not wait([future], timeout=_TICK).done:
            self._waiting()
        return future.result()


def located(error: errors.StoreCorrupt, backup: str, disk: int, offset: int,
            length: int) -> errors.StoreCorrupt:
    """The error, with what of which disk it hits."""
    return errors.StoreCorrupt(
        f'{error.message}; this hits {length} bytes at offset {offset} of '
        f'disk {disk} of backup {backup}',
        hint=error.hint, resource=error.resource)


class Reader:
    """Reads the disks of one backup."""

    def __init__(self, space: Space, head: Head) -> None:
        self.head = head
        self._space = space

    def _runs(self, disk: int, sessions: Sessions, start: int,
              end: int) -> Iterator[tuple[int, int, int]]:
        """Runs clipped to chunks ``start`` to ``end``."""
        for run in runs(self._space, self.head.disks[disk], sessions, start,
                        end):
            if isinstance(run, PageDamage):
                raise located(run.error, self.head.backup_id, disk,
                              run.first * CHUNK, run.length * CHUNK)
            first, length, ref = run
            if first >= end:
                return
            skip = max(0, start - first)
            length = min(length, end - first) - skip
            yield first + skip, length, (
                ref if ref == ZERO_REF else ref + skip)

    def extents(self, disk: int) -> Iterator[tuple[int, int]]:
        """Offset and length, in bytes, of what holds data, in order.

        :raises StoreCorrupt: a page cannot be read.
        """
        size = self.head.disks[disk].size
        begun = ended = 0
        for first, length, ref in self._runs(
                disk, Sessions(''), 0, layout.chunks(size)):
            if ref == ZERO_REF:
                continue
            if first != ended:
                if ended > begun:
                    yield begun * CHUNK, (ended - begun) * CHUNK
                begun = first
            ended = first + length
        if ended > begun:
            yield begun * CHUNK, min(ended * CHUNK, size) - begun * CHUNK

    def jobs(self, disk: int, sessions: Sessions, start: int,
             end: int) -> Iterator[Job]:
        """What to decode between two offsets."""
        return jobs(self._runs(disk, sessions, start // CHUNK,
                               layout.chunks(end)))

    def stream(self, disk: int, start: int = 0, end: int | None = None, *,
               waiting: Callable[[], None] = lambda: None) -> Iterator[
                   tuple[int, memoryview]]:
        """Offset and bytes of all data between two offsets, in order.

        What lies between is zeros. A run is at most a segment long, and its
        memory is valid until the next is asked for. Close the generator to
        stop early.

        :param waiting: called now and then while nothing comes.
        :raises StoreCorrupt: names the object and the bytes that it hits.
        """
        size = self.head.disks[disk].size
        end = size if end is None else min(end, size)
        if start >= end:
            return
        sessions = Sessions('')

        def work(decoder: Decoder, job: Job, out: memoryview) -> None:
            self.decode(decoder, disk, job, out)

        with Team(self._space, sessions, waiting) as team:
            for job, _, view in team.run(
                    work, self.jobs(disk, sessions, start, end)):
                base = job.segment * SEGMENT
                for first, last in spans(job):
                    low = max(first * CHUNK, start - base)
                    high = min(last * CHUNK, end - base)
                    yield base + low, view[low:high]

    def decode(self, decoder: Decoder, disk: int, job: Job,
               out: memoryview) -> None:
        """Decode one segment.

        :raises StoreCorrupt: at the first damage.
        """
        def bad(error: errors.StoreCorrupt,
                places: list[tuple[int, int]]) -> None:
            at, length = places[0]
            raise located(error, self.head.backup_id, disk,
                          job.segment * SEGMENT + at * CHUNK,
                          length * CHUNK)

        decoder.decode(job, out, bad)

    def read(self, disk: int, offset: int, length: int) -> bytes:
        """Bytes of a disk, zeros included; fewer at its end."""
        end = min(offset + length, self.head.disks[disk].size)
        out = bytearray(max(0, end - offset))
        for at, data in self.stream(disk, offset, end):
            out[at - offset:at - offset + len(data)] = data
        return bytes(out)

    def restore_file(self, disk: int, fd: int, *, start: int = 0,
                     observe: Callable[..., None] = lambda _: None) -> None:
        """Write a disk to a file or block device; see :mod:`.restoring`."""
        from bakflow.store.restoring import restore_file
        restore_file(self._space, self, disk, fd, start=start,
                     observe=observe)


def spans(job: Job) -> Iterator[tuple[int, int]]:
    """Begin and end, in chunks, of what holds data, joined."""
    begin = end = job.pieces[0].at
    for piece in job.pieces:
        if piece.at != end:
            yield begin, end
            begin = piece.at
        end = piece.at + piece.length
    yield begin, end
