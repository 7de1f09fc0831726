"""What Glance and Cinder think of an image's bytes.

Glance 33 and Cinder 29 inspect content with oslo.utils' format inspector;
the same code is used here, so the verdicts are the same. The rules around it
are those of ``glance/location.py`` and ``cinder/image/image_utils.py``.
"""

from __future__ import annotations

import os

from oslo_utils.imageutils import format_inspector

#: every inspector has seen what it needs after so many bytes
_HEAD = 16 << 20
_LUKS = b'LUKS\xba\xbe'
#: what QEMU knows as an image of a disk
DISK_IMAGES = ('qcow2', 'vmdk', 'vhdx', 'vdi', 'vhd', 'qed')


class Refused(Exception):
    """The bytes are not taken; the text is the service's."""


def _inspect(path: str) -> format_inspector.InspectWrapper:
    with open(path, 'rb') as f:
        wrapper = format_inspector.InspectWrapper(f)
        left = min(_HEAD, os.fstat(f.fileno()).st_size)
        while left > 0:
            chunk = wrapper.read(min(left, 1 << 20))
            if not chunk:
                break
            left -= len(chunk)
        wrapper.close()
    return wrapper


def _pick(wrapper: format_inspector.InspectWrapper
          ) -> format_inspector.FileInspector:
    """The one format of the content; an ISO may have a GPT in front."""
    formats = {str(i): i for i in wrapper.formats or ()}
    if formats.keys() == {'iso', 'gpt'}:
        return formats['iso']
    found = wrapper.format
    if found is None:
        raise format_inspector.ImageFormatError('no format was found')
    return found


def check_image(path: str, disk_format: str | None,
                container_format: str | None) -> int:
    """Glance's check of an image's data after it was stored.

    :returns: the virtual size in bytes; 0 when it is not known.
    :raises Refused: with Glance's text.
    """
    if container_format != 'bare':
        return 0
    virtual_size = 0
    try:
        inspector = _pick(_inspect(path))
        name = str(inspector)
        if name == disk_format:
            virtual_size = inspector.virtual_size
            if name == 'raw':
                virtual_size = os.path.getsize(path)
        elif disk_format == 'raw':
            virtual_size = os.path.getsize(path)
        elif name != 'raw' or disk_format in format_inspector.ALL_FORMATS:
            raise Refused(f'Image disk_format {disk_format} does not match '
                          f'stream data {name}')
        inspector.safety_check()
    except format_inspector.SafetyCheckFailed:
        raise Refused('Image failed safety checks') from None
    except format_inspector.ImageFormatError as e:
        raise Refused(str(e)) from None
    except AttributeError:
        # The VMDK inspector of oslo.utils 10 breaks on some texts, and
        # Glance goes on without virtual_size and without any check.
        return 0
    return virtual_size


def format_of(path: str) -> str:
    """The format that Cinder sees in a file (``raw`` when none fits)."""
    try:
        return str(_pick(_inspect(path)))
    except (format_inspector.ImageFormatError, AttributeError):
        return 'raw'


def probe(path: str) -> str:
    """What QEMU takes a raw file for when nobody tells it the format.

    ``raw``, ``luks`` (version 1: QEMU knows no other) or the format of a
    disk image inside the disk. Cinder's generic NFS driver lets QEMU guess
    nearly everywhere, its RBD driver when an image is to be qcow2.
    """
    with open(path, 'rb') as f:
        if f.read(8) == _LUKS + b'\x00\x01':
            return 'luks'
    seen = format_of(path)
    return seen if seen in DISK_IMAGES else 'raw'


def virtual_size(path: str) -> int:
    """The size of the disk that an image file says it holds."""
    return int(_pick(_inspect(path)).virtual_size)


def has_backing_file(path: str) -> bool:
    """Whether a file looks like a qcow2 image upon another file."""
    with open(path, 'rb') as f:
        head = f.read(16)
    return head[:4] == b'QFI\xfb' and any(head[8:16])
