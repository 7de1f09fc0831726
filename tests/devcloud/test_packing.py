"""Compressed qcow2 images, read back by our reader and by QEMU's."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from bakflow.devcloud import content, formats
from bakflow.devcloud.content import Refused

MIB = 1 << 20


def make_disk(path: Path, size: int) -> Path:
    """Zeros, text that shrinks and noise that does not, and a hole."""
    chance = random.Random(7)
    with path.open('wb') as f:
        f.write(b'bakflow ' * 40_000)
        f.write(chance.randbytes(200_000))
        f.seek(5 * MIB + 12_345)
        f.write(chance.randbytes(70_000) + bytes(100_000) + b'end')
        f.truncate(size)
    return path


@pytest.mark.parametrize('size', [8 * MIB, 600 * MIB])
def test_there_and_back(tmp_path: Path, size: int) -> None:
    disk = make_disk(tmp_path / 'disk', size)
    image, back = tmp_path / 'image', tmp_path / 'back'
    formats.file_to_image(str(disk), str(image), 'qcow2', 'rbd')
    assert image.stat().st_size < MIB
    assert content.format_of(str(image)) == 'qcow2'
    assert content.virtual_size(str(image)) == size
    formats.image_to_file(str(image), 'qcow2', str(back), size, 'rbd')
    assert back.stat().st_size == size
    with disk.open('rb') as one, back.open('rb') as two:
        while piece := one.read(MIB):
            assert two.read(MIB) == piece


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(st.integers(1, 8), st.lists(st.tuples(
    st.integers(0, 8 * 65536 - 1), st.integers(1, 200_000),
    st.sampled_from([b'text ', b'\0', None])), max_size=5), st.randoms())
def test_any_disk(clusters: int, pieces: list[tuple[int, int, bytes | None]],
                  chance: random.Random) -> None:
    size = clusters * 65536
    disk = bytearray(size)
    for offset, length, kind in pieces:
        data = (chance.randbytes(length) if kind is None
                else kind * length)[:max(0, size - offset)]
        disk[offset:offset + len(data)] = data
    with tempfile.TemporaryDirectory() as folder:
        one, image, two = (os.path.join(folder, n) for n in 'abc')
        Path(one).write_bytes(disk)
        if content.probe(one) != 'raw':
            return
        formats.file_to_image(one, image, 'qcow2', 'rbd')
        formats.image_to_file(image, 'qcow2', two, size, 'rbd')
        assert Path(two).read_bytes() == disk


@pytest.mark.skipif(shutil.which('qemu-img') is None,
                    reason='qemu-img is not installed')
def test_qemu_agrees(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / 'disk', 600 * MIB)
    image = tmp_path / 'image'
    formats.file_to_image(str(disk), str(image), 'qcow2', 'rbd')
    for command in (['check', '-f', 'qcow2', str(image)],
                    ['compare', '-f', 'raw', '-F', 'qcow2', str(disk),
                     str(image)]):
        done = subprocess.run(['qemu-img', *command], capture_output=True,
                              text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which('qemu-img') is None,
                    reason='qemu-img is not installed')
def test_what_qemu_writes_is_read(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / 'disk', 64 * MIB)
    image, back = tmp_path / 'image', tmp_path / 'back'
    subprocess.run(['qemu-img', 'convert', '-c', '-f', 'raw', '-O', 'qcow2',
                    str(disk), str(image)], check=True)
    formats.image_to_file(str(image), 'qcow2', str(back), 64 * MIB, 'nfs')
    assert back.read_bytes() == disk.read_bytes()


def test_an_empty_disk(tmp_path: Path) -> None:
    disk, image = tmp_path / 'disk', tmp_path / 'image'
    with disk.open('wb') as f:
        os.truncate(f.fileno(), 1 << 40)
    formats.file_to_image(str(disk), str(image), 'qcow2', 'rbd')
    assert image.stat().st_size < MIB


def test_damaged_images_are_refused(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / 'disk', 8 * MIB)
    image = tmp_path / 'image'
    formats.file_to_image(str(disk), str(image), 'qcow2', 'rbd')
    data = bytearray(image.read_bytes())
    data[65536:65536 + 64] = os.urandom(64)     # a compressed cluster
    image.write_bytes(data)
    with pytest.raises(Refused):
        formats.image_to_file(str(image), 'qcow2', str(tmp_path / 'back'),
                              8 * MIB, 'rbd')
