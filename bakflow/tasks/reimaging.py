"""Restoring over an existing volume, with Cinder's reimage.

The volume must be available and at least as large as the disk. What of a
larger volume lies behind the disk is not written, and so undefined. From
before the first byte until the end the volume bears a mark in its metadata;
a restore that is given up leaves it there, since the content is of no use.
"""

from __future__ import annotations

import dataclasses

from bakflow import errors, fault
from bakflow.cloud import waiting
from bakflow.cloud.resources import Resource
from bakflow.cloud.volumes import Look
from bakflow.tasks import releasing
from bakflow.tasks.base import Result, Step, waits_for
from bakflow.tasks.context import StepContext
from bakflow.tasks.copying import id_of
from bakflow.tasks.reading import GIB, Saved
from bakflow.tasks.sending import SendDisk

#: In the metadata of a volume that is being written over; the restore's id.
MARK = 'bakflow_incomplete_restore'

_LOOK, _BEGUN, _WRITTEN = 'look_before', 'reimage_begun', 'reimage_done'


class WriteOver(Step):
    """Has the whole volume written anew from the image."""

    def run(self, ctx: StepContext) -> Result:
        """Write it, or find that it is being written, or was."""
        id = volume_id(ctx)
        volume = ctx.cloud.volumes.get(id)
        if not ctx.records.notes().get(_BEGUN):
            self._mark(ctx, volume)
            self._write(ctx, id)
        elif volume.status == 'error' or (
                volume.status == 'available'
                and not self._written(ctx, volume)):
            SendDisk('send', ctx.flow_id).run(ctx)
            self._write(ctx, id)
        fault.point('reimage:asked')
        self._wait(ctx, id)
        ctx.records.note(_WRITTEN, True)
        return {'id': id}

    def undo(self, ctx: StepContext) -> None:
        """The mark stays when anything may have been written."""
        notes = ctx.records.notes()
        if notes.get(_BEGUN) or _LOOK not in notes:
            return
        try:
            ctx.cloud.volumes.mend(volume_id(ctx), Look(**notes[_LOOK]))
        except errors.ControlError:
            raise
        except errors.BakflowError as exc:
            ctx.records.note('mark_left', str(exc))

    # -- inside -----------------------------------------------------------

    def _mark(self, ctx: StepContext, volume: Resource) -> None:
        """Check it, remember how it looks, mark it."""
        id, notes = volume.id, ctx.records.notes()
        check_destination(volume, Saved(ctx).size_gib * GIB)
        look = Look.of(volume)
        if _LOOK not in notes:
            ctx.records.note(_LOOK, dataclasses.asdict(look))
        ctx.cloud.volumes.set_metadata(
            id, {**look.metadata, MARK: ctx.owner_id})
        fault.point('reimage:marked')

    def _write(self, ctx: StepContext, id: str) -> None:
        ctx.records.note(_BEGUN, True)
        fault.point('reimage:begun')
        try:
            ctx.cloud.volumes.reimage(id, id_of(ctx, 'image'))
        except errors.AmbiguousCreate:
            self._find_out(ctx, id)
        except (errors.CloudRefused, errors.ResourceBusy,
                errors.ResourceVanished, errors.QuotaReached):
            if ctx.cloud.volumes.get(id).status == 'available':
                ctx.records.note(_BEGUN, False)
            raise

    def _find_out(self, ctx: StepContext, id: str) -> None:
        """The answer was lost: see whether the volume is being written.

        :raises AmbiguousCreate: nothing shows; to be tried again.
        """
        grace = releasing.grace_of(ctx)
        waited, pause = 0.0, 0.5
        while True:
            ctx.pause(pause)
            waited += pause
            volume = ctx.cloud.volumes.get(id)
            if (volume.status != 'available'
                    or self._written(ctx, volume)):
                return
            if waited >= grace:
                raise errors.AmbiguousCreate(
                    f'the answer to the writing of volume {id} was lost, '
                    f'and it has not begun', resource=f'volume {id}',
                    hint='it is asked for again')
            pause = min(pause * 2, grace - waited)

    def _written(self, ctx: StepContext, volume: Resource) -> bool:
        """Cinder names the image in the volume when it is done."""
        named = volume.details['volume_image_metadata'].get('image_id')
        return bool(named) and named == id_of(ctx, 'image')

    def _wait(self, ctx: StepContext, id: str) -> None:
        volumes = ctx.cloud.volumes
        try:
            with waits_for(ctx, f'volume {id} to be written'):
                waiting.until(
                    lambda: volumes.get(id), want=('available',),
                    deadline_seconds=ctx.options['volume_timeout'],
                    pause=ctx.pause, explain=volumes.explain)
        except errors.ResourceFailed as exc:
            exc.hint = ('its content is incomplete: resume the flow to have '
                        'it written again, or restore to a new volume')
            raise


class MendOver(Step):
    """Gives the volume its own look back, and the backup's boot data."""

    def run(self, ctx: StepContext) -> Result:
        """Name, description and metadata stay those of the volume."""
        before = Look(**ctx.records.notes()[_LOOK])
        saved = Saved(ctx).document
        before.metadata.pop(MARK, None)     # of an earlier restore
        ctx.cloud.volumes.mend(volume_id(ctx), dataclasses.replace(
            before, bootable=bool(saved.get('bootable')),
            image_metadata=dict(saved.get('image_metadata') or {})))
        fault.point('mend:mended')
        return {'id': volume_id(ctx)}


class FinishOver(Step):
    """Announces it."""

    def run(self, ctx: StepContext) -> Result:
        """The volume holds what was saved."""
        result = {'volume_id': volume_id(ctx)}
        ctx.records.restore_done(ctx.owner_id, result)
        return result


def volume_id(ctx: StepContext) -> str:
    """The volume that is written over."""
    return str(ctx.request['destination']['volume_id'])


def check_destination(volume: Resource, size: int) -> None:
    """Whether the volume can be written over.

    :param size: bytes of the volume that was backed up.
    :raises Conflict: it is not available, or too small.
    """
    if volume.status != 'available' or volume.details['attachments']:
        raise errors.Conflict(
            f'{volume} is {volume.status}; only an available volume can be '
            f'written over', resource=str(volume),
            hint='detach it first, or restore to a new volume')
    if (volume.size_bytes or 0) < size:
        raise errors.Conflict(
            f'{volume} has {(volume.size_bytes or 0) // GIB} GiB, the '
            f'backup {size // GIB} GiB', resource=str(volume),
            hint='extend it first, or restore to a new volume')
