"""The ids that a disk had in an earlier backup, segment by segment.

They are read from the footers of the packs that the earlier manifest names,
one page at a time and in a bounded cache, so memory does not grow with the
disk. What cannot be read counts as unknown: its chunks are stored anew, and
so the new backup heals what the old one has lost.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bakflow import errors
from bakflow.store import layout, packs
from bakflow.store.layout import ID, PER_SEGMENT, ZERO_REF
from bakflow.store.pages import Sessions
from bakflow.store.space import Space

_UNKNOWN = b'\xff' * ID
_ZEROS = bytes(PER_SEGMENT * ID)

IdCache = packs.Cache[tuple[int, int], bytes]


class Base(NamedTuple):
    """A segment as it was: runs (length, first reference) and all ids."""

    runs: array[int]
    ids: bytes


class History:
    """One disk of an earlier backup. Segments are asked for in order.

    :param pages: names of its pages; None is a page of zeros.
    """

    def __init__(self, space: Space, sessions: Sessions,
                 pages: Sequence[str | None], cache: IdCache) -> None:
        self._space = space
        self._sessions = sessions
        self._pages = pages
        self._cache = cache
        self._per_page = space.params.page // layout.CHUNK
        self._index = -1
        self._runs: Iterator[tuple[int, int]] | None = None
        self._pos = 0       # chunk at which the current run begins
        self._left = 0      # chunks of the current run
        self._ref = ZERO_REF

    def segment(self, number: int) -> Base | None:
        """What the segment held; None when nothing is known of it."""
        first = number * PER_SEGMENT
        index = first // self._per_page
        if index >= len(self._pages):
            return None
        try:
            if index != self._index:
                self._open(index)
            return self._collect(first - index * self._per_page)
        except errors.StoreCorrupt:
            self._runs, self._left = None, 0
            return None

    def _open(self, index: int) -> None:
        self._index, self._pos, self._left = index, 0, 0
        self._runs = None
        page = self._pages[index]
        if page is None:
            self._runs = iter([(self._per_page, ZERO_REF)])
        else:
            self._runs = self._space.page(page).runs(self._sessions)

    def _collect(self, start: int) -> Base | None:
        if self._runs is None:
            return None
        runs, ids = array('Q'), []
        end = start + PER_SEGMENT
        while self._pos < end:
            if not self._left:
                step = next(self._runs, None)
                if step is None:
                    break
                self._left, self._ref = step
            if self._pos < start:
                self._skip(min(start - self._pos, self._left))
                continue
            length = min(self._left, end - self._pos)
            runs.append(length)
            runs.append(self._ref)
            ids.append(self._ids(self._ref, length))
            self._skip(length)
        return Base(runs, b''.join(ids)) if ids else None

    def _skip(self, length: int) -> None:
        self._pos += length
        self._left -= length
        if self._ref != ZERO_REF:
            self._ref += length

    def _ids(self, ref: int, length: int) -> bytes:
        if ref == ZERO_REF:
            return _ZEROS[:length * ID]
        start = (ref & 0xFFFF) * ID
        found = self._pack_ids(ref >> 48, layout.ref_seq(ref))[
            start:start + length * ID]
        if len(found) < length * ID:
            found += _UNKNOWN * (length - len(found) // ID)
        return found

    def _pack_ids(self, session: int, seq: int) -> bytes:
        found = self._cache.get((session, seq))
        if found is None:
            try:
                found = self._space.pack(
                    self._sessions.names[session], seq).footer.ids
            except errors.StoreCorrupt:
                found = b''
            self._cache.put((session, seq), found, len(found) + 256)
        return found


def expand(runs: array[int]) -> array[int]:
    """The reference of each single chunk."""
    out = array('Q')
    for at in range(0, len(runs), 2):
        length, ref = runs[at], runs[at + 1]
        if ref == ZERO_REF:
            out.extend([ZERO_REF] * length)
        else:
            out.extend(range(ref, ref + length))
    return out
