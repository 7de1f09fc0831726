"""Packs: up to 32 MiB of sealed frames, and a sealed footer that tells them.

``frames | sealed footer | salt | footer length | magic``. The salt
makes a key that no other pack has, so a frame's nonce is its number. Lengths
of frames, the only thing that could tell something of their content, are in
the footer. A compacted pack (``gen`` above 0) keeps numbers and bytes of the
frames that live; dead ones stand in its table with a length of 0.
"""

from __future__ import annotations

import os
import struct
import threading
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import blake3
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bakflow.store import layout, sealing
from bakflow.store.layout import ID, Params
from bakflow.store.sealing import SALT, TAG

MAGIC = b'BKFPACK1'
ZSTD = 1                                #: flag of a frame: it is packed
_TRAILER = struct.Struct(f'<{SALT}sI8s')
_COUNTS = struct.Struct('<II')
_FRAME = struct.Struct('<IHH')          # stored length, chunks, flags
_GUESS = 40 << 10                       # a footer of 2048 slots fits in
_MAX_FOOTER = (1 << layout.SLOT_BITS) * (ID + _FRAME.size) + 64
_INTO = hasattr(AESGCM, 'encrypt_into')


def frame_nonce(number: int) -> bytes:
    """The nonce of a frame: its number in the pack."""
    return number.to_bytes(12, 'little')


def footer_nonce(gen: int) -> bytes:
    """The nonce of a footer: no frame's number is as high."""
    return ((1 << 95) + gen).to_bytes(12, 'little')


def seal_into(cipher: AESGCM, nonce: bytes, body: Any, bound: bytes,
              out: memoryview) -> None:
    """Seal into memory that is there (a new page costs 3 µs)."""
    if _INTO:
        cipher.encrypt_into(nonce, body, bound, out)
    else:
        out[:] = cipher.encrypt(nonce, body, bound)


class PackBuilder:
    """Fills a buffer with the frames of one pack.

    :param view: at least ``params.pack`` bytes.
    :param key: the domain's key for packs.
    :param bound: what the frames are bound to: store, domain, session, pack.
    """

    def __init__(self, view: memoryview, key: bytes, bound: bytes,
                 seq: int, params: Params) -> None:
        self.seq = seq
        self.slots = 0
        self._view = view
        self._params = params
        self._bound = bound
        self._salt = os.urandom(SALT)
        self._cipher = AESGCM(blake3.blake3(self._salt, key=key).digest())
        self._frames = bytearray()
        self._count = 0
        self._ids: list[bytes] = []
        self._end = 0

    def has_room(self, size: int, chunks: int) -> bool:
        """Whether a frame of at most ``size`` bytes still fits."""
        slots = self.slots + chunks
        footer = (_COUNTS.size + (self._count + 1) * _FRAME.size
                  + slots * ID + TAG + _TRAILER.size)
        return (slots <= self._params.slots
                and self._end + size + TAG + footer <= self._params.pack)

    def add(self, body: bytes | memoryview, flags: int,
            ids: list[bytes]) -> int:
        """Seal a frame; the slot of its first chunk."""
        end = self._end + len(body) + TAG
        seal_into(self._cipher, frame_nonce(self._count), body,
                  self._bound, self._view[self._end:end])
        self._frames += _FRAME.pack(end - self._end, len(ids), flags)
        self._count += 1
        self._end = end
        first = self.slots
        self.slots += len(ids)
        self._ids.extend(ids)
        return first

    def close(self) -> int:
        """Seal the footer; the length of the pack."""
        footer = b''.join((_COUNTS.pack(self._count, self.slots),
                           self._frames, *self._ids))
        sealed = self._cipher.encrypt(footer_nonce(0), footer, self._bound)
        tail = sealed + _TRAILER.pack(self._salt, len(sealed), MAGIC)
        self._view[self._end:self._end + len(tail)] = tail
        return self._end + len(tail)


