"""The threads that turn a disk into packs: a reader, workers, writers.

Segments flow from the reader to whichever worker is free; full packs flow to
a writer; what became of each segment and pack flows to the caller's thread
(:mod:`bakflow.store.writing`), which alone knows the order. Buffers are made
once and go round, and since all of them are counted no queue can grow.
"""

from __future__ import annotations

import mmap
import queue
import threading
import time
from array import array
from collections.abc import Callable
from typing import Any, NamedTuple

import blake3
import zstandard

from bakflow.store import buffers, layout, packs, pages
from bakflow.store.backends.base import ObjectExists
from bakflow.store.history import Base, History, expand
from bakflow.store.layout import CHUNK, ID, SEGMENT, ZERO_ID, ZERO_REF
from bakflow.store.source import Plan, Source, spans
from bakflow.store.space import Space

_ZERO_CHUNK = bytes(CHUNK)
_ZERO_SEGMENT = bytes(SEGMENT)
_IDLE = 0.5
_KNOWN = 64 * 1024


class Stored(NamedTuple):
    """``segments`` are worked on; their packs may still be open.

    ``runs`` is None for zeros; ``packs`` are own packs that they need.
    """

    segment: int
    segments: int
    runs: array[int] | None
    digest: bytes
    packs: tuple[int, ...]
    read: int
    skipped: int
    new: int


class Durable(NamedTuple):
    """A pack of ``size`` bytes is in the store for good."""

    seq: int
    size: int


class Ended(NamedTuple):
    """A thread has done all its work, or failed of ``error``."""

    kind: str
    error: BaseException | None


class Known:
    """Ids stored a while ago: two generations, so memory is bounded."""

    def __init__(self, limit: int = _KNOWN) -> None:
        self._limit = limit
        self._young: dict[bytes, int] = {}
        self._old: dict[bytes, int] = {}

    def get(self, key: bytes) -> int | None:
        """The reference, if it is still known."""
        found = self._young.get(key)
        return self._old.get(key) if found is None else found

    def add(self, key: bytes, ref: int) -> None:
        """Remember; the oldest half is forgotten now and then."""
        self._young[key] = ref
        if len(self._young) >= self._limit:
            self._old, self._young = self._young, {}


class Lines:
    """The queues and flags that join the threads of one disk.

    :param segments: how many segments there are; a small disk needs less.
    """

    def __init__(self, workers: int, writers: int, pack: int,
                 segments: int) -> None:
        self.workers = workers
        self.writers = writers
        self.work: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.writes: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.segments: queue.SimpleQueue[bytearray | None] = \
            queue.SimpleQueue()
        self.packs: queue.SimpleQueue[mmap.mmap | None] = queue.SimpleQueue()
        self.halt = threading.Event()   # read no more, finish what is read
        self.stop = threading.Event()   # drop everything
        for _ in range(min(workers + 2, segments)):
            self.segments.put(bytearray(SEGMENT))
        for _ in range(workers + writers):
            self.packs.put(buffers.make(pack))

    def stop_all(self) -> None:
        """Make every thread end soon, wherever it waits."""
        self.halt.set()
        self.stop.set()
        self.segments.put(None)
        for _ in range(self.workers):
            self.packs.put(None)
            self.work.put(None)
        for _ in range(self.writers):
            self.writes.put(None)


class _Stopped(Exception):
    """Ends a thread that was told to drop everything."""


class _Member(threading.Thread):
    """A thread of the pipeline: it always says how it ended."""

    kind = ''

    def __init__(self, lines: Lines, name: str) -> None:
        super().__init__(name=f'bakflow-{self.kind}-{name}', daemon=True)
        self.lines = lines

    def run(self) -> None:
        error: BaseException | None = None
        try:
            self.work()
        except _Stopped:
            error = None
        except BaseException as exc:  # noqa: BLE001 - goes to the caller
            error = exc
        self.end(error)

    def work(self) -> None:
        raise NotImplementedError

    def end(self, error: BaseException | None) -> None:
        self.lines.results.put(Ended(self.kind, error))


def _up(at: int) -> int:
    return at + -at % CHUNK


def _clear(view: memoryview, begin: int, end: int) -> None:
    if end > begin:
        view[begin:end] = _ZERO_CHUNK[:end - begin]


