"""Manifest pages: which chunk of which pack lies where, run by run.

A page describes a fixed stretch of a disk. The same references always give
the same bytes, so a page that did not change is found by its digest and
shared with the backup before. Nothing in it says where on which disk it lies:
that is the head's to say.

Unpacked, a page is a header (for each session: name, and ranges of the packs
that are used, so that the collector need not read on) and a body of runs.
Numbers are varints, seven bits a byte, low ones first.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

from bakflow.store import layout, sealing
from bakflow.store.layout import ZERO_REF

_MAX_PACKS = 1 << 20


class Sessions:
    """Numbers for the names of sessions, for as long as one job lasts.

    Number 0 is the session that the table was made for.
    """

    def __init__(self, own: str) -> None:
        self.names = [own]
        self._numbers = {own: 0}

    def number(self, name: str) -> int | None:
        """The number; None when there are too many sessions to number."""
        found = self._numbers.get(name)
        if found is None and len(self.names) < layout.MAX_SESSIONS:
            found = self._numbers[name] = len(self.names)
            self.names.append(name)
        return found


def put_varint(out: bytearray, value: int) -> None:
    """Append a number of at least 0."""
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


class _Cursor:
    """Reads varints; every wrong byte raises StoreCorrupt."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name
        self.pos = 0

    def bad(self, why: str) -> Exception:
        return sealing.corrupt(self.name, f'{why} at byte {self.pos}')

    def varint(self, limit: int) -> int:
        data, pos = self.data, self.pos
        value = shift = 0
        try:
            while True:
                byte = data[pos]
                pos += 1
                value |= (byte & 0x7F) << shift
                if byte < 0x80:
                    break
                shift += 7
                if shift > 63:
                    raise self.bad('a number is too long')
        except IndexError:
            raise self.bad('it ends too early') from None
        if value > limit:
            raise self.bad(f'{value} is more than {limit}')
        self.pos = pos
        return value

    def zigzag(self, limit: int) -> int:
        value = self.varint(2 * limit + 1)
        return -((value + 1) >> 1) if value & 1 else value >> 1


