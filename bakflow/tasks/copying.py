"""The temporaries of a volume backup: snapshot, volume, image.

The snapshot is the backup's point in time. Volume and image are copies of
it, so they can be made anew at any time; another snapshot can not, as soon
as something was stored.
"""

from __future__ import annotations

from oslo_log import log as logging

from bakflow import errors
from bakflow.cloud import images, resources, waiting
from bakflow.cloud.naming import Tag
from bakflow.cloud.resources import Resource
from bakflow.tasks.base import Result, Temporary, waits_for
from bakflow.tasks.context import StepContext

LOG = logging.getLogger(__name__)

#: The note that the upload has begun.
UPLOADING = 'uploading'

_FORMAT = 'image_format'


def id_of(ctx: StepContext, role: str) -> str:
    """The id in the cloud of the flow's temporary of this role.

    :raises ResourceVanished: the flow has none now.
    """
    entry = ctx.ledger.current(role)
    if entry is None or entry.cloud_id is None:
        raise errors.ResourceVanished(
            f'the flow has no {role} any more', resource=role,
            hint='abandon the flow and begin anew')
    return entry.cloud_id


class MakeSnapshot(Temporary):
    """Freezes the volume, attached or not."""

    role = 'snapshot'
    kind = resources.SNAPSHOT

    def create(self, ctx: StepContext, tag: Tag) -> Resource:
        """See :meth:`Snapshots.create`."""
        return ctx.cloud.snapshots.create(ctx.request['volume_id'], tag)

    def may_replace(self, ctx: StepContext) -> None:
        """Two points in time must not be mixed in one backup."""
        if ctx.records.notes().get(UPLOADING):
            entry = ctx.ledger.current(self.role)
            name = f'snapshot {entry.cloud_id}' if entry else 'the snapshot'
            raise errors.ResourceVanished(
                f'{name} is of no use any more, and a part of it is stored '
                f'already', resource=name,
                hint='abandon the flow and make a new backup')


class MakeVolume(Temporary):
    """Makes a volume of the snapshot: only volumes become images."""

    role = 'volume'
    kind = resources.VOLUME

    def create(self, ctx: StepContext, tag: Tag) -> Resource:
        """Of the type and in the zone of the source: Cinder's default."""
        return ctx.cloud.volumes.create(
            tag, name=tag.name, size_gib=ctx.request['size_gib'],
            snapshot_id=id_of(ctx, 'snapshot'))

    def prepare(self, ctx: StepContext) -> None:
        """The snapshot may have vanished."""
        MakeSnapshot('snapshot', ctx.flow_id).ensure(ctx)


class MakeImage(Temporary):
    """Writes the volume into an image: images can be read over HTTP.

    Raw is quick, but the services refuse some contents as raw: they answer
    202 and later the image is gone. Then, unless the request asks for one
    format, it is written as qcow2. Never for another reason: with qcow2
    Cinder looks at the content to guess what it is (measured).
    """

    role = 'image'
    kind = resources.IMAGE
    want = ('active',)

    def run(self, ctx: StepContext) -> Result:
        """Make it, as raw or else as qcow2."""
        made = self.ensure(ctx)
        return {'id': made.id, 'name': made.name,
                'disk_format': made.details['disk_format']}

    def ensure(self, ctx: StepContext) -> Resource:
        """As raw or else as qcow2."""
        try:
            return super().ensure(ctx)
        except errors.ImageRefused as exc:
            if (self._asked(ctx) != 'auto'
                    or self._format(ctx) == 'qcow2'):
                raise
            LOG.info('%s: it is tried as qcow2', exc)
        ctx.records.note(_FORMAT, 'qcow2')
        self._volume_again(ctx)
        return super().ensure(ctx)

    def create(self, ctx: StepContext, tag: Tag) -> Resource:
        """See :meth:`Images.create_from_volume`."""
        return ctx.cloud.images.create_from_volume(
            id_of(ctx, 'volume'), tag, self._format(ctx))

    def prepare(self, ctx: StepContext) -> None:
        """The volume may have vanished, or still be busy."""
        MakeVolume('volume', ctx.flow_id).ensure(ctx)

    def vanished(self, ctx: StepContext,
                 exc: errors.ResourceVanished) -> errors.BakflowError:
        """Say why, as far as Cinder tells."""
        volume = ctx.cloud.volumes.get(id_of(ctx, 'volume'))
        return images.refused(id_of(ctx, self.role), exc.request_id,
                              ctx.cloud.volumes.explain(volume))

    # -- inside -----------------------------------------------------------

    def _asked(self, ctx: StepContext) -> str:
        return str(ctx.request.get(_FORMAT)
                   or ctx.options.get(_FORMAT) or 'auto')

    def _format(self, ctx: StepContext) -> str:
        asked = self._asked(ctx)
        if asked != 'auto':
            return asked
        return str(ctx.records.notes().get(_FORMAT, 'raw'))

    def _volume_again(self, ctx: StepContext) -> None:
        """Until Cinder has given up the first image."""
        volumes, id = ctx.cloud.volumes, id_of(ctx, 'volume')
        with waits_for(ctx, f'volume {id} to become available again'):
            waiting.until(
                lambda: volumes.get(id), want=('available',),
                deadline_seconds=ctx.options['volume_timeout'],
                pause=ctx.pause, explain=volumes.explain)
