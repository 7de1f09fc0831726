"""A writing session: one owner of one flow storing one backup.

Order of writes: session object, packs and pages and checkpoints, head. The
backup is there when its head is; before that everything is garbage that a
successor takes over or the collector removes. After ``kill -9`` at any point
the next session of the flow goes on at the last checkpoint.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence
from typing import Any

from bakflow import errors
from bakflow.store import heads, layout, records, writing
from bakflow.store.backends.base import ObjectExists
from bakflow.store.frontier import Frontier
from bakflow.store.history import History, IdCache
from bakflow.store.model import DiskResult, DiskState, Head, HeadDisk
from bakflow.store.pages import Sessions
from bakflow.store.records import Record, State
from bakflow.store.source import Source
from bakflow.store.space import HEAD, Space


def start(space: Space, session: str, backup: str, sizes: Sequence[int],
          adopt: Sequence[str], parent: str | None) -> Session:
    """Put the session object, take over what can be, fence predecessors.

    :raises Conflict: the session was started before.
    """
    layout.check_session(session)
    layout.check_backup(backup)
    for name in adopt:
        if (layout.flow_of(layout.check_session(name))
                != layout.flow_of(session)
                or layout.epoch_of(name) >= layout.epoch_of(session)):
            raise errors.InvalidRequest(
                f'{session} cannot take over {name}')
    for _ in range(len(adopt) + 2):
        record, anchor = _plan(space, session, backup, sizes, adopt, parent)
        try:
            records.put_record(space, record)
        except ObjectExists:
            raise errors.Conflict(
                f'session {session} was started before',
                hint='Each owner of a flow has an epoch of its own.'
            ) from None
        # What we use must still be there now that our pins can be seen.
        if anchor is None or space.has(anchor):
            break
        space.backend.delete(layout.session_name(space.name, session))
    else:
        raise errors.StoreUnavailable(
            f'what session {session} goes on from keeps vanishing')
    for name in adopt:
        forget(space, name)
    return Session(space, record)


def _plan(space: Space, session: str, backup: str, sizes: Sequence[int],
          adopt: Sequence[str], parent: str | None) -> tuple[
              Record, str | None]:
    """The session object to put, and what must be there afterwards."""
    carrier = records.find_carrier(space, backup, sizes, adopt)
    if carrier is not None:
        return dataclasses.replace(
            carrier.record, session=session,
            adopted=carrier.sessions), carrier.anchor
    base: tuple[HeadDisk, ...] = ()
    anchor = None
    if parent is not None:
        for name in heads.list_heads(space, parent).get(parent, ()):
            head = heads.try_head(space, parent, name)
            if head is not None:
                base = head.disks
                anchor = layout.head_name(space.name, parent, name)
                break
    state = State([DiskState(size) for size in sizes])
    return Record(session, backup, time.time(), parent if base else None,
                  base, (), state), anchor


def forget(space: Space, session: str) -> None:
    """Remove a session's object first, then its checkpoints."""
    space.backend.delete(layout.session_name(space.name, session))
    prefix = layout.session_prefix(space.name, session)
    for item in list(space.backend.list(prefix)):
        space.backend.delete(item.name)