class Footer:
    """What a pack's footer says.

    :raises StoreCorrupt: it makes no sense.
    """

    def __init__(self, body: bytes, name: str) -> None:
        if len(body) < _COUNTS.size:
            raise sealing.corrupt(name, 'its footer is too short')
        count, slots = _COUNTS.unpack_from(body)
        table = _COUNTS.size + count * _FRAME.size
        if (slots >= 1 << layout.SLOT_BITS or count > slots
                or len(body) != table + slots * ID):
            raise sealing.corrupt(name, 'its footer has another length')
        self.ids = body[table:]
        self.offsets = array('Q')
        self.firsts = array('I')
        self.lengths = array('I')
        self.flags = array('H')
        offset = slot = 0
        for stored, chunks, flags in _FRAME.iter_unpack(
                body[_COUNTS.size:table]):
            if not chunks or chunks > layout.PER_SEGMENT or (
                    stored and not TAG < stored <= 2 * layout.SEGMENT):
                raise sealing.corrupt(name, 'a frame has a wrong length')
            self.offsets.append(offset)
            self.firsts.append(slot)
            self.lengths.append(stored)
            self.flags.append(flags)
            offset += stored
            slot += chunks
        if slot != slots:
            raise sealing.corrupt(name, 'its frames hold other chunks')
        self.slots = slots

    def frame_of(self, slot: int) -> int:
        """The number of the frame that holds a slot."""
        return bisect_right(self.firsts, slot) - 1

    def chunks(self, frame: int) -> int:
        """How many chunks a frame holds."""
        nxt = frame + 1
        end = self.firsts[nxt] if nxt < len(self.firsts) else self.slots
        return end - self.firsts[frame]


class Pack:
    """An opened pack: where it lies, its cipher and its footer."""

    def __init__(self, name: str, cipher: AESGCM, bound: bytes,
                 footer: Footer) -> None:
        self.name = name
        self.footer = footer
        self._cipher = cipher
        self._bound = bound

    def open_frame(self, number: int, sealed: memoryview,
                   scratch: memoryview,
                   zstd: zstandard.ZstdDecompressor) -> bytes | memoryview:
        """The chunks of a frame, authenticated and unpacked.

        What is returned may lie in ``scratch``.

        :raises StoreCorrupt: the frame is not what was written.
        """
        size = self.footer.chunks(number) * layout.CHUNK
        try:
            if _INTO:
                body = scratch[:len(sealed) - TAG]
                self._cipher.decrypt_into(
                    frame_nonce(number), sealed, self._bound, body)
            else:
                body = memoryview(self._cipher.decrypt(
                    frame_nonce(number), sealed, self._bound))
        except InvalidTag:
            raise sealing.corrupt(
                self.name, f'frame {number} does not authenticate') from None
        flags = self.footer.flags[number]
        data: bytes | memoryview = body
        if flags & ZSTD:
            data = sealing.unpack(body, size, self.name, zstd)
        if len(data) != size or flags & ~ZSTD:
            raise sealing.corrupt(
                self.name, f'frame {number} has another length')
        return data


def open_pack(read_tail: Callable[[int], bytes], name: str, key: bytes,
              bound: bytes, gen: int) -> Pack:
    """Read and check a footer; mostly with one request.

    :param read_tail: returns the last so many bytes of the object.
    :raises StoreCorrupt: it does not open, or is not where it says.
    """
    tail = read_tail(_GUESS)
    if len(tail) < _TRAILER.size:
        raise sealing.corrupt(name, 'it is too short')
    salt, length, magic = _TRAILER.unpack_from(tail,
                                               len(tail) - _TRAILER.size)
    need = length + _TRAILER.size
    if magic != MAGIC or not TAG < length <= _MAX_FOOTER:
        raise sealing.corrupt(name, 'it does not end as it must')
    if need > len(tail):
        tail = read_tail(need)
    if need > len(tail):
        raise sealing.corrupt(name, 'it is too short for its footer')
    cipher = AESGCM(blake3.blake3(salt, key=key).digest())
    start = len(tail) - need
    try:
        body = cipher.decrypt(footer_nonce(gen), tail[start:start + length],
                              bound)
    except InvalidTag:
        raise sealing.corrupt(
            name, 'its footer does not authenticate') from None
    return Pack(name, cipher, bound, Footer(body, name))


K = TypeVar('K')
V = TypeVar('V')


class Cache(Generic[K, V]):
    """The most recently used values, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._lock = threading.Lock()
        self._items: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value, which becomes the most recent."""
        with self._lock:
            item = self._items.get(key)
            if item is None:
                return None
            self._items.move_to_end(key)
            return item[0]

    def put(self, key: K, value: V, size: int) -> None:
        """Keep a value of ``size`` bytes and forget the oldest."""
        with self._lock:
            if key in self._items:
                return
            self._items[key] = (value, size)
            self._used += size
            while self._used > self._limit and len(self._items) > 1:
                _, (_, freed) = self._items.popitem(last=False)
                self._used -= freed
