"""The image through which a restore goes: made, and filled.

It is a sparse qcow2, which takes any content. Only a disk that is so full
that its qcow2 image would be larger than the disk goes as raw: Cinder makes
no volume of an image whose file is larger than the volume. An upload that
was cut is begun again, with a new image unless the old one is still empty.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

from bakflow import errors, fault
from bakflow.cloud import resources, waiting
from bakflow.cloud.naming import Tag
from bakflow.cloud.resources import Resource
from bakflow.qcow2 import writer
from bakflow.tasks.base import Result, Step, Temporary
from bakflow.tasks.context import StepContext
from bakflow.tasks.reading import Forward, Saved

#: What Cinder says about the image that a volume was made from, and what
#: Glance keeps for itself: no properties for a new image.
_NO_PROPERTIES = frozenset((
    'image_id', 'image_name', 'checksum', 'container_format', 'disk_format',
    'min_disk', 'min_ram', 'size', 'signature_verified', 'os_hash_algo',
    'os_hash_value', 'os_hidden', 'stores', 'owner', 'status', 'id',
    'name', 'tags', 'visibility', 'protected', 'virtual_size', 'locations',
    'direct_url', 'self', 'file', 'schema', 'created_at', 'updated_at'))
_NO_PREFIXES = ('bakflow_', 'os_glance', 'cinder_encryption', 'owner_')

_PIECE = 1 << 20

#: All that tells one format from another lies in so many bytes.
_HEAD = 2 << 20


class MakeEmptyImage(Temporary):
    """Makes the image that the bytes are sent to."""

    role = 'image'
    kind = resources.IMAGE
    want = ('queued', 'active')

    def create(self, ctx: StepContext, tag: Tag) -> Resource:
        """An empty image; one that is the result gets its properties."""
        saved = Saved(ctx)
        properties, min_disk = {}, 0
        if ctx.request['destination']['kind'] == 'image':
            properties = image_properties(saved.document)
            min_disk = saved.size_gib
        return ctx.cloud.images.create(
            tag, name=tag.name, disk_format=_format(ctx, saved),
            min_disk=min_disk, properties=properties)

    def spoiled(self, status: str) -> bool:
        """One that was being filled is never taken up again."""
        return status not in self.want


class SendDisk(Step):
    """Sends the disk to the image, from its first byte."""

    def run(self, ctx: StepContext) -> Result:
        """Send it, unless an earlier run had sent all."""
        image = MakeEmptyImage('image', ctx.flow_id).ensure(ctx)
        if image.status != 'active':
            fault.point('send:begun')
            self._send(ctx, image)
            fault.point('send:sent')
            image = self._active(ctx, image.id)
        return {'id': image.id, 'size': image.size_bytes,
                'disk_format': image.details['disk_format']}

    def _send(self, ctx: StepContext, image: Resource) -> None:
        saved = Saved(ctx)
        with contextlib.closing(Forward(saved.reader, ctx.check)) as disk:
            if image.details['disk_format'] == 'raw':
                total, pieces = saved.size, _raw(saved.size, disk)
            else:
                total = writer.total_size(saved.size, saved.extents())
                pieces = writer.stream(saved.size, saved.extents(),
                                       disk.read)
            ctx.cloud.images.upload(
                image.id, self._counted(ctx, pieces, total), total)

    def _counted(self, ctx: StepContext, pieces: Iterator[bytes],
                 total: int) -> Iterator[bytes]:
        sent = 0
        for piece in pieces:
            ctx.check()
            fault.point('send:piece')
            yield piece
            sent += len(piece)
            ctx.records.progress(step=self.name, total=total, position=sent,
                                 read=sent)

    def _active(self, ctx: StepContext, id: str) -> Resource:
        images = ctx.cloud.images
        image = images.get(id)
        if image.status == 'active':
            return image
        return waiting.until(
            lambda: images.get(id), want=('active',),
            deadline_seconds=ctx.options['image_timeout'], pause=ctx.pause,
            explain=images.explain)


def _format(ctx: StepContext, saved: Saved) -> str:
    """qcow2, unless only raw can become a volume of the disk's size.

    :raises ImageRefused: raw it would have to be, and the services would
        refuse it or, worse, take it for an image of another disk.
    """
    if writer.total_size(saved.size, saved.extents()) <= saved.size:
        return 'qcow2'
    if _goes_as_raw(saved.reader.read(0, 0, _HEAD)):
        return 'raw'
    if ctx.request['destination']['kind'] == 'image':
        return 'qcow2'
    raise errors.ImageRefused(
        f'backup {saved.reader.head.backup_id} cannot go into a volume by '
        f'way of an image: its disk is full to the last byte, so as qcow2 '
        f'it is too large, and its beginning does not pass as raw',
        resource=f'backup {saved.reader.head.backup_id}',
        hint='restore it to a file or a block device')


def _goes_as_raw(head: bytes) -> bool:
    """Whether the services take a disk that begins so for what it is.

    Asks what Glance and Cinder ask: the inspector of oslo.utils.
    """
    from oslo_utils.imageutils import format_inspector as inspector
    wrapper = inspector.InspectWrapper(io.BytesIO(head))
    while wrapper.read(_PIECE):
        continue
    wrapper.close()
    try:
        for found in wrapper.formats or ():
            if str(found) not in ('raw', 'gpt'):
                return False
            found.safety_check()
    except (inspector.SafetyCheckFailed, inspector.ImageFormatError,
            AttributeError):
        return False
    return True


def _raw(size: int, disk: Forward) -> Iterator[bytes]:
    for offset in range(0, size, _PIECE):
        yield bytes(disk.read(offset, min(_PIECE, size - offset)))


def image_properties(document: dict[str, Any]) -> dict[str, str]:
    """What of a volume's image metadata a new image can be given."""
    return {key: str(value) for key, value
            in (document.get('image_metadata') or {}).items()
            if key not in _NO_PROPERTIES
            and not key.startswith(_NO_PREFIXES)}
