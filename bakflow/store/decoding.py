"""From manifest to bytes: which frames a segment needs, and their chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import zstandard

from bakflow import errors
from bakflow.store import buffers, layout, packs, sealing
from bakflow.store.backends.base import ObjectMissing
from bakflow.store.layout import CHUNK, PER_SEGMENT, SEGMENT, ZERO_REF
from bakflow.store.model import HeadDisk
from bakflow.store.pages import Sessions
from bakflow.store.space import Space

#: Frames that lie this near to each other are read in one go (bytes).
_GAP = 256 * layout.KIB
_READ = SEGMENT + layout.MIB
PACK_CACHE = 16 * layout.MIB


class Piece(NamedTuple):
    """``length`` chunks at chunk ``at`` of a segment, stored at ``ref``."""

    at: int
    length: int
    ref: int


class Job(NamedTuple):
    """What a segment holds besides zeros."""

    segment: int
    pieces: list[Piece]


class PageDamage(NamedTuple):
    """A page that cannot be read, and the chunks that it should tell."""

    first: int
    length: int
    error: errors.StoreCorrupt


def runs(space: Space, disk: HeadDisk, sessions: Sessions,
         start: int = 0, end: int = 1 << 62) -> Iterator[
             tuple[int, int, int] | PageDamage]:
    """First chunk, length and reference of runs from ``start`` to ``end``.

    Both are chunks. Zeros have ZERO_REF. The first run may begin before
    ``start`` and the last may go on past ``end``.
    """
    per_page = space.params.page // layout.CHUNK
    total = layout.chunks(disk.size)
    for index, page in enumerate(disk.pages):
        first = index * per_page
        count = min(per_page, total - first)
        if first + count <= start:
            continue
        if first >= end:
            return
        if page is None:
            yield first, count, ZERO_REF
            continue
        at = first
        try:
            opened = space.page(page)
            if opened.count != count:
                raise sealing.corrupt(opened.name,
                                      'it tells of another number of chunks')
            for length, ref in opened.runs(sessions):
                if at + length > start:
                    yield at, length, ref
                at += length
        except errors.StoreCorrupt as exc:
            yield PageDamage(at, first + count - at, exc)


def jobs(found: Iterator[tuple[int, int, int]]) -> Iterator[Job]:
    """The runs that hold data, cut into segments."""
    job: Job | None = None
    for first, length, ref in found:
        if ref == ZERO_REF:
            continue
        while length:
            segment, at = divmod(first, PER_SEGMENT)
            step = min(length, PER_SEGMENT - at)
            if job is None or job.segment != segment:
                if job is not None:
                    yield job
                job = Job(segment, [])
            job.pieces.append(Piece(at, step, ref))
            first += step
            ref += step
            length -= step
    if job is not None:
        yield job


class Copy(NamedTuple):
    """``length`` chunks from chunk ``start`` of a frame go to ``at``."""

    start: int
    length: int
    at: int


#: Called with an error and the places (chunk, length) that it hits.
Bad = Callable[[errors.StoreCorrupt, list[tuple[int, int]]], None]

PackCache = packs.Cache[tuple[int, int], packs.Pack]


class Decoder:
    """Reads segments. One for each thread; the cache may be shared."""

    def __init__(self, space: Space, sessions: Sessions,
                 cache: PackCache) -> None:
        self._space = space
        self._sessions = sessions
        self._cache = cache
        self._sealed = memoryview(buffers.make(_READ))
        self._scratch = memoryview(buffers.make(2 * SEGMENT))
        self._zstd = zstandard.ZstdDecompressor()
        self.frames = 0

    def decode(self, job: Job, out: memoryview, bad: Bad) -> None:
        """Put the chunks of a segment where they belong in ``out``.

        Chunks between the pieces are not touched.
        """
        needs: dict[tuple[int, int], list[Piece]] = {}
        for piece in job.pieces:
            where = piece.ref >> 48, layout.ref_seq(piece.ref)
            needs.setdefault(where, []).append(piece)
        for (session, seq), pieces in needs.items():
            try:
                pack = self._pack(session, seq)
            except errors.StoreCorrupt as exc:
                bad(exc, [(p.at, p.length) for p in pieces])
                continue
            self._decode_pack(pack, pieces, out, bad)

    def _pack(self, session: int, seq: int) -> packs.Pack:
        pack = self._cache.get((session, seq))
        if pack is None:
            pack = self._space.pack(self._sessions.names[session], seq)
            pack.footer.ids = b''       # not needed here, and most of it
            size = 512 + 24 * len(pack.footer.offsets)
            self._cache.put((session, seq), pack, size)
        return pack

    def _decode_pack(self, pack: packs.Pack, pieces: list[Piece],
                     out: memoryview, bad: Bad) -> None:
        copies: dict[int, list[Copy]] = {}
        footer = pack.footer
        for at, length, ref in pieces:
            slot = ref & 0xFFFF
            while length:
                frame = footer.frame_of(slot)
                if slot >= footer.slots or not footer.lengths[frame]:
                    bad(sealing.corrupt(pack.name, f'slot {slot} is empty'),
                        [(at, length)])
                    break
                start = slot - footer.firsts[frame]
                step = min(length, footer.chunks(frame) - start)
                copies.setdefault(frame, []).append(Copy(start, step, at))
                at, slot, length = at + step, slot + step, length - step
        for group in _groups(footer, sorted(copies)):
            self._decode_group(pack, group, copies, out, bad)

    def _decode_group(self, pack: packs.Pack, group: list[int],
                      copies: dict[int, list[Copy]], out: memoryview,
                      bad: Bad) -> None:
        footer = pack.footer
        start = footer.offsets[group[0]]
        end = footer.offsets[group[-1]] + footer.lengths[group[-1]]
        with self._sealed[:end - start] as view:
            try:
                got = self._space.backend.readinto(pack.name, start, view)
            except ObjectMissing:
                self._bad_frames(sealing.missing(pack.name), group, copies,
                                 bad)
                return
            for frame in group:
                at = footer.offsets[frame] - start
                stop = at + footer.lengths[frame]
                try:
                    if stop > got:
                        raise sealing.corrupt(pack.name, 'it ends too early')
                    with view[at:stop] as sealed:
                        data = pack.open_frame(frame, sealed, self._scratch,
                                               self._zstd)
                except errors.StoreCorrupt as exc:
                    self._bad_frames(exc, [frame], copies, bad)
                    continue
                self.frames += 1
                with memoryview(data) as whole:
                    for copy in copies[frame]:
                        out[copy.at * CHUNK:
                            (copy.at + copy.length) * CHUNK] = whole[
                                copy.start * CHUNK:
                                (copy.start + copy.length) * CHUNK]

    @staticmethod
    def _bad_frames(error: errors.StoreCorrupt, group: list[int],
                    copies: dict[int, list[Copy]], bad: Bad) -> None:
        bad(error, [(copy.at, copy.length)
                    for frame in group for copy in copies[frame]])


def _groups(footer: packs.Footer, frames: list[int]) -> Iterator[list[int]]:
    """Frames that are near enough to be read together."""
    group: list[int] = []
    for frame in frames:
        if group:
            last = group[-1]
            gap = (footer.offsets[frame] - footer.offsets[last]
                   - footer.lengths[last])
            whole = (footer.offsets[frame] + footer.lengths[frame]
                     - footer.offsets[group[0]])
            if gap > _GAP or whole > _READ:
                yield group
                group = []
        group.append(frame)
    if group:
        yield group
