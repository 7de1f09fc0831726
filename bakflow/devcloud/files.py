"""Sparse files: copies that move only data, and checks of their bytes.

A volume, a snapshot and an image are one file each in the data folder.
Copies go by reflink where the file system can, else by extents found with
SEEK_DATA and SEEK_HOLE, so that an empty TiB costs nothing.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator

PIECE = 1 << 20
#: linux/fs.h, _IOW(0x94, 9, int)
_FICLONE = 0x40049409


def extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """The runs (offset, length) of a file that may hold data."""
    position = 0
    while position < size:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as e:
            if e.errno == errno.ENXIO:
                return
            raise
        if start >= size:
            return
        end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        yield start, end - start
        position = end


def make_empty(path: str, size: int) -> None:
    """A file of zeros that takes no room."""
    with open(path, 'wb') as f:
        os.truncate(f.fileno(), size)


def _copy_run(source: int, target: int, start: int, length: int) -> None:
    while length:
        done = os.copy_file_range(source, target, length, start, start)
        if not done:
            raise OSError(errno.EIO, 'the source ended early')
        start += done
        length -= done


def copy_sparse(source: str, target: str, size: int | None = None) -> None:
    """Copy a file with its holes; ``size`` makes the copy longer."""
    temporary = target + '.part'
    with open(source, 'rb') as src, open(temporary, 'wb') as dst:
        length = os.fstat(src.fileno()).st_size
        try:
            fcntl.ioctl(dst.fileno(), _FICLONE, src.fileno())
        except OSError:
            for start, run in extents(src.fileno(), length):
                _copy_run(src.fileno(), dst.fileno(), start, run)
        os.truncate(dst.fileno(), max(size or 0, length))
    os.replace(temporary, target)


def pread_exact(fd: int, offset: int, length: int) -> bytes:
    """``length`` bytes at ``offset``; zeros behind the end of the file."""
    parts = []
    while length:
        part = os.pread(fd, length, offset)
        if not part:
            parts.append(bytes(length))
            break
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return b''.join(parts)


def sha256(path: str) -> str:
    """SHA-256 of all bytes of a file, holes read as zeros."""
    with open(path, 'rb') as f:
        return hashlib.file_digest(f, 'sha256').hexdigest()
