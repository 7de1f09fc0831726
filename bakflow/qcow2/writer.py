"""A sparse qcow2 image streamed in order, without a temporary file.

A restore knows from the manifest which parts of the disk are empty. So all
tables can be computed before the first byte is sent, and the image is one
forward stream of a length known beforehand, as Glance wants it: header,
refcounts, L1 table, then each L2 table followed by its data. Memory: one bit
for each 64 KiB of disk that lies in a used 512 MiB (2 MiB for 1 TiB), and
one piece of data.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Iterable, Iterator

from bakflow.qcow2 import layout
from bakflow.qcow2.layout import ceil_div

CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
_L2_ENTRIES = CLUSTER // 8
_L2_SPAN = CLUSTER * _L2_ENTRIES
_REFCOUNT_ORDER = 4
_REFCOUNTS = CLUSTER // 2      # in a refcount block: 16 bits each
_HEADER_LENGTH = 104

#: Clusters read and sent at once: 1 MiB.
_PIECE = 16

#: ``read(offset, length)``: exactly that much of the disk.
Read = Callable[[int, int], bytes | bytearray | memoryview]


def total_size(size: int, extents: Iterable[tuple[int, int]]) -> int:
    """How many bytes :func:`stream` gives for the same disk."""
    return _Plan.of(size, extents).clusters * CLUSTER


def stream(size: int, extents: Iterable[tuple[int, int]],
           read: Read) -> Iterator[bytes]:
    """A qcow2 v3 image, byte for byte in order.

    Clusters that no extent touches are left out and read as zeros.

    :param size: of the disk in bytes. The image says a multiple of 512, as
        QEMU counts in sectors; what is added reads as zeros.
    :param extents: (offset, length) of what holds data, in bytes, in any
        order; they may overlap.
    :param read: is asked for whole clusters (or up to the end of the disk)
        round these extents, in ascending order, at most 1 MiB at once.
    :raises ValueError: when an extent lies outside the disk, or ``read``
        gives another length than asked for.
    """
    plan = _Plan.of(size, extents)
    return _stream(plan, read)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Where everything goes. ``used[i]`` has a bit for each cluster of the
    i-th 512 MiB that holds data."""

    size: int
    used: dict[int, int]
    refcount_table: int     # clusters
    refcount_blocks: int    # clusters
    l1_entries: int
    clusters: int           # of the whole image

    @classmethod
    def of(cls, size: int, extents: Iterable[tuple[int, int]]) -> _Plan:
        if size < 0:
            raise ValueError('a disk has no negative size')
        used = _used_clusters(size, extents)
        l1_entries = max(1, ceil_div(size, _L2_SPAN))
        fixed = (1 + ceil_div(l1_entries * 8, CLUSTER) + len(used)
                 + sum(mask.bit_count() for mask in used.values()))
        table = blocks = 1
        while True:
            total = fixed + table + blocks
            need = ceil_div(total, _REFCOUNTS)
            need_table = ceil_div(need * 8, CLUSTER)
            if (need, need_table) == (blocks, table):
                return cls(size, used, table, blocks, l1_entries, total)
            blocks, table = max(need, blocks), max(need_table, table)

    @property
    def l1_cluster(self) -> int:
        return 1 + self.refcount_table + self.refcount_blocks

    @property
    def first_l2(self) -> int:
        return self.l1_cluster + ceil_div(self.l1_entries * 8, CLUSTER)


def _used_clusters(size: int,
                   extents: Iterable[tuple[int, int]]) -> dict[int, int]:
    used: dict[int, int] = {}
    for offset, length in extents:
        if offset < 0 or length < 0 or offset + length > size:
            raise ValueError(f'extent {offset}+{length} lies outside the '
                             f'disk of {size} bytes')
        if not length:
            continue
        first, end = offset // CLUSTER, ceil_div(offset + length, CLUSTER)
        while first < end:
            index, bit = divmod(first, _L2_ENTRIES)
            count = min(end - first, _L2_ENTRIES - bit)
            used[index] = used.get(index, 0) | ((1 << count) - 1) << bit
            first += count
    return dict(sorted(used.items()))


def _stream(plan: _Plan, read: Read) -> Iterator[bytes]:
    yield _header(plan)
    yield from _refcounts(plan)
    yield from _l1_table(plan)
    cluster = plan.first_l2
    for index, mask in plan.used.items():
        runs = list(_runs(mask))
        yield _l2_table(runs, cluster + 1)
        base = index * _L2_ENTRIES
        for bit, count in runs:
            yield from _data(plan.size, base + bit, count, read)
        cluster += 1 + mask.bit_count()


def _header(plan: _Plan) -> bytes:
    size = ceil_div(plan.size, layout.SECTOR) * layout.SECTOR
    two = layout.HEADER_V2.pack(
        layout.MAGIC, 3, 0, 0, CLUSTER_BITS, size, 0, plan.l1_entries,
        plan.l1_cluster * CLUSTER, CLUSTER, plan.refcount_table, 0, 0)
    three = layout.HEADER_V3.pack(0, 0, 0, _REFCOUNT_ORDER, _HEADER_LENGTH)
    return (two + three).ljust(CLUSTER, b'\0')


def _refcounts(plan: _Plan) -> Iterator[bytes]:
    """The table, then its blocks: every cluster is used once."""
    first = 1 + plan.refcount_table
    table = b''.join(
        struct.pack('>Q', (first + i) * CLUSTER)
        for i in range(plan.refcount_blocks))
    yield table.ljust(plan.refcount_table * CLUSTER, b'\0')
    left = plan.clusters
    for _ in range(plan.refcount_blocks):
        count = min(left, _REFCOUNTS)
        yield (b'\0\1' * count).ljust(CLUSTER, b'\0')
        left -= count


def _l1_table(plan: _Plan) -> Iterator[bytes]:
    cluster = plan.first_l2
    entries = bytearray(ceil_div(plan.l1_entries * 8, CLUSTER) * CLUSTER)
    for index, mask in plan.used.items():
        struct.pack_into('>Q', entries, index * 8,
                         cluster * CLUSTER | layout.COPIED)
        cluster += 1 + mask.bit_count()
    yield bytes(entries)


def _l2_table(runs: list[tuple[int, int]], cluster: int) -> bytes:
    """A table whose clusters follow each other from ``cluster`` on."""
    entries = bytearray(CLUSTER)
    for bit, count in runs:
        struct.pack_into(
            f'>{count}Q', entries, bit * 8,
            *(i * CLUSTER | layout.COPIED
              for i in range(cluster, cluster + count)))
        cluster += count
    return bytes(entries)


def _runs(mask: int) -> Iterator[tuple[int, int]]:
    """The runs of ones in a mask, as (first bit, number)."""
    bit = 0
    while mask:
        skip = (mask & -mask).bit_length() - 1
        mask >>= skip
        bit += skip
        count = (~mask & (mask + 1)).bit_length() - 1
        yield bit, count
        mask >>= count
        bit += count


def _data(size: int, first: int, count: int, read: Read) -> Iterator[bytes]:
    """Whole clusters of the disk; behind its end come zeros."""
    while count:
        now = min(count, _PIECE)
        offset = first * CLUSTER
        wanted = min(now * CLUSTER, size - offset)
        data = read(offset, wanted)
        if len(data) != wanted:
            raise ValueError(f'{len(data)} bytes came for {wanted} at byte '
                             f'{offset} of the disk')
        yield bytes(data) if wanted == now * CLUSTER else bytes(
            data).ljust(now * CLUSTER, b'\0')
        first += now
        count -= now