class Session:
    """Stores the disks of one backup. Disks may be written in parallel.

    ``resumed`` tells whether an earlier session was taken over; ``parent``
    is the backup compared with, if it could be used.
    """

    def __init__(self, space: Space, record: Record) -> None:
        self.name = record.session
        self.backup_id = record.backup
        self.parent = record.parent
        self.resumed = bool(record.adopted) or any(
            disk.position for disk in record.state.disks)
        self._space = space
        self._record = record
        self._states = list(record.state.disks)
        self._lock = threading.Lock()
        self._checkpoint_lock = threading.Lock()
        self._in_flight: set[int] = set()
        self._next = 0
        self._checkpoints = 0
        self._head: Head | None = None

    # -- disks ------------------------------------------------------------

    def write_disk(self, index: int, source: Source, *,
                   observe: writing.Observe) -> DiskResult:
        """Store a disk; goes on where an adopted checkpoint ends.

        :param observe: called from this thread, for each segment or so and
            at least twice a second; what it raises stops the writing.
        :raises Interrupted: the observer did; what was read is durable.
        :raises BakflowError: of the store or the source, first cause.
        """
        state = self._states[index]
        if source.size != state.size:
            raise errors.Conflict(
                f'disk {index} has {source.size} bytes, the session was '
                f'started for {state.size}')
        begun, read = state.position, 0
        if not state.complete:
            writer = self._writer(index, source, observe)
            writer.run()
            read = writer.now_read
            state = self._states[index]
        else:
            observe(writing.Progress(
                state.size, state.size, state.read, state.skipped,
                state.new, state.stored, state.size))
        return DiskResult(index, state.size, state.read, state.skipped,
                          state.new, state.stored, begun, read)

    def _writer(self, index: int, source: Source,
                observe: writing.Observe) -> writing.DiskWriter:
        space, sessions = self._space, Sessions(self.name)
        base = self._record.base
        before = base[index].pages if index < len(base) else ()
        state = self._states[index]
        frontier = Frontier(
            space, self.name, sessions,
            dataclasses.replace(state, pages=list(state.pages)), before)
        history = History(space, sessions, before,
                          IdCache(writing.ID_CACHE)) if before else None

        def checkpoint(done: DiskState) -> None:
            self._checkpoint(index, done)

        ticket = writing.Ticket(self._next_seq, lambda: self._in_flight,
                                self._durable, checkpoint)
        return writing.DiskWriter(space, self.name, source, frontier,
                                  history, ticket, observe)

    def _next_seq(self) -> int:
        with self._lock:
            seq = self._next
            self._next += 1
            self._in_flight.add(seq)
            return seq

    def _durable(self, seq: int) -> None:
        with self._lock:
            self._in_flight.discard(seq)

    # -- checkpoints ------------------------------------------------------

    def _state(self) -> State:
        """All that is durable, of this session and the adopted ones."""
        with self._lock:
            packs = dict(self._record.state.packs)
            packs[self.name] = _gaps(self._next, self._in_flight)
            return State(list(self._states), packs)

    def _checkpoint(self, index: int, done: DiskState) -> None:
        with self._checkpoint_lock:
            with self._lock:
                self._states[index] = done
            self.check()
            self._checkpoints += 1
            seq = self._checkpoints
            records.put_checkpoint(self._space, self.name, seq,
                                   self._state())
            if seq > 2:
                self._space.backend.delete(layout.session_name(
                    self._space.name, self.name, seq - 2))

    def check(self) -> None:
        """See whether this session may still write.

        :raises LeaseLost: a successor or the collector has fenced it.
        """
        if not self._space.has(layout.session_name(self._space.name,
                                                   self.name)):
            raise errors.LeaseLost(
                f'session {self.name} was fenced: another one owns the '
                f'flow, or the collector took this one for dead')

    # -- the end ----------------------------------------------------------

    def finish(self, document: dict[str, Any]) -> Head:
        """Put the head, read it back, check that we were not fenced.

        May be called again after an error. When it returns the backup is
        committed; when it raises LeaseLost it is not, and its head is gone.

        :param document: JSON, kept as it is.
        :raises Conflict: a disk is not complete.
        :raises StoreCorrupt: a pack has vanished, or the head did not come
            back as it was put.
        """
        if self._head is not None:
            return self._head
        for index, disk in enumerate(self._states):
            if not disk.complete:
                raise errors.Conflict(
                    f'disk {index} of backup {self.backup_id} is stored '
                    f'up to byte {disk.position} of {disk.size} only')
        state = self._state()
        if not records.intact(self._space, state):
            raise errors.StoreCorrupt(
                f'packs or pages of session {self.name} have vanished',
                resource=f'backup {self.backup_id}')
        self.check()
        try:
            head = self._put_head(state, document)
        except errors.StoreCorrupt:
            self._check_or_retract()    # a successor may have removed it
            raise
        self._check_or_retract()
        self._head = head
        self._clean_up()
        return head

    def _check_or_retract(self) -> None:
        try:
            self.check()
        except errors.LeaseLost:
            self._space.backend.delete(layout.head_name(
                self._space.name, self.backup_id, self.name))
            raise

    def _put_head(self, state: State, document: dict[str, Any]) -> Head:
        disks = [HeadDisk(d.size, tuple(d.pages), d.chain)
                 for d in state.disks]
        head = Head(
            backup_id=self.backup_id, created=self._record.created,
            parent=self.parent, session=self.name, document=document,
            disks=tuple(disks), digest=heads.content_digest(disks),
            read_bytes=sum(d.read for d in state.disks),
            skipped_bytes=sum(d.skipped for d in state.disks),
            new_bytes=sum(d.new for d in state.disks),
            stored_bytes=sum(d.stored for d in state.disks))
        body = layout.dump_json(head.to_json())
        name = layout.head_name(self._space.name, self.backup_id, self.name)
        try:
            self._space.put(HEAD, name, body)
        except ObjectExists:
            return heads.read_head(self._space, name)
        if self._space.get(HEAD, name) != body:
            raise errors.StoreCorrupt(
                f'{name} did not come back as it was put',
                resource=f'object {name}')
        return heads.read_head(self._space, name)

    def _clean_up(self) -> None:
        """Remove what the head makes needless; a crash here leaves little.

        A head that an earlier session of this flow put is ours as well. One
        of a later session is not: that one may just have removed ours.
        """
        flow, epoch = layout.flow_of(self.name), layout.epoch_of(self.name)
        found = heads.list_heads(self._space, self.backup_id)
        for session in found.get(self.backup_id, ()):
            if (layout.flow_of(session) == flow
                    and layout.epoch_of(session) < epoch):
                self._space.backend.delete(layout.head_name(
                    self._space.name, self.backup_id, session))
        for session in (*self._record.adopted, self.name):
            forget(self._space, session)


def _gaps(end: int, missing: set[int]) -> list[tuple[int, int]]:
    """The numbers below ``end`` that are not missing, as ranges."""
    out = []
    first = 0
    for gap in [*sorted(missing), end]:
        if gap > first:
            out.append((first, gap - first))
        first = gap + 1
    return out