class Reader(_Member):
    """Reads segments in order, with what is known of them from before."""

    kind = 'read'

    def __init__(self, lines: Lines, name: str, source: Source, start: int,
                 history: History | None) -> None:
        super().__init__(lines, name)
        self._source = source
        self._start = start
        self._history = history

    def work(self) -> None:
        lines = self.lines
        for segment, count, pieces in Plan(self._source, self._start):
            if lines.halt.is_set():
                return
            if pieces is None or not any(data for _, _, data in pieces):
                start = segment * SEGMENT
                size = min((segment + count) * SEGMENT, self._source.size)
                lines.results.put(Stored(segment, count, None, b'', (), 0,
                                         size - start, 0))
                continue
            buffer = lines.segments.get()
            if buffer is None:
                return
            self._fill(buffer, pieces)
            size = sum(length for _, length, _ in pieces)
            read = sum(length for _, length, data in pieces if data)
            base = self._history and self._history.segment(segment)
            lines.work.put((segment, buffer, size, read, spans(pieces),
                            base))

    def _fill(self, buffer: bytearray,
              pieces: list[tuple[int, int, bool]]) -> None:
        """Fill all chunks that hold data; others keep what was in them."""
        start = pieces[0][0]
        with memoryview(buffer) as view:
            for offset, length, data in pieces:
                at, end = offset - start, offset - start + length
                if data:
                    with view[at:end] as part:
                        self._source.readinto(offset, part)
                else:
                    _clear(view, at, min(end, _up(at)))
                    _clear(view, max(at, end - end % CHUNK), end)
            _clear(view, end, _up(end))

    def end(self, error: BaseException | None) -> None:
        """What was read is still worked on, whatever went wrong."""
        if self.lines.halt.is_set():
            error = None        # a read that was cancelled
        super().end(error)
        for _ in range(self.lines.workers):
            self.lines.work.put(None)


