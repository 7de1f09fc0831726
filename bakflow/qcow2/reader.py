"""Where the data of a qcow2 image lies, read by ranges and without trust.

The image comes from a service, so nothing in it is believed: every size and
offset is checked before it is used, tables are read only when they are
needed, and memory stays bounded however large the disk claims to be. Only
what Cinder's ``qemu-img convert -c`` writes is taken: no backing file, no
encryption, no external data file; clusters as they are, or deflated (Cinder
compresses by default: ``image_compress_on_upload``).
"""

from __future__ import annotations

import array
import collections
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bakflow.qcow2 import layout
from bakflow.qcow2.layout import Qcow2Error

#: ``pread(offset, length)``: that much of the image file, or less at its end.
Pread = Callable[[int, int], bytes]

#: The largest disk that is believed: 1 PiB.
MAX_DISK = 1 << 50

#: QEMU's own limit of an L1 table (QCOW_MAX_L1_SIZE): 32 MiB.
MAX_L1_BYTES = 32 << 20

_L1_PIECE = 8192          # bytes of the L1 table that are read at once
_CACHED_TABLES = 4        # at most 2 MiB each

_FEATURES = {
    0: 'it was not closed properly (dirty bit)',
    1: 'it is marked corrupt',
    2: 'its data lies in an external file',
    3: 'it uses another compression type',
    4: 'it uses extended L2 entries',
}


class Extent(NamedTuple):
    """A run of the disk: data at ``host_offset`` of the file, or zeros.

    :param offset: where it begins on the disk, in bytes.
    :param length: in bytes, never zero.
    :param host_offset: where it lies in the image file; None means zeros.
    :param packed: the extent is (part of) one compressed cluster of at most
        this many bytes at ``host_offset``: see :meth:`Qcow2Image.inflate`.
    :param into: where the extent begins in that cluster.
    """

    offset: int
    length: int
    host_offset: int | None
    packed: int | None = None
    into: int = 0


