"""Bytes that disks may begin with, and that services take for something."""

from __future__ import annotations

import struct

MIB = 1 << 20
_ZEROS = bytes(MIB)


def at(offset: int, data: bytes, base: bytes = _ZEROS) -> bytes:
    return base[:offset] + data + base[offset + len(data):]


def _entry(kind: int) -> bytes:
    """One entry of a partition table."""
    return bytes([0x80 if kind != 0xEE else 0, 0, 2, 0, kind, 0, 0, 0]
                 ) + struct.pack('<II', 1 if kind == 0xEE else 2048, 2000)


_SIGNED = at(510, b'\x55\xaa')


def qcow2(size: int) -> bytes:
    """An empty qcow2 v3 image of this virtual size, at most 512 MiB."""
    cluster = 65536
    header = struct.pack(
        '>4sIQIIQIIQQIIQ', b'QFI\xfb', 3, 0, 0, 16, size, 0, 1,
        3 * cluster, cluster, 1, 0, 0)
    header += struct.pack('>QQQII', 0, 0, 0, 4, 104)
    image = bytearray(4 * cluster)
    image[:len(header)] = header
    struct.pack_into('>Q', image, cluster, 2 * cluster)   # refcount table
    for index in range(4):
        struct.pack_into('>H', image, 2 * cluster + 2 * index, 1)
    return bytes(image)


ZEROS = _ZEROS
LUKS1 = at(0, b'LUKS\xba\xbe\x00\x01')
LUKS2 = at(0, b'LUKS\xba\xbe\x00\x02')
FAT = at(0, b'\xeb\x3c\x90MSDOS5.0', _SIGNED)
MBR = at(446, _entry(0x83), _SIGNED)
GPT = at(512, b'EFI PART', at(446, _entry(0xEE), _SIGNED))
ISO = at(0x8001, b'CD001')
QCOW2 = qcow2(16 * MIB)
VHDX = at(0, b'vhdxfile')
VMDK = at(0, b'KDMV')
VDI = at(64, struct.pack('<I', 0xbeda107f))
QED = at(0, b'QED\x00')
