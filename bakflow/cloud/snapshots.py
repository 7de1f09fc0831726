"""Snapshots: the point in time of a backup. All are temporaries."""

from __future__ import annotations

from bakflow.cloud import cinder, resources
from bakflow.cloud.naming import Tag
from bakflow.cloud.resources import Resource


class Snapshots(cinder.CinderKind):
    """The project's snapshots."""

    kind = resources.SNAPSHOT
    plural = 'snapshots'
    read = staticmethod(resources.snapshot)

    def create(self, volume_id: str, tag: Tag) -> Resource:
        """Ask for a snapshot, of an attached volume too. Sent once.

        :raises AmbiguousCreate: look with :meth:`find` what became of it.
        :raises ResourceVanished: the volume is gone.
        :raises ResourceBusy: the volume is not in a state for it.
        :raises QuotaReached: of snapshots or gigabytes.
        """
        return self._create(
            {'volume_id': volume_id, 'name': tag.name, 'force': True,
             'metadata': tag.metadata},
            doing=f'make a snapshot of volume {volume_id}')
