"""qcow2 written here is read by QEMU and here; QEMU's is read here."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import pathlib
import shutil
import struct
import subprocess
import zlib

import hypothesis
import pytest
from hypothesis import strategies as st

from bakflow.qcow2 import layout, reader, writer
from bakflow.qcow2.layout import Qcow2Error

QEMU_IMG = shutil.which('qemu-img')
needs_qemu = pytest.mark.skipif(
    QEMU_IMG is None,
    reason='NOT CHECKED AGAINST QEMU: qemu-img is missing (qemu-utils)')

CLUSTER = writer.CLUSTER
MIB = 1 << 20


def pread_of(data: bytes) -> reader.Pread:
    return lambda offset, length: data[offset:offset + length]


def bytes_of(opened: reader.Qcow2Image, extent: reader.Extent,
             image: bytes) -> bytes:
    host = extent.host_offset
    if host is None:
        return bytes(extent.length)
    if extent.packed is None:
        return image[host:host + extent.length]
    return opened.inflate(extent, image[host:host + extent.packed])


def disk_of(image: bytes) -> bytes:
    """The whole disk, through our own reader."""
    opened = reader.Qcow2Image.open(pread_of(image), len(image))
    out = bytearray()
    for extent in opened.extents():
        assert extent.offset == len(out)
        out += bytes_of(opened, extent, image)
        assert len(out) == extent.offset + extent.length
    assert len(out) == opened.size
    return bytes(out)


def written(disk: bytes, extents: list[tuple[int, int]]) -> bytes:
    pieces = writer.stream(len(disk), extents,
                           lambda o, n: memoryview(disk)[o:o + n])
    image = b''.join(pieces)
    assert len(image) == writer.total_size(len(disk), extents)
    return image


def qemu(*args: str | pathlib.Path) -> str:
    assert QEMU_IMG
    done = subprocess.run([QEMU_IMG, *map(str, args)], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def qemu_disk(image: bytes, tmp: pathlib.Path) -> bytes:
    """What QEMU says the image holds, after it checked the image."""
    path, raw = tmp / 'image.qcow2', tmp / 'image.raw'
    path.write_bytes(image)
    assert 'No errors were found' in qemu('check', '-f', 'qcow2', path)
    qemu('convert', '-f', 'qcow2', '-O', 'raw', path, raw)
    return raw.read_bytes()


@st.composite
def disks(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, int]]]:
    """A disk with data in places, and extents that cover the data."""
    size = draw(st.integers(0, 40 * CLUSTER))
    extents: list[tuple[int, int]] = []
    disk = bytearray(size)
    for _ in range(draw(st.integers(0, 6))):
        offset = draw(st.integers(0, size))
        length = draw(st.integers(0, min(size - offset, 5 * CLUSTER)))
        extents.append((offset, length))
        if draw(st.booleans()):
            seed = draw(st.binary(min_size=1, max_size=8))
            disk[offset:offset + length] = (
                seed * (length // len(seed) + 1))[:length]
    return bytes(disk), extents


@hypothesis.given(disks())
@hypothesis.settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(
        case: tuple[bytes, list[tuple[int, int]]]) -> None:
    disk, extents = case
    image = written(disk, extents)
    padding = -len(disk) % 512
    assert disk_of(image) == disk + bytes(padding)


@needs_qemu
@pytest.mark.parametrize(('size', 'extents'), [
    (0, []),
    (1000, [(0, 10), (990, 10)]),
    (CLUSTER, [(0, CLUSTER)]),
    (3 * CLUSTER + 512, [(CLUSTER - 1, 2), (3 * CLUSTER + 511, 1)]),
    (40 * MIB, [(MIB, 20 * MIB), (0, 3), (30 * MIB + 5, 3 * MIB)]),
    (513 * MIB + 17, [(511 * MIB, 2 * MIB), (513 * MIB, 17)]),
])
def test_qemu_agrees(size: int, extents: list[tuple[int, int]],
                     tmp_path: pathlib.Path) -> None:
    disk = io.BytesIO(bytes(size))
    for offset, length in extents:
        disk.seek(offset)
        disk.write(os.urandom(length))
    data = disk.getvalue()
    got = qemu_disk(written(data, extents), tmp_path)
    assert got[:size] == data
    assert not any(got[size:])


@needs_qemu
def test_a_disk_that_looks_like_an_image_stays_a_disk(
        tmp_path: pathlib.Path) -> None:
    inner = written(os.urandom(CLUSTER), [(0, CLUSTER)])
    image = written(inner, [(0, len(inner))])
    assert disk_of(image) == inner
    assert qemu_disk(image, tmp_path) == inner


@needs_qemu
def test_many_refcount_blocks_and_a_large_disk(
        tmp_path: pathlib.Path) -> None:
    """More than 2 GiB of data needs a second refcount block."""
    size = (5 << 40) + 512
    extents = [(0, 2200 * MIB), (size - 512, 512)]
    path = tmp_path / 'large.qcow2'
    zeros = bytes(MIB)
    with path.open('wb') as out:
        for piece in writer.stream(size, extents, lambda _, n: zeros[:n]):
            if piece.startswith(zeros):
                out.seek(len(piece), os.SEEK_CUR)
            else:
                out.write(piece)
        out.truncate(writer.total_size(size, extents))
    assert 'No errors were found' in qemu('check', '-f', 'qcow2', path)


def test_the_writer_reads_in_order_and_by_a_megabyte() -> None:
    asked: list[tuple[int, int]] = []

    def read(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return bytes(length)

    for _ in writer.stream(100 * MIB, [(50 * MIB, 3 * MIB), (5, 1)], read):
        pass
    assert asked == sorted(asked)
    assert max(n for _, n in asked) == MIB
    assert sum(n for _, n in asked) == 3 * MIB + CLUSTER


def test_the_writer_refuses_wrong_input() -> None:
    with pytest.raises(ValueError, match='outside the disk'):
        writer.stream(100, [(90, 11)], lambda o, n: bytes(n))
    with pytest.raises(ValueError, match='bytes came for'):
        list(writer.stream(100, [(0, 10)], lambda o, n: b''))


# -- images of QEMU -------------------------------------------------------

@needs_qemu
@pytest.mark.parametrize('options', [
    'compat=0.10', 'compat=1.1', 'cluster_size=512', 'cluster_size=2M',
    'preallocation=metadata', 'preallocation=full',
])
def test_images_of_qemu_are_read(options: str,
                                 tmp_path: pathlib.Path) -> None:
    raw = tmp_path / 'disk.raw'
    data = bytearray(6 * MIB + 512)
    data[100:5000] = os.urandom(4900)
    data[3 * MIB:4 * MIB] = os.urandom(MIB)
    data[-512:] = os.urandom(512)
    raw.write_bytes(data)
    path = tmp_path / 'disk.qcow2'
    qemu('convert', '-f', 'raw', '-O', 'qcow2', '-o', options, raw, path)
    assert disk_of(path.read_bytes()) == data


@needs_qemu
@pytest.mark.parametrize('options', [
    'compat=0.10', 'compat=1.1', 'cluster_size=512', 'cluster_size=2M'])
def test_compressed_images_of_qemu_are_read(
        options: str, tmp_path: pathlib.Path) -> None:
    """As Cinder makes them: clusters that do not shrink stay as they are."""
    raw, path = tmp_path / 'disk.raw', tmp_path / 'disk.qcow2'
    data = bytearray(9 * MIB + 512)
    data[:4 * MIB] = os.urandom(2 * MIB).hex().encode()
    data[6 * MIB:8 * MIB] = os.urandom(2 * MIB)
    data[-700:] = b'end' * 233 + b'.'
    raw.write_bytes(data)
    qemu('convert', '-f', 'raw', '-O', 'qcow2', '-c', '-o', options, raw,
         path)
    image = path.read_bytes()
    opened = reader.Qcow2Image.open(pread_of(image), len(image))
    kinds = {(e.host_offset is None, e.packed is None)
             for e in opened.extents()}
    assert kinds == {(True, True), (False, True), (False, False)}
    assert disk_of(image) == data
    for start in (1, 100_000, 3 * MIB + 77, len(data) - 5):
        first = next(opened.extents(start))
        assert first.offset == start
        assert bytes_of(opened, first, image) == data[
            start:start + first.length]


@needs_qemu
def test_damaged_compressed_clusters_are_told(
        tmp_path: pathlib.Path) -> None:
    raw, path = tmp_path / 'disk.raw', tmp_path / 'disk.qcow2'
    raw.write_bytes(b'compressible ' * 60_000)
    qemu('convert', '-f', 'raw', '-O', 'qcow2', '-c', raw, path)
    image = bytearray(path.read_bytes())
    opened = reader.Qcow2Image.open(pread_of(bytes(image)), len(image))
    extent = next(opened.extents())
    assert extent.host_offset is not None
    image[extent.host_offset] ^= 0xff
    with pytest.raises(Qcow2Error, match='byte 0 of the qcow2 disk'):
        disk_of(bytes(image))
    with pytest.raises(Qcow2Error, match='too short'):
        opened.inflate(extent, b'')


def test_a_compressed_cluster_is_no_bomb() -> None:
    """However much it would give, it gives one cluster."""
    packer = zlib.compressobj(wbits=-12)
    bomb = packer.compress(bytes(64 * MIB)) + packer.flush()
    opened = reader.Qcow2Image.open(pread_of(SMALL), len(SMALL))
    extent = reader.Extent(0, CLUSTER, CLUSTER, len(bomb))
    assert opened.inflate(extent, bomb) == bytes(CLUSTER)


@needs_qemu
def test_zero_clusters_are_zeros(tmp_path: pathlib.Path) -> None:
    qemu_io = shutil.which('qemu-io')
    assert qemu_io
    path = tmp_path / 'disk.qcow2'
    qemu('create', '-q', '-f', 'qcow2', path, '2M')
    subprocess.run([qemu_io, '-c', 'write -P 7 0 1M', '-c',
                    'write -z 128k 256k', path],
                   check=True, stdout=subprocess.DEVNULL)
    image = path.read_bytes()
    want = bytearray(b'\7' * MIB + bytes(MIB))
    want[128 << 10:384 << 10] = bytes(256 << 10)
    assert disk_of(image) == want
    opened = reader.Qcow2Image.open(pread_of(image))
    assert [e.host_offset is None for e in opened.extents()] == [
        False, True, False, True]


@needs_qemu
def test_what_a_backup_cannot_take_is_refused(
        tmp_path: pathlib.Path) -> None:
    raw = tmp_path / 'disk.raw'
    raw.write_bytes(bytes(range(256)) * 1024)

    def refusal(name: str, *options: str | pathlib.Path) -> str:
        path = tmp_path / name
        qemu('convert', '-f', 'raw', '-O', 'qcow2', *options, raw, path)
        with pytest.raises(Qcow2Error) as caught:
            disk_of(path.read_bytes())
        return caught.value.message

    assert 'compression type' in refusal(
        'zstd', '-c', '-o', 'compression_type=zstd')
    assert 'external file' in refusal(
        'external', '-o', f'data_file={tmp_path / "data"}')
    assert 'extended L2' in refusal('extended', '-o', 'extended_l2=on')
    overlay = tmp_path / 'overlay'
    qemu('create', '-q', '-f', 'qcow2', '-b', raw, '-F', 'raw', overlay)
    with pytest.raises(Qcow2Error, match='backing file'):
        reader.Qcow2Image.open(pread_of(overlay.read_bytes()))


# -- images of an enemy ---------------------------------------------------

SMALL = written(b'a' * (3 * CLUSTER), [(0, 3 * CLUSTER)])


def patched(offset: int, form: str, value: int) -> bytes:
    image = bytearray(SMALL)
    struct.pack_into(form, image, offset, value)
    return bytes(image)


@pytest.mark.parametrize(('offset', 'form', 'value', 'reason'), [
    (0, '>I', 0, 'not in the qcow2 format'),
    (4, '>I', 1, 'version 1'),
    (4, '>I', 4, 'version 4'),
    (8, '>Q', 4096, 'backing file'),
    (20, '>I', 8, 'clusters of'),
    (20, '>I', 63, 'clusters of'),
    (24, '>Q', 1 << 62, 'claims a disk'),
    (24, '>Q', 1 << 45, 'too small'),
    (32, '>I', 1, 'encrypted'),
    (32, '>I', 2, 'encrypted'),
    (36, '>I', 0xffffffff, 'L1 table of'),
    (36, '>I', 0, 'too small'),
    (40, '>Q', 0, 'impossible offset'),
    (40, '>Q', 12345, 'impossible offset'),
    (40, '>Q', 1 << 40, 'points at byte'),
    (72, '>Q', 1, 'dirty'),
    (72, '>Q', 2, 'corrupt'),
    (72, '>Q', 4, 'external file'),
    (72, '>Q', 1 << 40, 'unknown feature 40'),
    (100, '>I', 72, 'header is 72 bytes'),
    (3 * CLUSTER, '>Q', 1 << 50 | layout.COPIED, 'points at byte'),
    (3 * CLUSTER, '>Q', 4 * CLUSTER + 512, 'L1 entry 0'),
    (3 * CLUSTER, '>Q', 1, 'L1 entry 0'),
    (4 * CLUSTER, '>Q', 1 << 50, 'points at byte'),
    (4 * CLUSTER, '>Q', 1 << 62 | 1 << 50, 'points at byte'),
    (4 * CLUSTER, '>Q', 1 << 62 | 1 << 63 | 5 * CLUSTER, 'L2 entry'),
    (4 * CLUSTER, '>Q', 1 << 62, 'L2 entry'),
    (4 * CLUSTER, '>Q', 1 << 62 | 5 * CLUSTER, 'compressed cluster'),
    (4 * CLUSTER, '>Q', 5 * CLUSTER + 512, 'L2 entry'),
    (4 * CLUSTER, '>Q', 1 << 60 | 5 * CLUSTER, 'L2 entry'),
])
def test_a_bad_image_is_refused(offset: int, form: str, value: int,
                                reason: str) -> None:
    with pytest.raises(Qcow2Error, match=reason):
        disk_of(patched(offset, form, value))


@pytest.mark.parametrize('length', [0, 3, 50, 71, 90, 103])
def test_a_cut_header_is_refused(length: int) -> None:
    with pytest.raises(Qcow2Error):
        reader.Qcow2Image.open(pread_of(SMALL[:length]))


def test_a_cut_table_is_refused() -> None:
    """Without a known file size the short read itself is noticed."""
    opened = reader.Qcow2Image.open(pread_of(SMALL[:4 * CLUSTER + 99]))
    with pytest.raises(Qcow2Error, match='ends within a table'):
        list(opened.extents())


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=300, deadline=None)
def test_any_damage_gives_extents_or_an_error(data: st.DataObject) -> None:
    image = bytearray(SMALL)
    places = st.one_of(st.integers(0, 111),
                       st.integers(3 * CLUSTER, 3 * CLUSTER + 8),
                       st.integers(4 * CLUSTER, 4 * CLUSTER + 32))
    for _ in range(data.draw(st.integers(1, 4))):
        image[data.draw(places)] = data.draw(st.integers(0, 255))
    asked = []

    def pread(offset: int, length: int) -> bytes:
        asked.append(length)
        return bytes(image[offset:offset + length])

    at = 0
    with contextlib.suppress(Qcow2Error):    # the other right answer
        opened = reader.Qcow2Image.open(pread, len(image))
        for extent in itertools.islice(opened.extents(), 1000):
            assert extent.offset == at
            assert extent.length > 0
            if extent.host_offset is not None:
                stored = (extent.length if extent.packed is None
                          else extent.packed)
                assert extent.host_offset + stored <= len(image)
            at += extent.length
    assert max(asked) <= 2 * MIB


def test_a_huge_empty_disk_costs_little() -> None:
    """1 PiB: the L1 table is read in pieces, the extents are one."""
    size = reader.MAX_DISK
    image = written_empty(size)
    asked = []

    def pread(offset: int, length: int) -> bytes:
        asked.append(length)
        return image[offset:offset + length]

    opened = reader.Qcow2Image.open(pread, len(image))
    first = next(opened.extents(size - 5 * CLUSTER))
    assert first == reader.Extent(size - 5 * CLUSTER, 5 * CLUSTER, None)
    assert max(asked) <= 8192


def written_empty(size: int) -> bytes:
    return b''.join(writer.stream(size, [], lambda o, n: bytes(n)))


def test_extents_from_the_middle() -> None:
    opened = reader.Qcow2Image.open(pread_of(SMALL), len(SMALL))
    whole = list(opened.extents())
    assert whole == [reader.Extent(0, 3 * CLUSTER, 5 * CLUSTER)]
    start = CLUSTER + 777
    assert list(opened.extents(start)) == [
        reader.Extent(start, 3 * CLUSTER - start, 5 * CLUSTER + start)]
    assert list(opened.extents(3 * CLUSTER)) == []