class Qcow2Image:
    """One qcow2 image, open for reading its tables.

    Use :meth:`open`. Not for several threads at once.
    """

    def __init__(self, pread: Pread, *, size: int, cluster_bits: int,
                 version: int, l1_offset: int,
                 file_size: int | None) -> None:
        self.size = size
        self.version = version
        self.cluster_size = 1 << cluster_bits
        self.file_size = file_size
        self._pread = pread
        self._l1_offset = l1_offset
        # Of a compressed cluster's entry: bits of its offset (spec: 62 -
        # (cluster_bits - 8)), the rest counts its further sectors.
        self._packed_bits = 62 - (cluster_bits - 8)
        self._l2_entries = self.cluster_size // 8
        self._l2_span = self.cluster_size * self._l2_entries
        self._l1_len = layout.ceil_div(size, self._l2_span)
        self._tables: collections.OrderedDict[
            int, array.array[int]] = collections.OrderedDict()
        reserved = ~(layout.OFFSET_MASK | layout.COPIED) & (2**64 - 1)
        self._bad_l1 = reserved | (self.cluster_size - 1)
        self._bad_l2 = self._bad_l1 & ~(
            layout.ZERO if version >= 3 else 0)

    @classmethod
    def open(cls, pread: Pread, file_size: int | None = None) -> Qcow2Image:
        """Read the header.

        :param file_size: the length of the image file in bytes, when it is
            known: then no extent points behind its end.
        :raises Qcow2Error: when it is no qcow2 image that can be backed up.
        """
        header = pread(0, layout.HEADER_V2.size + layout.HEADER_V3.size)
        if header[:4] != layout.MAGIC:
            raise Qcow2Error('the image is not in the qcow2 format')
        if len(header) < layout.HEADER_V2.size:
            raise Qcow2Error('the qcow2 image ends within its header')
        (_, version, backing, _, cluster_bits, size, crypt, l1_size,
         l1_offset, *_) = layout.HEADER_V2.unpack_from(header)
        if version not in (2, 3):
            raise Qcow2Error(f'qcow2 version {version} is not known')
        if version == 3:
            _check_features(header)
        if backing:
            raise Qcow2Error('the qcow2 image has a backing file')
        if crypt:
            raise Qcow2Error('the qcow2 image is encrypted')
        if not 9 <= cluster_bits <= 21:
            raise Qcow2Error(f'the qcow2 image has impossible clusters of '
                             f'2^{cluster_bits} bytes')
        if size > MAX_DISK:
            raise Qcow2Error(f'the qcow2 image claims a disk of {size} bytes')
        image = cls(pread, size=size, cluster_bits=cluster_bits,
                    version=version, l1_offset=l1_offset,
                    file_size=file_size)
        image._check_l1(l1_size)
        return image

    def extents(self, start: int = 0) -> Iterator[Extent]:
        """What the disk consists of from ``start`` on: gapless, in order.

        Runs that lie together in the file are one extent.

        :raises Qcow2Error: when a table is damaged.
        """
        if start < 0:
            raise ValueError('start must not be negative')
        held: Extent | None = None
        for extent in self._clusters(start):
            if held is None:
                held = extent
            elif _joins(held, extent):
                held = held._replace(length=held.length + extent.length)
            else:
                yield held
                held = extent
        if held is not None:
            yield held

    def inflate(self, extent: Extent, data: bytes | memoryview) -> bytes:
        """The bytes of a compressed extent.

        :param data: its ``packed`` bytes of the file from ``host_offset``.
        :raises Qcow2Error: it does not inflate to exactly one cluster.
        """
        # Window of 2^12 and no header, as QEMU's qcow2_zlib_compress has it.
        inflater = zlib.decompressobj(wbits=-12)
        try:
            cluster = inflater.decompress(data, self.cluster_size)
        except zlib.error as exc:
            raise Qcow2Error(f'the compressed cluster for byte '
                             f'{extent.offset} of the qcow2 disk is damaged'
                             ) from exc
        if len(cluster) != self.cluster_size:
            raise Qcow2Error(f'the compressed cluster for byte '
                             f'{extent.offset} of the qcow2 disk is too '
                             f'short')
        return cluster[extent.into:extent.into + extent.length]

    # -- inside -----------------------------------------------------------

    def _check_l1(self, l1_size: int) -> None:
        if l1_size * 8 > MAX_L1_BYTES:
            raise Qcow2Error(f'the qcow2 image has an L1 table of {l1_size} '
                             f'entries')
        if l1_size < self._l1_len:
            raise Qcow2Error('the L1 table of the qcow2 image is too small '
                             'for its disk')
        if self._l1_len and (not self._l1_offset
                             or self._l1_offset % self.cluster_size):
            raise Qcow2Error('the L1 table of the qcow2 image lies at an '
                             'impossible offset')
        self._check_end(self._l1_offset, self._l1_len * 8)

    def _clusters(self, start: int) -> Iterator[Extent]:
        """The extents of each L2 table for itself."""
        for index in range(start // self._l2_span, self._l1_len):
            base = index * self._l2_span
            end = min(base + self._l2_span, self.size)
            first = max(start, base)
            if first >= end:
                return
            l2_offset = self._l1_entry(index)
            if not l2_offset:
                yield Extent(first, end - first, None)
                continue
            table = self._l2_table(l2_offset)
            yield from self._runs(table, base, first, end)

    def _runs(self, table: array.array[int], base: int, first: int,
              end: int) -> Iterator[Extent]:
        cluster = self.cluster_size
        offset = first
        while offset < end:
            entry = table[(offset - base) // cluster]
            into = offset % cluster
            length = min(cluster - into, end - offset)
            if not entry:
                yield Extent(offset, length, None)
            elif entry & layout.COMPRESSED:
                yield self._compressed(entry, offset, length, into)
            else:
                host = self._host(entry, offset)
                if host is not None:
                    host += into
                    self._check_end(host, length)
                yield Extent(offset, length, host)
            offset += length

    def _compressed(self, entry: int, offset: int, length: int,
                    into: int) -> Extent:
        host = entry & (1 << self._packed_bits) - 1
        if entry & layout.COPIED or not host:
            raise Qcow2Error(f'the L2 entry for byte {offset} of the qcow2 '
                             f'disk is damaged: {entry:#018x}')
        more = (entry & layout.COMPRESSED - 1) >> self._packed_bits
        packed = (more + 1) * layout.SECTOR - host % layout.SECTOR
        if self.file_size is not None:
            # The last sector need not be whole at the end of the file.
            packed = min(packed, self.file_size - host)
            self._check_end(host, max(1, packed))
        return Extent(offset, length, host, packed, into)

    def _host(self, entry: int, offset: int) -> int | None:
        if entry & self._bad_l2:
            raise Qcow2Error(f'the L2 entry for byte {offset} of the qcow2 '
                             f'disk is damaged: {entry:#018x}')
        if entry & layout.ZERO:
            return None
        return (entry & layout.OFFSET_MASK) or None

    def _l1_entry(self, index: int) -> int:
        first = index - index % (_L1_PIECE // 8)
        count = min(_L1_PIECE // 8, self._l1_len - first)
        table = self._table(self._l1_offset + first * 8, count)
        entry = table[index - first]
        if entry & self._bad_l1:
            raise Qcow2Error(f'L1 entry {index} of the qcow2 image is '
                             f'damaged: {entry:#018x}')
        return entry & layout.OFFSET_MASK

    def _l2_table(self, offset: int) -> array.array[int]:
        return self._table(offset, self._l2_entries)

    def _table(self, offset: int, count: int) -> array.array[int]:
        """Big-endian entries, from a cache of the few used last."""
        table = self._tables.get(offset)
        if table is not None and len(table) == count:
            self._tables.move_to_end(offset)
            return table
        self._check_end(offset, count * 8)
        data = self._pread(offset, count * 8)
        if len(data) != count * 8:
            raise Qcow2Error(f'the qcow2 image ends within a table (at byte '
                             f'{offset})')
        table = array.array('Q', data)
        if sys.byteorder == 'little':
            table.byteswap()
        self._tables[offset] = table
        while len(self._tables) > _CACHED_TABLES:
            self._tables.popitem(last=False)
        return table

    def _check_end(self, offset: int, length: int) -> None:
        if self.file_size is not None and offset + length > self.file_size:
            raise Qcow2Error(f'the qcow2 image points at byte '
                             f'{offset + length} of a file of '
                             f'{self.file_size} bytes')


def _check_features(header: bytes) -> None:
    if len(header) < layout.HEADER_V2.size + layout.HEADER_V3.size:
        raise Qcow2Error('the qcow2 image ends within its header')
    incompatible, _, _, _, header_length = layout.HEADER_V3.unpack_from(
        header, layout.HEADER_V2.size)
    if header_length < len(header):
        raise Qcow2Error(f'the qcow2 header is {header_length} bytes long')
    for bit in range(64):
        if incompatible >> bit & 1:
            reason = _FEATURES.get(bit, f'it uses unknown feature {bit}')
            raise Qcow2Error(f'the qcow2 image cannot be read: {reason}')


def _joins(one: Extent, two: Extent) -> bool:
    if one.packed is not None or two.packed is not None:
        return False
    if one.host_offset is None or two.host_offset is None:
        return one.host_offset is two.host_offset
    return one.host_offset + one.length == two.host_offset
