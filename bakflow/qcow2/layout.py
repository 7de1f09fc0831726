"""The numbers of the qcow2 format that reader and writer share.

Source: ``docs/interop/qcow2.txt`` of QEMU.
"""

from __future__ import annotations

import struct

from bakflow import errors

MAGIC = b'QFI\xfb'

#: magic, version, backing offset and size, cluster bits, size, crypt
#: method, L1 size and offset, refcount table offset and clusters, number
#: and offset of snapshots: all of version 2.
HEADER_V2 = struct.Struct('>4sIQIIQIIQQIIQ')

#: incompatible, compatible and autoclear features, refcount order, header
#: length: what version 3 adds.
HEADER_V3 = struct.Struct('>QQQII')

#: Bits 9 to 55 of an L1 or L2 entry: where the cluster lies in the file.
OFFSET_MASK = 0x00ff_ffff_ffff_fe00

COPIED = 1 << 63
COMPRESSED = 1 << 62
ZERO = 1

SECTOR = 512


class Qcow2Error(errors.BakflowError):
    """The image is damaged, or uses what a backup image must not use."""

    code = 'qcow2'


def ceil_div(value: int, unit: int) -> int:
    """How many units hold ``value``."""
    return -(-value // unit)
