"""A qcow2 image with compressed clusters, as ``qemu-img convert -c`` has it.

Cinder compresses what it uploads as qcow2 unless told otherwise, so a client
has to read that. Clusters that do not shrink are stored as they are. Data
come first, then L2 tables, the L1 table and refcounts; the header last.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

from bakflow.qcow2 import layout

BITS = 16
CLUSTER = 1 << BITS
_ENTRIES = CLUSTER // 8
_REFCOUNTS = CLUSTER // 2
#: where the count of sectors begins in the entry of a compressed cluster
_SECTORS_SHIFT = 62 - (BITS - 8)
_BATCH = 64

#: ``read(offset, length)``: that much of the disk
Read = Callable[[int, int], bytes]


def _pack(data: bytes) -> bytes | None:
    """The cluster deflated as QEMU does, or None when it does not shrink."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -12)
    packed = packer.compress(data) + packer.flush()
    return packed if len(packed) < CLUSTER else None


def _packed(read: Read, size: int, clusters: Iterable[int]
            ) -> Iterator[tuple[int, bytes, bytes | None]]:
    """(index, bytes, packed bytes) of each cluster, two at a time."""
    def one(index: int) -> tuple[int, bytes, bytes | None]:
        offset = index * CLUSTER
        data = read(offset, min(CLUSTER, size - offset)).ljust(
            CLUSTER, b'\0')
        return index, data, _pack(data)

    source = iter(clusters)
    with ThreadPoolExecutor(2) as pool:
        while batch := list(itertools.islice(source, _BATCH)):
            yield from pool.map(one, batch)


class _Image:
    """The file as it grows."""

    def __init__(self, f: BinaryIO) -> None:
        self._f = f
        self.end = CLUSTER          # behind the header
        self.counts: Counter[int] = Counter({0: 1})

    def align(self) -> int:
        self.end = layout.ceil_div(self.end, CLUSTER) * CLUSTER
        return self.end

    def put(self, data: bytes) -> int:
        """Append; counts a reference for each cluster of the file."""
        start = self.end
        self._f.seek(start)
        self._f.write(data)
        self.end += len(data)
        for index in range(start // CLUSTER, (self.end - 1) // CLUSTER + 1):
            self.counts[index] += 1
        return start

    def put_table(self, values: array[int]) -> int:
        """Append a table of big-endian numbers in clusters of its own."""
        self.align()
        values = array('Q', values)
        values.byteswap()
        data = values.tobytes()
        return self.put(data.ljust(
            max(1, layout.ceil_div(len(data), CLUSTER)) * CLUSTER, b'\0'))


def _entry(image: _Image, data: bytes, packed: bytes | None) -> int:
    if packed is None:
        image.align()
        return layout.COPIED | image.put(data)
    start = image.put(packed)
    sectors = ((image.end - 1) // layout.SECTOR - start // layout.SECTOR)
    return layout.COMPRESSED | sectors << _SECTORS_SHIFT | start


def write(f: BinaryIO, size: int, clusters: Iterable[int],
          read: Read) -> None:
    """Write the image of a disk.

    :param size: of the disk in bytes.
    :param clusters: the indices of the 64 KiB that hold data, ascending.
    """
    image = _Image(f)
    l1 = array('Q', bytes(8 * layout.ceil_div(size, CLUSTER * _ENTRIES)))
    found = _packed(read, size, clusters)
    for number, group in itertools.groupby(
            found, key=lambda one: one[0] // _ENTRIES):
        table = array('Q', bytes(CLUSTER))
        for index, data, packed in group:
            table[index % _ENTRIES] = _entry(image, data, packed)
        l1[number] = layout.COPIED | image.put_table(table)
    l1_offset = image.put_table(l1)
    refcounts, count = _put_refcounts(image)
    f.seek(0)
    f.write(layout.HEADER_V2.pack(
        layout.MAGIC, 3, 0, 0, BITS, size, 0, len(l1), l1_offset, refcounts,
        count, 0, 0) + layout.HEADER_V3.pack(0, 0, 0, 4, 104))
    f.truncate(image.align())


def _put_refcounts(image: _Image) -> tuple[int, int]:
    """The refcount table's offset and its clusters."""
    used = image.align() // CLUSTER
    blocks = tables = 1
    while (layout.ceil_div(used + blocks + tables, _REFCOUNTS) > blocks
           or layout.ceil_div(blocks, _ENTRIES) > tables):
        blocks = layout.ceil_div(used + blocks + tables, _REFCOUNTS)
        tables = layout.ceil_div(blocks, _ENTRIES)
    for index in range(used, used + blocks + tables):
        image.counts[index] = 1
    entries = array('Q')
    for block in range(blocks):
        first = block * _REFCOUNTS
        counts = [image.counts[first + i] for i in range(_REFCOUNTS)]
        entries.append(image.end)
        image.put(struct.pack(f'>{_REFCOUNTS}H', *counts))
    return image.put_table(entries), tables
