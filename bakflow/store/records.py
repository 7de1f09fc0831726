"""Session objects and checkpoints: reading, writing, taking over.

``s/<session>/00000000`` is the session object: it says which backup is
written, pins what is used of the backup before, and names the sessions that
were taken over. It is the first object that a session puts, and its absence
tells a writer that it was fenced. Higher numbers are checkpoints.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from bakflow import errors
from bakflow.store import heads, layout, sealing
from bakflow.store.model import (
    DiskState,
    Head,
    HeadDisk,
    disk_from,
    disk_json,
    natural,
    optional,
    page_list,
)
from bakflow.store.pages import Page
from bakflow.store.space import CHECKPOINT, SESSION, Space

#: Numbers of a session's packs as (first, count).
Ranges = list[tuple[int, int]]


@dataclasses.dataclass
class State:
    """How far all disks are durable, and in which packs."""

    disks: list[DiskState]
    packs: dict[str, Ranges] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Record:
    """A session object.

    ``base`` are the disks of the backup compared with. ``pins`` are more
    pages that must stay while the session lives; this version writes none,
    and honours those of a later one.
    """

    session: str
    backup: str
    created: float
    parent: str | None
    base: tuple[HeadDisk, ...]
    adopted: tuple[str, ...]
    state: State
    pins: tuple[str, ...] = ()

    @property
    def pinned(self) -> Iterable[str]:
        """Pages that must stay as long as the session lives."""
        for disk in self.base:
            yield from (page for page in disk.pages if page)
        yield from self.pins
        for state in self.state.disks:
            yield from (page for page in state.pages if page)


def _state_json(state: State) -> tuple[dict[str, Any], bytes]:
    data = {'disks': [disk.to_json() for disk in state.disks],
            'packs': state.packs}
    return data, b''.join(disk.partial for disk in state.disks)


def _state_from(data: Any, blob: bytes, name: str) -> State:
    try:
        disks, at = [], 0
        for disk in data['disks']:
            end = at + natural(disk['partial'])
            disks.append(DiskState.from_json(disk, blob[at:end], name))
            at = end
        packs = {str(session): [(natural(first), natural(count))
                                for first, count in ranges]
                 for session, ranges in data['packs'].items()}
    except (KeyError, TypeError, ValueError, AttributeError,
                OverflowError) as exc:
        raise sealing.corrupt(name, f'its state is not told: {exc}') from exc
    if at != len(blob) or any(
            first + count > layout.MAX_SEQ or not layout.is_session(session)
            for session, ranges in packs.items() for first, count in ranges):
        raise sealing.corrupt(name, 'its state makes no sense')
    return State(disks, packs)


def put_record(space: Space, record: Record) -> None:
    """Put a session object.

    :raises ObjectExists: this session was started before.
    """
    state, blob = _state_json(record.state)
    body = sealing.pair({
        'session': record.session, 'backup': record.backup,
        'created': record.created, 'parent': record.parent,
        'base': [disk_json(disk) for disk in record.base],
        'adopted': list(record.adopted), 'pins': list(record.pins),
        'state': state}, blob)
    space.put(SESSION, layout.session_name(space.name, record.session), body)


def get_record(space: Space, session: str) -> Record:
    """Read a session object.

    :raises StoreCorrupt: missing or damaged.
    """
    name = layout.session_name(space.name, session)
    return parse_record(space.get(SESSION, name), name)


def parse_record(body: bytes, name: str) -> Record:
    """A session object from its body.

    :raises StoreCorrupt: it makes no sense.
    """
    data, blob = sealing.unpair(body, name)
    state = _state_from(data.get('state'), blob, name)
    try:
        record = Record(
            session=str(data['session']), backup=str(data['backup']),
            created=float(data['created']), parent=optional(data['parent']),
            base=tuple(disk_from(disk) for disk in data['base']),
            adopted=tuple(str(s) for s in data['adopted']), state=state,
            pins=tuple(filter(None, page_list(data['pins']))))
    except (KeyError, TypeError, ValueError, AttributeError,
                OverflowError) as exc:
        raise sealing.corrupt(name, f'it is no session: {exc}') from exc
    if not all(map(layout.is_session, (record.session, *record.adopted))):
        raise sealing.corrupt(name, 'it names no session')
    return record


def put_checkpoint(space: Space, session: str, seq: int,
                   state: State) -> None:
    """Put checkpoint number ``seq`` of a session."""
    space.put(CHECKPOINT, layout.session_name(space.name, session, seq),
              sealing.pair(*_state_json(state)))


def newest_state(space: Space, record: Record) -> State:
    """The last state that a session wrote and that can be read."""
    prefix = layout.session_prefix(space.name, record.session)
    names = sorted((o.name for o in space.backend.list(prefix)
                    if not o.name.endswith('/00000000')), reverse=True)
    for name in names:
        try:
            data, blob = sealing.unpair(space.get(CHECKPOINT, name), name)
            return _state_from(data, blob, name)
        except errors.StoreCorrupt:
            continue        # the one before it is as true, only older
    return record.state


def _fits(space: Space, disk: DiskState) -> bool:
    """Whether pages and the page that is begun end at the position."""
    per_page = space.params.page // layout.CHUNK
    if disk.complete:
        return len(disk.pages) == -(-disk.size // space.params.page)
    begun = Page(disk.partial, 'the page of a checkpoint',
                 per_page).count if disk.partial else 0
    return (len(disk.pages) * per_page + begun
            == layout.chunks(disk.position))


def intact(space: Space, state: State) -> bool:
    """Whether all packs and pages of a state are there, and it fits.

    :raises StoreCorrupt: the page that is begun makes no sense.
    """
    if not all(_fits(space, disk) for disk in state.disks):
        return False
    for session, ranges in state.packs.items():
        listed = space.packs_of(session)
        for first, count in ranges:
            for seq in range(first, first + count):
                if seq not in listed and space.newest_gen(
                        session, seq) is None:
                    return False
    return all(space.has(layout.page_name(space.name, page))
               for disk in state.disks for page in disk.pages if page)


@dataclasses.dataclass
class Carrier:
    """What a new session takes over: from a session, or from its head.

    ``anchor`` is the object that must still be there after the new session
    object is; then no collector can have missed it.
    """

    anchor: str
    record: Record
    sessions: tuple[str, ...]


def find_carrier(space: Space, backup: str, sizes: Sequence[int],
                 adopt: Sequence[str]) -> Carrier | None:
    """The furthest predecessor that can be taken over."""
    for session in reversed(adopt):
        head = heads.try_head(space, backup, session)
        if head is not None and list(head.sizes) == list(sizes):
            carrier = _from_head(space, head)
            if carrier is not None:
                return carrier
    for session in reversed(adopt):
        try:
            record = get_record(space, session)
            state = newest_state(space, record)
            good = (record.backup == backup and intact(space, state)
                    and [disk.size for disk in state.disks] == list(sizes))
        except errors.StoreCorrupt:
            continue
        if not good:
            continue
        return Carrier(
            layout.session_name(space.name, session),
            dataclasses.replace(record, state=state),
            tuple(dict.fromkeys((*record.adopted, session))))
    return None


def _from_head(space: Space, head: Head) -> Carrier | None:
    """A head that was put, but after which its writer was not heard of."""
    if not heads.whole(space, head):
        return None
    disks = [DiskState(disk.size, disk.size, list(disk.pages),
                       chain=disk.chain) for disk in head.disks]
    disks[0].read, disks[0].skipped = head.read_bytes, head.skipped_bytes
    disks[0].new, disks[0].stored = head.new_bytes, head.stored_bytes
    record = Record(head.session, head.backup_id, head.created, head.parent,
                    head.disks, (), State(disks))
    return Carrier(layout.head_name(space.name, head.backup_id,
                                    head.session), record, ())
