"""The frontier: the first byte of a disk that is not durable yet.

Workers finish segments in any order, and their packs become durable in any
order. The frontier puts that in order again: only what lies before it goes
into pages and checkpoints, so what a checkpoint says is always true.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Collection, Sequence

from bakflow.store import layout
from bakflow.store.layout import PER_SEGMENT, SEGMENT, ZERO_REF
from bakflow.store.model import DiskState
from bakflow.store.pages import PageWriter, Sessions, load
from bakflow.store.pipeline import Stored
from bakflow.store.space import Space


class Frontier:
    """Builds the manifest of one disk, in order.

    :param state: where an earlier session had come to; is kept up to date.
    :param before: names of the pages of the backup before, to share.
    """

    def __init__(self, space: Space, session: str, sessions: Sessions,
                 state: DiskState, before: Sequence[str | None]) -> None:
        self.state = state
        self.whole = True
        self._space = space
        self._session = session
        self._sessions = sessions
        self._before = before
        self._per_page = space.params.page // layout.CHUNK
        self._early: dict[int, Stored] = {}
        self._waiting: deque[Stored] = deque()
        self._next = state.position // SEGMENT
        if state.partial:
            self._page = load(state.partial, 'the page of a checkpoint',
                              self._per_page, sessions)
        else:
            self._page = PageWriter(sessions)

    @property
    def position(self) -> int:
        """Bytes from the disk's begin that are worked on without a gap."""
        return min(self._next * SEGMENT, self.state.size)

    @property
    def waiting(self) -> int:
        """How many results wait for a pack."""
        return len(self._waiting)

    def add(self, done: Stored) -> None:
        """Take a result, in whatever order it comes."""
        self._early[done.segment] = done
        while (ready := self._early.pop(self._next, None)) is not None:
            self._waiting.append(ready)
            self._next += ready.segments

    def advance(self, in_flight: Collection[int]) -> None:
        """Move over all that needs no pack in ``in_flight``.

        :raises StoreError: a page could not be put; then ``whole`` is
            false, and nothing may be written down of this frontier.
        """
        while self._waiting:
            if any(seq in in_flight for seq in self._waiting[0].packs):
                return
            self.whole = False
            self._apply(self._waiting.popleft())
            self.whole = True

    def _apply(self, done: Stored) -> None:
        state = self.state
        start = done.segment * PER_SEGMENT
        end = min((done.segment + done.segments) * PER_SEGMENT,
                  layout.chunks(state.size))
        if done.runs is None:
            self._append(end - start, ZERO_REF)
        else:
            for at in range(0, len(done.runs), 2):
                self._append(done.runs[at], done.runs[at + 1])
            state.chain = self._space.chain(state.chain, done.digest)
        state.position = min((done.segment + done.segments) * SEGMENT,
                             state.size)
        state.read += done.read
        state.skipped += done.skipped
        state.new += done.new
        if state.complete and self._page.count:
            self._turn()

    def _append(self, length: int, ref: int) -> None:
        while length:
            step = min(length, self._per_page - self._page.count)
            self._page.add(step, ref)
            length -= step
            if ref != ZERO_REF:
                ref += step
            if self._page.count == self._per_page:
                self._turn()

    def _turn(self) -> None:
        """The page is full: share it, or put it."""
        number = len(self.state.pages)
        page: str | None = None
        if not self._page.empty:
            body = self._page.dump()
            old = self._before[number] if number < len(self._before) else None
            if old and old.endswith('/' + self._space.page_digest(body)):
                page = old
            else:
                page = self._space.put_page(self._session, body)
        self.state.pages.append(page)
        self._page = PageWriter(self._sessions)

    def snapshot(self) -> DiskState:
        """A copy of the state, with the page that is begun."""
        partial = self._page.dump() if self._page.count else b''
        return dataclasses.replace(self.state, partial=partial,
                                   pages=list(self.state.pages))
