"""Restoring to a new volume or to an image, once the image is filled.

What is made is a temporary, deleted on the way back, until the restore is
done.
"""

from __future__ import annotations

from typing import Any

from bakflow import errors, fault
from bakflow.cloud import resources
from bakflow.cloud.naming import Tag
from bakflow.cloud.resources import Resource
from bakflow.cloud.volumes import Look
from bakflow.tasks.base import Result, Step, Temporary
from bakflow.tasks.context import StepContext
from bakflow.tasks.copying import id_of
from bakflow.tasks.reading import Saved
from bakflow.tasks.sending import SendDisk


class OpenRestore(Step):
    """The restore is ``running`` from here; reverted last: ``error``."""

    def run(self, ctx: StepContext) -> Result:
        """Mark it."""
        ctx.records.restore_running(ctx.owner_id)
        return None

    def undo(self, ctx: StepContext) -> None:
        """All that was made is gone, or in the ledger as orphaned."""
        ctx.records.restore_error(ctx.owner_id)


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