class Worker(_Member):
    """Tells what is new in a segment, and packs and seals it.

    :param next_seq: gives the number of a new pack.
    :param max_age: seconds after which an open pack is closed, so that a
        disk with few changes gets checkpoints too.
    """

    kind = 'pack'

    def __init__(self, lines: Lines, name: str, space: Space, session: str,
                 known: Known, next_seq: Callable[[], int],
                 max_age: float) -> None:
        super().__init__(lines, name)
        self._space = space
        self._session = session
        self._known = known
        self._next_seq = next_seq
        self._max_age = max_age
        self._zstd = zstandard.ZstdCompressor(level=space.params.level)
        self._pack: packs.PackBuilder | None = None
        self._buffer: mmap.mmap | None = None
        self._opened = 0.0

    def work(self) -> None:
        lines = self.lines
        while True:
            try:
                item = lines.work.get(timeout=_IDLE)
            except queue.Empty:
                self._close(self._max_age)
                continue
            if lines.stop.is_set():
                return
            if item is None:
                self._close(-1)
                return
            self._segment(*item)
            self._close(self._max_age)

    def _segment(self, number: int, buffer: bytearray, size: int, read: int,
                 parts: list[tuple[int, int]], base: Base | None) -> None:
        done = Stored(number, 1, None, b'', (), read, size, 0)
        if read < SEGMENT or not buffer.startswith(_ZERO_SEGMENT):
            with memoryview(buffer) as view:
                ids = self._ids(buffer, view, layout.chunks(size), parts)
                joined = b''.join(ids)
                if joined != bytes(len(joined)):
                    done = self._store(done, view, ids, joined, base)
        self.lines.segments.put(buffer)
        self.lines.results.put(done)

    def _ids(self, buffer: bytearray, view: memoryview, count: int,
             parts: list[tuple[int, int]]) -> list[bytes]:
        """The id of each chunk; ZERO_ID itself for zeros."""
        key, starts, digest = self._space.id_key, buffer.startswith, \
            blake3.blake3
        ids = [ZERO_ID] * count
        for first, last in parts:
            ids[first:last] = [
                ZERO_ID if starts(_ZERO_CHUNK, at) else
                digest(view[at:at + CHUNK], key=key).digest(ID)
                for at in range(first * CHUNK, last * CHUNK, CHUNK)]
        return ids

    def _store(self, done: Stored, view: memoryview, ids: list[bytes],
               joined: bytes, base: Base | None) -> Stored:
        digest = self._space.segment_digest(done.segment, joined)
        zeros = sum(cid is ZERO_ID for cid in ids) * CHUNK
        done = done._replace(digest=digest,
                             skipped=min(zeros, done.skipped))
        if base is not None and base.ids == joined:
            return done._replace(runs=base.runs)
        refs, needed, fresh = self._match(ids, base)
        new = list(fresh.items())
        per = self._space.params.frame // CHUNK
        for at in range(0, len(new), per):
            ref = self._frame(view, new[at:at + per])
            needed.add(layout.ref_seq(ref))
            for add, (cid, places) in enumerate(new[at:at + per]):
                for place in places:
                    refs[place] = ref + add
                self._known.add(cid, ref + add)
        return done._replace(runs=pages.runs_of(refs), packs=tuple(needed),
                             new=len(new) * CHUNK)

    def _match(self, ids: list[bytes], base: Base | None) -> tuple[
            array[int], set[int], dict[bytes, list[int]]]:
        """References of what is known, own packs used, places of the new."""
        before = b'' if base is None else base.ids
        old = array('Q') if base is None else expand(base.runs)
        refs, needed = array('Q'), set()
        fresh: dict[bytes, list[int]] = {}
        for place, cid in enumerate(ids):
            ref = ZERO_REF
            if cid is not ZERO_ID:
                at = place * ID
                if before[at:at + ID] == cid:
                    ref = old[place]
                elif (found := self._known.get(cid)) is not None:
                    ref = found
                    needed.add(layout.ref_seq(ref))
                else:
                    fresh.setdefault(cid, []).append(place)
            refs.append(ref)
        return refs, needed, fresh

    def _frame(self, view: memoryview,
               new: list[tuple[bytes, list[int]]]) -> int:
        """Seal up to a frame of new chunks; the first one's reference."""
        first, last = new[0][1][0], new[-1][1][0]
        body: bytes | memoryview
        if last - first == len(new) - 1:
            body = view[first * CHUNK:(last + 1) * CHUNK]
        else:
            body = b''.join([view[p[0] * CHUNK:(p[0] + 1) * CHUNK]
                             for _, p in new])
        flags = 0
        packed = self._zstd.compress(body)
        if len(packed) < len(body) - (len(body) >> 5):
            body, flags = packed, packs.ZSTD
        pack = self._pack
        if pack is None or not pack.has_room(len(body), len(new)):
            self._close(-1)
            pack = self._open()
        slot = pack.add(body, flags, [cid for cid, _ in new])
        return layout.make_ref(0, pack.seq, slot)

    def _open(self) -> packs.PackBuilder:
        self._buffer = self.lines.packs.get()
        if self._buffer is None:
            raise _Stopped
        seq = self._next_seq()
        self._opened = time.monotonic()
        self._pack = packs.PackBuilder(
            memoryview(self._buffer), self._space.pack_key,
            self._space.pack_bound(self._session, seq), seq,
            self._space.params)
        return self._pack

    def _close(self, age: float) -> None:
        """Hand the open pack to a writer if it is older than ``age``."""
        if self._pack is None or time.monotonic() - self._opened < age:
            return
        size = self._pack.close()
        self.lines.writes.put((self._pack.seq, self._buffer, size))
        self._pack = self._buffer = None


class Writer(_Member):
    """Puts packs into the store."""

    kind = 'write'

    def __init__(self, lines: Lines, name: str, space: Space,
                 session: str) -> None:
        super().__init__(lines, name)
        self._space = space
        self._session = session

    def work(self) -> None:
        lines = self.lines
        while (item := lines.writes.get()) is not None:
            if lines.stop.is_set():
                return
            seq, buffer, size = item
            name = layout.pack_name(self._space.name, self._session, seq)
            with memoryview(buffer) as whole, whole[:size] as view:
                try:
                    self._space.backend.put(name, view)
                except ObjectExists:
                    # Only an answer that was lost can leave this: the name
                    # is this session's alone.
                    if self._space.backend.get(name) != bytes(view):
                        raise
            lines.results.put(Durable(seq, size))
            lines.packs.put(buffer)
