"""Raw and qcow2: a volume into an image, an image into a volume.

Cinder lets QEMU guess the format of a volume's content in places, and then a
disk that holds a disk image is taken for that image. The simulated drivers
do as ``nfs`` and ``rbd`` of Cinder 29 were seen to do, wrong bytes included:
a client has to notice.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from bakflow.devcloud import content, files, packing
from bakflow.devcloud.content import Refused
from bakflow.qcow2.layout import Qcow2Error
from bakflow.qcow2.reader import Qcow2Image

# -- out of a volume ------------------------------------------------------

def file_to_image(source: str, target: str, disk_format: str,
                  backend: str) -> None:
    """Write a volume's file as an image of this format.

    :raises Refused: when the conversion fails.
    """
    inner = content.probe(source)
    if disk_format == 'raw' and (backend != 'nfs'
                                 or inner in ('raw', 'luks')):
        files.copy_sparse(source, target)
    elif disk_format == 'raw':
        _inner_disk(source, target, inner)
    elif disk_format != 'qcow2':
        raise Refused(f'{disk_format} is not simulated')
    elif inner == 'luks':
        raise Refused("Parameter 'key-secret' is required for cipher")
    elif inner == 'raw':
        _to_qcow2(source, target)
    else:
        disk = target + '.disk'
        try:
            _inner_disk(source, disk, inner)
            _to_qcow2(disk, target)
        finally:
            os.unlink(disk)


def check_snapshot(source: str, backend: str) -> None:
    """:raises Refused: when the nfs driver cannot snapshot such a disk."""
    if backend == 'nfs' and (content.has_backing_file(source)
                             or content.probe(source) == 'qed'):
        raise Refused('invalid backing file')


def check_snapshot_delete(source: str, backend: str) -> None:
    """:raises Refused: when the nfs driver cannot merge the overlay back."""
    if backend == 'nfs' and content.probe(source) not in ('raw', 'luks',
                                                          'qcow2'):
        raise Refused('Image format driver does not support resize')


def snapshot_to_volume(source: str, target: str, size: int,
                       backend: str) -> None:
    """The bytes of a snapshot, or of a volume to clone, into a new volume.

    :raises Refused: when the conversion fails (``nfs`` only).
    """
    inner = content.probe(source) if backend == 'nfs' else 'raw'
    if inner == 'luks':
        raise Refused("Parameter 'key-secret' is required for cipher")
    if inner == 'raw':
        files.copy_sparse(source, target, size)
    else:
        _inner_disk(source, target, inner)


def _inner_disk(source: str, target: str, inner: str) -> None:
    """The disk that an image inside a disk describes.

    Only qcow2 is decoded; the others come out as zeros of their size.
    """
    if inner == 'qed':
        raise Refused('Image/Volume failed safety check')
    if inner != 'qcow2':
        files.make_empty(target, content.virtual_size(source))
        return
    try:
        _expand(source, target, None)
    except Qcow2Error as e:
        raise Refused(str(e)) from None


def _to_qcow2(source: str, target: str) -> None:
    with open(source, 'rb') as src, open(target, 'wb') as dst:
        fd = src.fileno()
        size = os.fstat(fd).st_size
        packing.write(dst, size, _used(fd, size),
                      lambda offset, length: files.pread_exact(
                          fd, offset, length))


def _used(fd: int, size: int) -> Iterator[int]:
    """The clusters that are not all zeros, as qemu-img leaves those out."""
    zeros = bytes(packing.CLUSTER)
    last = -1
    for start, length in files.extents(fd, size):
        first = max(start // packing.CLUSTER, last + 1)
        for index in range(first, (start + length - 1) // packing.CLUSTER
                           + 1):
            data = os.pread(fd, packing.CLUSTER, index * packing.CLUSTER)
            if data != zeros[:len(data)]:
                last = index
                yield index


# -- into a volume --------------------------------------------------------

def image_to_file(source: str, disk_format: str | None, target: str,
                  size: int, backend: str, overwrite: bool = False) -> None:
    """Write an image's bytes to a volume's file of ``size`` bytes.

    :param overwrite: a reimage, which the rbd driver does another way.
    :raises Refused: when Cinder does not take the image.
    """
    seen = content.format_of(source)
    if disk_format == 'raw':
        if seen in content.DISK_IMAGES:
            raise Refused(
                "The image format was claimed to be 'raw' but the image "
                'data appears to be in a different format.')
        if os.path.getsize(source) > size:
            raise Refused('the image does not fit')
        files.copy_sparse(source, target, size)
    elif disk_format == seen == 'qcow2':
        try:
            _expand(source, target, size)
        except Qcow2Error as e:
            raise Refused(str(e)) from None
    else:
        raise Refused(f'cannot read {disk_format}')
    if backend == 'nfs':
        _resize_by_guess(target, size)
    elif overwrite and content.probe(target) in content.DISK_IMAGES:
        raise Refused("The image format was claimed to be 'raw' but the "
                      'image data appears to be in a different format.')


def _resize_by_guess(path: str, size: int) -> None:
    """``qemu-img resize`` of the nfs driver: it guesses the format.

    A qcow2 image inside the disk gets another size in its header.
    """
    inner = content.probe(path)
    if inner == 'luks':
        raise Refused("Parameter 'key-secret' is required for cipher")
    if inner == 'qcow2':
        with open(path, 'r+b') as f:
            f.seek(20)
            bits = struct.unpack('>I', f.read(4))[0]
            span = 1 << (2 * bits - 3)      # of one entry of the L1 table
            f.write(struct.pack('>QII', size, 0, -(-size // span)))
    elif inner != 'raw':
        raise Refused('Image format driver does not support resize')


def _expand(source: str, target: str, size: int | None) -> None:
    temporary = target + '.part'
    with open(source, 'rb') as src, open(temporary, 'wb') as dst:
        fd = src.fileno()
        image = Qcow2Image.open(
            lambda offset, length: os.pread(fd, length, offset))
        if size is not None and image.size > size:
            raise Refused('Image virtual size does not fit')
        for extent in image.extents():
            offset, length = extent.offset, extent.length
            host = extent.host_offset
            if host is not None and extent.packed is not None:
                packed = files.pread_exact(fd, host, extent.packed)
                os.pwrite(dst.fileno(), image.inflate(extent, packed),
                          offset)
                continue
            while host is not None and length:
                part = min(length, files.PIECE)
                os.pwrite(dst.fileno(),
                          files.pread_exact(fd, host, part), offset)
                offset, host, length = offset + part, host + part, (
                    length - part)
        os.truncate(dst.fileno(), size or image.size)
    os.replace(temporary, target)