class PageWriter:
    """Collects the runs of one page.

    :param sessions: the table that gives the numbers in references.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._body = bytearray()
        self._local: dict[int, int] = {}        # number -> index here
        self._where: list[list[int]] = []       # pack, next slot, by index
        self._packs: list[set[int]] = []
        self._ref = 0
        self._run = 0
        self.count = 0

    def add(self, length: int, ref: int) -> None:
        """Append ``length`` chunks that begin at ``ref``, or zeros."""
        self.count += length
        if self._run:
            if ref == ZERO_REF:
                if self._ref == ZERO_REF:
                    self._run += length
                    return
            elif self._ref != ZERO_REF and ref == self._ref + self._run:
                self._run += length
                return
            self._close()
        self._ref = ref
        self._run = length

    def _close(self) -> None:
        self._encode(self._body, self._ref, self._run)

    def _encode(self, out: bytearray, ref: int, length: int) -> None:
        if ref == ZERO_REF:
            put_varint(out, length << 1)
            return
        put_varint(out, length << 1 | 1)
        number = ref >> 48
        index = self._local.get(number)
        if index is None:
            index = self._local[number] = len(self._where)
            self._where.append([0, 0])
            self._packs.append(set())
        put_varint(out, index)
        where = self._where[index]
        seq, slot = layout.ref_seq(ref), ref & 0xFFFF
        put_varint(out, _zigzag(seq - where[0]))
        if seq == where[0]:
            put_varint(out, _zigzag(slot - where[1]))
        else:
            put_varint(out, slot)
            where[0] = seq
        where[1] = slot + length
        self._packs[index].add(seq)

    @property
    def empty(self) -> bool:
        """Whether the page holds nothing but zeros."""
        return not self._where and (not self._run
                                    or self._ref == ZERO_REF)

    def dump(self) -> bytes:
        """The page as far as it is written; more may be added after."""
        if self._run:
            # The open run is written for good: a page that goes on after a
            # dump merges again in load(), so the bytes stay canonical.
            tail = bytearray()
            saved = self._save()
            self._encode(tail, self._ref, self._run)
            head = self._header()
            self._restore(saved)
        else:
            tail, head = bytearray(), self._header()
        return b''.join((head, self._body, tail))

    def _save(self) -> tuple[int, int, list[int], bool]:
        number = self._ref >> 48
        index = self._local.get(number, -1)
        if self._ref == ZERO_REF:
            return -1, -1, [], False
        if index < 0:
            return number, -1, [], False
        known = layout.ref_seq(self._ref) in self._packs[index]
        return number, index, list(self._where[index]), known

    def _restore(self, saved: tuple[int, int, list[int], bool]) -> None:
        number, index, where, known = saved
        if number < 0:
            return
        if index < 0:
            del self._local[number]
            self._where.pop()
            self._packs.pop()
            return
        self._where[index] = where
        if not known:
            self._packs[index].discard(layout.ref_seq(self._ref))

    def _header(self) -> bytes:
        out = bytearray()
        put_varint(out, self.count)
        put_varint(out, len(self._where))
        for number, packs in zip(self._local, self._packs, strict=True):
            name = self._sessions.names[number].encode()
            put_varint(out, len(name))
            out += name
            ranges = _ranges(packs)
            put_varint(out, len(ranges))
            last = 0
            for first, count in ranges:
                put_varint(out, first - last)
                put_varint(out, count)
                last = first + count
        return bytes(out)


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if out and out[-1][0] + out[-1][1] == number:
            out[-1] = (out[-1][0], out[-1][1] + 1)
        else:
            out.append((number, 1))
    return out


class Page:
    """A page that was read: its header checked, its runs on demand.

    :param data: the unpacked page.
    :param name: the object's name, for errors.
    :param limit: how many chunks a page of this domain describes at most.
    :raises StoreCorrupt: the header makes no sense.
    """

    def __init__(self, data: bytes, name: str, limit: int) -> None:
        self.name = name
        self._data = data
        cursor = _Cursor(data, name)
        self.count = cursor.varint(limit)
        #: for each session in the page: its name and the packs used
        self.packs: dict[str, set[int]] = {}
        left = min(_MAX_PACKS, self.count)
        for _ in range(cursor.varint(min(layout.MAX_SESSIONS, self.count))):
            session = self._session(cursor)
            packs = self._ranges(cursor, left)
            left -= len(packs)
            self.packs[session] = packs
        self._start = cursor.pos

    def _session(self, cursor: _Cursor) -> str:
        end = cursor.varint(200)
        raw = self._data[cursor.pos:cursor.pos + end]
        cursor.pos += end
        session = raw.decode('ascii', 'replace')
        if not layout.is_session(session) or session in self.packs:
            raise cursor.bad('a session has no name')
        return session

    @staticmethod
    def _ranges(cursor: _Cursor, left: int) -> set[int]:
        packs: set[int] = set()
        last = 0
        for _ in range(cursor.varint(left)):
            first = last + cursor.varint(layout.MAX_SEQ)
            count = cursor.varint(left - len(packs))
            last = first + count
            if last > layout.MAX_SEQ + 1 or not count:
                raise cursor.bad('a range of packs makes no sense')
            packs.update(range(first, last))
        return packs

    def runs(self, sessions: Sessions) -> Iterator[tuple[int, int]]:
        """Length in chunks and first reference of each run, in order.

        A session that ``sessions`` cannot number ends the page with
        StoreCorrupt, as any wrong byte does.
        """
        cursor = _Cursor(self._data, self.name)
        cursor.pos = self._start
        numbers = [sessions.number(name) for name in self.packs]
        packs = list(self.packs.values())
        where = [[0, 0] for _ in numbers]
        left = self.count
        while left:
            key = cursor.varint(left << 1 | 1)
            length = key >> 1
            if not 0 < length <= left:
                raise cursor.bad('a run is empty or too long')
            left -= length
            if key & 1:
                index = cursor.varint(len(numbers) - 1)
                number = numbers[index]
                seq, slot = self._place(cursor, where[index], length)
                if seq not in packs[index] or number is None:
                    raise cursor.bad('a run points into an unknown pack')
                yield length, layout.make_ref(number, seq, slot)
            else:
                yield length, ZERO_REF
        if cursor.pos != len(self._data):
            raise cursor.bad('it goes on where it should end')

    @staticmethod
    def _place(cursor: _Cursor, where: list[int],
               length: int) -> tuple[int, int]:
        seq = where[0] + cursor.zigzag(layout.MAX_SEQ)
        if seq == where[0]:
            slot = where[1] + cursor.zigzag(0xFFFF)
        else:
            slot = cursor.varint(0xFFFF)
        if not (0 <= seq <= layout.MAX_SEQ
                and 0 <= slot <= slot + length <= 0xFFFF):
            raise cursor.bad('a run lies outside of any pack')
        where[0], where[1] = seq, slot + length
        return seq, slot


def load(data: bytes, name: str, limit: int,
         sessions: Sessions) -> PageWriter:
    """A writer that goes on after a page that :meth:`PageWriter.dump` made.

    :raises StoreCorrupt: the page makes no sense.
    """
    writer = PageWriter(sessions)
    for length, ref in Page(data, name, limit).runs(sessions):
        writer.add(length, ref)
    return writer


def runs_of(refs: array[int]) -> array[int]:
    """References of single chunks as pairs of length and first reference."""
    out = array('Q')
    first = refs[0]
    run = 1
    for ref in refs[1:]:
        if ref == ZERO_REF:
            same = first == ZERO_REF
        else:
            same = first != ZERO_REF and ref == first + run
        if same:
            run += 1
        else:
            out.append(run)
            out.append(first)
            first = ref
            run = 1
    out.append(run)
    out.append(first)
    return out
