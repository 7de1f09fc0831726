"""Raw and qcow2: a volume into an image and an image into a volume."""

from __future__ import annotations

import os
from collections.abc import Iterator

from bakflow.devcloud import content, files
from bakflow.qcow2.layout import Qcow2Error
from bakflow.qcow2.reader import Qcow2Image
from bakflow.qcow2.writer import stream

_CLUSTER = 1 << 16


def file_to_image(source: str, target: str, disk_format: str,
                  backend: str) -> None:
    """Write a volume's file as an image of this format.

    :raises Refused: when the format is none that is simulated.
    """
    if disk_format == 'raw':
        files.copy_sparse(source, target)
        return
    if disk_format != 'qcow2':
        raise content.Refused(f'{disk_format} is not simulated')
    _convert(source, target)


def _convert(source: str, target: str) -> None:
    with open(source, 'rb') as src, open(target, 'wb') as dst:
        fd = src.fileno()
        size = os.fstat(fd).st_size
        for piece in stream(size, list(_used(fd, size)),
                            lambda offset, length: files.pread_exact(
                                fd, offset, length)):
            dst.write(piece)


def _used(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """The clusters that are not all zeros, as qemu-img leaves those out."""
    zeros = bytes(files.PIECE)
    for start, length in files.extents(fd, size):
        for offset in range(start, start + length, _CLUSTER):
            amount = min(_CLUSTER, start + length - offset)
            if os.pread(fd, amount, offset) != zeros[:amount]:
                yield offset, amount


def image_to_file(source: str, disk_format: str | None, target: str,
                  size: int, backend: str) -> None:
    """Write an image's bytes to a volume's file of ``size`` bytes.

    :raises Refused: when Cinder does not take the image.
    """
    seen = content.format_of(source)
    if disk_format == 'raw':
        if seen in ('qcow2', 'vmdk', 'vhdx', 'vdi', 'vhd', 'qed'):
            raise content.Refused(
                "The image format was claimed to be 'raw' but the image "
                'data appears to be in a different format.')
        if os.path.getsize(source) > size:
            raise content.Refused('the image does not fit')
        files.copy_sparse(source, target, size)
        return
    if disk_format != 'qcow2' or seen != 'qcow2':
        raise content.Refused(f'cannot read {disk_format}')
    try:
        _expand(source, target, size)
    except Qcow2Error as e:
        raise content.Refused(str(e)) from None


def _expand(source: str, target: str, size: int) -> None:
    temporary = target + '.part'
    with open(source, 'rb') as src, open(temporary, 'wb') as dst:
        fd = src.fileno()
        image = Qcow2Image.open(
            lambda offset, length: os.pread(fd, length, offset))
        if image.size > size:
            raise content.Refused('Image virtual size does not fit')
        for offset, length, host in image.extents():
            while host is not None and length:
                part = min(length, files.PIECE)
                os.pwrite(dst.fileno(),
                          files.pread_exact(fd, host, part), offset)
                offset, host, length = offset + part, host + part, (
                    length - part)
        os.truncate(dst.fileno(), size)
    os.replace(temporary, target)
