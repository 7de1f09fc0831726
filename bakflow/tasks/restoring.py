"""Restoring to a new volume or to an image: through an image.

The image is sparse and always qcow2, which takes any content. An upload
that was cut is begun again, with a new image unless the old one is still
empty. What is made is a temporary, deleted on the way back, until the
restore is done.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from bakflow import errors, fault
from bakflow.cloud import resources, waiting
from bakflow.cloud.naming import Tag
from bakflow.cloud.resources import Resource
from bakflow.cloud.volumes import Look
from bakflow.qcow2 import writer
from bakflow.tasks.base import Result, Step, Temporary
from bakflow.tasks.context import StepContext
from bakflow.tasks.copying import id_of
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


class OpenRestore(Step):
    """The restore is ``running`` from here; reverted last: ``error``."""

    def run(self, ctx: StepContext) -> Result:
        """Mark it."""
        ctx.records.restore_running(ctx.owner_id)
        return None

    def undo(self, ctx: StepContext) -> None:
        """All that was made is gone, or in the ledger as orphaned."""
        ctx.records.restore_error(ctx.owner_id)


class MakeEmptyImage(Temporary):
    """Makes the image that the bytes are sent to."""

    role = 'image'
    kind = resources.IMAGE
    want = ('queued', 'active')

    def create(self, ctx: StepContext, tag: Tag) -> Resource:
        """An empty image; a result gets the backup's properties."""
        saved = Saved(ctx)
        properties, min_disk = {}, 0
        if ctx.request['destination']['kind'] == 'image':
            properties = image_properties(saved.document)
            min_disk = saved.size_gib
        return ctx.cloud.images.create(
            tag, name=tag.name, disk_format='qcow2', min_disk=min_disk,
            properties=properties)

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
            self._send(ctx, image.id)
            fault.point('send:sent')
            image = self._active(ctx, image.id)
        return {'id': image.id, 'size': image.size_bytes}

    def _send(self, ctx: StepContext, id: str) -> None:
        saved = Saved(ctx)
        total = writer.total_size(saved.size, saved.extents())
        with contextlib.closing(Forward(saved.reader, ctx.check)) as disk:
            pieces = writer.stream(saved.size, saved.extents(), disk.read)
            ctx.cloud.images.upload(
                id, self._counted(ctx, pieces, total), total)

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


class MakeTarget(Temporary):
    """Makes the new volume of the image."""

    role = 'target'
    kind = resources.VOLUME

    def create(self, ctx: StepContext, tag: Tag) -> Resource:
        """Of the saved type and zone, unless the request has others."""
        saved = Saved(ctx)
        document, request = saved.document, ctx.request
        return ctx.cloud.volumes.create(
            tag, name=tag.name, size_gib=saved.size_gib,
            image_id=id_of(ctx, 'image'),
            volume_type=request.get('volume_type') or document.get('type'),
            availability_zone=(request.get('availability_zone')
                               or document.get('az')))

    def prepare(self, ctx: StepContext) -> None:
        """The image may have vanished: it is filled again."""
        SendDisk('send', ctx.flow_id).run(ctx)


class MendTarget(Step):
    """Gives the new volume the look that was saved."""

    def run(self, ctx: StepContext) -> Result:
        """Name, description, metadata, bootable, image metadata."""
        document = Saved(ctx).document
        wanted = saved_look(
            document, name=ctx.request['destination'].get('name'))
        id = id_of(ctx, 'target')
        ctx.cloud.volumes.mend(id, wanted)
        fault.point('mend:mended')
        return {'id': id}


class FinishVolume(Step):
    """The volume becomes the user's."""

    def run(self, ctx: StepContext) -> Result:
        """Keep it, then announce it."""
        kept = keep(ctx, 'target')
        ctx.records.restore_done(ctx.owner_id, {'volume_id': kept})
        return {'volume_id': kept}


class FinishImage(Step):
    """The image becomes the user's."""

    def run(self, ctx: StepContext) -> Result:
        """Give it its name, keep it, then announce it."""
        entry = ctx.ledger.current('image')
        if entry is not None and entry.cloud_id is not None:
            hand_over(ctx, entry.cloud_id, entry.tag)
        kept = keep(ctx, 'image')
        ctx.records.restore_done(ctx.owner_id, {'image_id': kept})
        return {'image_id': kept}


def keep(ctx: StepContext, role: str) -> str:
    """Take the role's resource off the list of what must go; its id."""
    entry = ctx.ledger.current(role)
    if entry is not None:
        entry = ctx.ledger.kept(entry)
        fault.point('finish:kept')
        return str(entry.cloud_id)
    # An earlier run kept it.
    mine = [e for e in ctx.ledger.entries()
            if e.role == role and e.status == 'kept']
    if not mine:
        raise errors.ResourceVanished(
            f'the flow has no {role} any more', resource=role,
            hint='abandon the flow and restore again')
    return str(mine[-1].cloud_id)


def saved_look(document: dict[str, Any], name: str | None = None) -> Look:
    """How the volume presented itself when it was backed up."""
    return Look(
        name=name or str(document.get('name') or ''),
        description=str(document.get('description') or ''),
        bootable=bool(document.get('bootable')),
        metadata=dict(document.get('metadata') or {}),
        image_metadata=dict(document.get('image_metadata') or {}))


def image_properties(document: dict[str, Any]) -> dict[str, str]:
    """What of a volume's image metadata a new image can be given."""
    return {key: str(value) for key, value
            in (document.get('image_metadata') or {}).items()
            if key not in _NO_PROPERTIES
            and not key.startswith(_NO_PREFIXES)}


def hand_over(ctx: StepContext, id: str, tag: Tag) -> None:
    """Name the image as the user wants it, take bakflow's marks off.

    Can be done again: only what is still there is removed.
    """
    images = ctx.cloud.images
    image = images.get(id)
    name = ctx.request['destination'].get('name') or str(
        Saved(ctx).document.get('name') or tag.name)
    if image.name == name and not any(
            key in image.metadata for key in tag.metadata):
        return
    patch: list[dict[str, Any]] = [
        {'op': 'replace', 'path': '/name', 'value': name},
        {'op': 'replace', 'path': '/tags', 'value': []}]
    patch += [{'op': 'remove', 'path': f'/{key}'}
              for key in tag.metadata if key in image.metadata]
    _patch(ctx, id, patch)


def _patch(ctx: StepContext, id: str, changes: list[dict[str, Any]]) -> None:
    """Images has no call of its own for this (yet)."""
    glance = ctx.cloud.images._glance
    glance.patiently(lambda: glance.send(
        'PATCH', f'/images/{id}', doing=f'name image {id}',
        resource=f'image {id}', json=changes, headers={
            'Content-Type': 'application/openstack-images-v2.1-json-patch'}))
