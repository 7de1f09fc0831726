"""The collector: removes what no head, and no living session, needs.

It takes no lock and may be killed anywhere, or run twice at once. Why it
never removes what is needed:

1. Only objects listed at the very begin are ever removed, so what comes
   later is safe.
2. The living sessions are asked for after that listing. What bears the name
   of one, or of a session that it took over, stays; so does what it pins.
3. A session that is not living is fenced before anything of it goes: its
   session object is removed. A writer checks that object after it has put
   its head, so a head that is put later does not stay.
4. Then heads and sessions are listed a second time. A head that was put
   before the fence is seen now, and honoured whatever became of its
   session; so is a session that took over a fenced one before the fence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection

from bakflow import errors
from bakflow.store import heads, layout, records
from bakflow.store.space import Space

Observe = Callable[['CollectReport'], None]


@dataclasses.dataclass
class CollectReport:
    """What a collection did.

    ``blocked`` says, for a domain, why nothing was removed from it: a head
    that the catalogue knows is not listed (yet), or metadata is damaged and
    so it cannot be told what is needed.
    """

    domains: int = 0
    heads: int = 0
    sessions: int = 0
    fenced: list[str] = dataclasses.field(default_factory=list)
    removed: int = 0
    freed: int = 0
    temporaries: int = 0
    blocked: dict[str, str] = dataclasses.field(default_factory=dict)
    damaged: list[str] = dataclasses.field(default_factory=list)


class _Listing:
    """A domain's objects, sorted by what they belong to."""

    def __init__(self, space: Space) -> None:
        self.packs: dict[str, list[tuple[int, str, int]]] = {}
        self.pages: dict[str, list[tuple[str, str, int]]] = {}
        self.sessions: dict[str, list[tuple[str, int]]] = {}
        start = len(f'd/{space.name}/')
        for name, size in space.list(''):
            rest = name[start:]
            parts = rest.split('/')
            pack = layout.parse_pack(rest)
            if pack is not None:
                self.packs.setdefault(pack[0], []).append(
                    (pack[1], name, size))
            elif len(parts) != 3 or not layout.is_session(parts[1]):
                continue        # not of this version: not ours to remove
            elif parts[0] == 'm':
                self.pages.setdefault(parts[1], []).append(
                    ('/'.join(parts[1:]), name, size))
            elif parts[0] == 's':
                self.sessions.setdefault(parts[1], []).append((name, size))

    def writers(self) -> set[str]:
        """All sessions of which something is there."""
        return {*self.packs, *self.pages, *self.sessions}


class _Marks:
    """What is needed: pages, and packs by session and number."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self.pages: set[str] = set()
        self.packs: dict[str, set[int]] = {}
        self.heads: set[tuple[str, str]] = set()
        self.sessions: set[str] = set()
        self.seen: set[str] = set()
        self.damaged: list[str] = []

    def look(self) -> None:
        """Mark what heads need that were not seen before."""
        for backup, sessions in heads.list_heads(self._space).items():
            for session in sessions:
                if (backup, session) not in self.heads:
                    self._head(backup, session)

    def _head(self, backup: str, session: str) -> None:
        name = layout.head_name(self._space.name, backup, session)
        try:
            head = heads.read_head(self._space, name)
        except errors.StoreCorrupt as exc:
            if self._space.has(name):
                self.damaged.append(exc.message)
            return          # deleted since it was listed
        self.heads.add((backup, session))
        for disk in head.disks:
            for page in filter(None, disk.pages):
                self._page(page)

    def _page(self, page: str) -> None:
        if page in self.pages:
            return
        self.pages.add(page)
        try:
            packs = self._space.page(page).packs
        except errors.StoreCorrupt as exc:
            self.damaged.append(exc.message)
            return
        for session, numbers in packs.items():
            self.packs.setdefault(session, set()).update(numbers)

    def keep(self, session: str) -> None:
        """Keep all of a session, of those it took over, and its pins."""
        self.sessions.add(session)
        self.seen.add(session)
        name = layout.session_name(self._space.name, session)
        try:
            record = records.get_record(self._space, session)
        except errors.StoreCorrupt as exc:
            if self._space.has(name):
                self.damaged.append(exc.message)
            return          # not begun yet, or over
        self.sessions.update(record.adopted)
        for page in record.pinned:
            self._page(page)

    def look_for_sessions(self, known: Collection[str]) -> None:
        """Keep sessions that were not there when ``known`` were listed."""
        for item in self._space.list('s/'):
            session = item.name.split('/')[3]
            if (item.name.endswith('/00000000') and session not in known
                    and session not in self.seen
                    and layout.is_session(session)):
                self.keep(session)


def lives(session: str, living: Collection[str]) -> bool:
    """Whether a session is named, itself or as ``'<flow id>.'``."""
    return session in living or layout.flow_of(session) in living


class Pass:
    """One pass over one domain."""

    def __init__(self, space: Space, report: CollectReport,
                 observe: Observe) -> None:
        self._space = space
        self._report = report
        self._observe = observe

    def run(self, living: Callable[[], Collection[str]],
            known_heads: Callable[[], Collection[str]]) -> None:
        """Mark, fence, look again, sweep."""
        space, report = self._space, self._report
        listing = _Listing(space)
        marks = _Marks(space)
        known = known_heads()   # before the look: what is new is listed
        marks.look()
        alive = living()
        old = set(listing.sessions)
        for session in sorted(old):
            if lives(session, alive):
                marks.keep(session)
        # Not in the first listing, so at most just begun: never fenced.
        marks.look_for_sessions(old)
        if self._blocked(marks, known):
            return
        for session in sorted(old - marks.sessions):
            if not lives(session, alive):
                space.backend.delete(
                    layout.session_name(space.name, session))
                report.fenced.append(session)
        known = known_heads()
        marks.look()
        marks.look_for_sessions(old)
        report.heads += len(marks.heads)
        report.sessions += len(marks.seen)
        if not self._blocked(marks, known):
            self.sweep(listing, marks, alive)

    def _blocked(self, marks: _Marks, known: Collection[str]) -> bool:
        listed = {backup for backup, _ in marks.heads}
        missing = sorted(set(known) - listed)
        if missing:
            why = f'heads are not listed: {", ".join(missing[:5])}'
        elif marks.damaged:
            why = marks.damaged[0]
        else:
            return False
        self._report.blocked[self._space.name] = why
        self._report.damaged.extend(marks.damaged)
        return True

    def sweep(self, listing: _Listing, marks: _Marks,
               alive: Collection[str]) -> None:
        for session in sorted(listing.writers()):
            if session in marks.sessions or lives(session, alive):
                continue
            packs = marks.packs.get(session, set())
            for name, size in listing.sessions.get(session, ()):
                self._remove(name, size)
            for page, name, size in listing.pages.get(session, ()):
                if page not in marks.pages:
                    self._remove(name, size)
            for seq, name, size in listing.packs.get(session, ()):
                if seq not in packs:
                    self._remove(name, size)

    def _remove(self, name: str, size: int) -> None:
        self._space.backend.delete(name)
        self._report.removed += 1
        self._report.freed += size
        self._observe(self._report)


def abort(space: Space, flow: str) -> CollectReport:
    """Remove all that uncommitted sessions of a flow have left.

    What any head or any other session uses stays: it may have become the
    base of a later backup.

    :param flow: ``'<flow id>.'``
    :raises Conflict: a backup of this flow is committed.
    """
    report = CollectReport(domains=1)
    _refuse_committed(space, flow)
    listing = _Listing(space)
    ours = {s for s in listing.writers()
            if layout.flow_of(s) == flow}
    for session in sorted(ours & set(listing.sessions)):
        space.backend.delete(layout.session_name(space.name, session))
        report.fenced.append(session)
    _refuse_committed(space, flow)
    marks = _Marks(space)
    marks.look_for_sessions(ours)
    marks.look()
    if marks.damaged:
        report.blocked[space.name] = marks.damaged[0]
        report.damaged = marks.damaged
        return report
    listing.packs = {s: v for s, v in listing.packs.items() if s in ours}
    listing.pages = {s: v for s, v in listing.pages.items() if s in ours}
    listing.sessions = {s: v for s, v in listing.sessions.items()
                        if s in ours}
    Pass(space, report, lambda _: None).sweep(listing, marks, ())
    return report


def _refuse_committed(space: Space, flow: str) -> None:
    """Heads of a flow that are whole are commits; others are removed."""
    for backup, sessions in heads.list_heads(space).items():
        for session in sessions:
            if layout.flow_of(session) != flow:
                continue
            head = heads.try_head(space, backup, session)
            if head is not None and heads.whole(space, head):
                raise errors.Conflict(
                    f'backup {backup} is committed by {session}',
                    hint='Finish the flow; delete the backup if it is not '
                         'wanted.')
            space.backend.delete(layout.head_name(space.name, backup,
                                                  session))
