"""Volumes: what is backed up, temporaries, and what a restore makes."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any

from bakflow import errors
from bakflow.cloud import cinder, resources
from bakflow.cloud.naming import Tag
from bakflow.cloud.resources import Resource

#: States in which a volume can be backed up.
CAN_BACK_UP = ('available', 'in-use')

#: Cinder mixes these of its own into the metadata that it shows, of a volume
#: that is or was attached, and hides the user's keys of the same name.
_CINDERS_OWN = {'readonly', 'attached_mode'}

#: The first microversion with os-reimage.
_REIMAGE = '3.68'


@dataclasses.dataclass(frozen=True)
class Look:
    """How a volume presents itself, apart from its bytes.

    What a backup saves and :meth:`Volumes.mend` gives back.
    """

    name: str
    description: str
    bootable: bool
    metadata: dict[str, str]
    image_metadata: dict[str, str]

    @classmethod
    def of(cls, volume: Resource) -> Look:
        """The look of a volume as it was asked for."""
        return cls(volume.name, volume.details['description'],
                   volume.details['bootable'], dict(volume.metadata),
                   dict(volume.details['volume_image_metadata']))


class Volumes(cinder.CinderKind):
    """The project's volumes."""

    kind = resources.VOLUME
    plural = 'volumes'
    read = staticmethod(resources.volume)

    def get(self, id: str) -> Resource:
        """The volume as it is now, with the metadata of its user only.

        :raises ResourceVanished: there is none, or it is not ours to see.
        """
        volume = super().get(id)
        if _CINDERS_OWN.isdisjoint(volume.metadata):
            return volume
        body = self._api.get(f'/volumes/{id}/metadata',
                             doing=f'read the metadata of volume {id}',
                             resource=f'volume {id}')
        return dataclasses.replace(volume, metadata=dict(body['metadata']))

    def create(self, tag: Tag | None, *, name: str, size_gib: int,
               snapshot_id: str | None = None, image_id: str | None = None,
               volume_type: str | None = None,
               availability_zone: str | None = None,
               description: str | None = None,
               metadata: dict[str, str] | None = None) -> Resource:
        """Ask for a volume. Sent once.

        :param tag: of a temporary; its metadata is added, its name wins.
        :raises AmbiguousCreate: look with :meth:`find` what became of it.
        :raises ResourceVanished: the snapshot is gone.
        :raises QuotaReached: of volumes or gigabytes.
        """
        wanted: dict[str, Any] = {
            'name': tag.name if tag else name, 'size': size_gib,
            'metadata': {**(metadata or {}), **(tag.metadata if tag else {})},
            'snapshot_id': snapshot_id, 'imageRef': image_id,
            'volume_type': volume_type, 'description': description,
            'availability_zone': availability_zone}
        source = (f' from snapshot {snapshot_id}' if snapshot_id else
                  f' from image {image_id}' if image_id else '')
        return self._create(
            {k: v for k, v in wanted.items() if v is not None},
            doing=f'make a volume of {size_gib} GiB{source}')

    def find_one(self, name_or_id: str) -> Resource:
        """The one volume of this id or, if there is none, of this name.

        :raises NotFound: there is none.
        :raises NotUnique: several have the name; the message lists them.
        """
        by_id = self._look(name_or_id) if _is_uuid(name_or_id) else None
        if by_id is not None:
            return by_id
        found = self.named(name_or_id)      # a name may look like an id
        if len(found) == 1:
            return self.get(found[0].id)
        if not found:
            raise errors.NotFound(
                f'there is no volume {name_or_id!r} in this project',
                hint='openstack volume list shows what there is')
        ids = ', '.join(sorted(v.id for v in found))
        raise errors.NotUnique(
            f'{len(found)} volumes are named {name_or_id!r}: {ids}',
            hint='give the id')

    def reimage(self, id: str, image_id: str) -> None:
        """Have the whole volume written anew from an image. Sent once.

        The volume goes to ``downloading`` and back to ``available``; Cinder
        then sets ``bootable`` and the image metadata of its own: see
        :meth:`mend`. Needs Cinder 3.68 (Yoga).

        :raises AmbiguousCreate: the answer was lost; its state tells.
        """
        self._action(id, 'os-reimage',
                     {'image_id': image_id, 'reimage_reserved': False},
                     doing=f'write image {image_id} over volume {id}',
                     microversion=_REIMAGE, creating=True)

    def set_bootable(self, id: str, bootable: bool) -> None:
        """Set the flag that Nova and users go by."""
        self._action(id, 'os-set_bootable', {'bootable': bootable},
                     doing=f'mark volume {id} as '
                           f'{"" if bootable else "not "}bootable')

    def set_image_metadata(self, id: str, metadata: dict[str, str]) -> None:
        """Add to, or change, what the volume says about its image."""
        self._action(id, 'os-set_image_metadata', {'metadata': metadata},
                     doing=f'set image metadata of volume {id}')

    def unset_image_metadata(self, id: str, key: str) -> None:
        """Remove one key; one that is gone is fine."""
        try:
            self._action(id, 'os-unset_image_metadata', {'key': key},
                         doing=f'remove image metadata {key} of volume {id}')
        except errors.ResourceVanished:
            self.get(id)    # the key is gone, or is it the volume?

    def set_metadata(self, id: str, metadata: dict[str, str]) -> None:
        """Replace all of the metadata."""
        self._idempotent('PUT', f'/volumes/{id}/metadata',
                         {'metadata': metadata}, id,
                         f'set the metadata of volume {id}')

    def update(self, id: str, *, name: str, description: str) -> None:
        """Set name and description."""
        self._idempotent(
            'PUT', f'/volumes/{id}',
            {'volume': {'name': name, 'description': description}}, id,
            f'name volume {id}')

    def mend(self, id: str, wanted: Look) -> Resource:
        """Make the volume present itself exactly as ``wanted``.

        A volume made from an image, or written anew from one, claims to be
        that image and to be bootable. Only what differs is sent, so it can
        be done again after a crash.

        :raises CloudError: it still differs when all was sent.
        """
        self._approach(self.get(id), wanted)
        mended = self.get(id)
        if Look.of(mended) != wanted:
            raise errors.CloudError(
                f'volume {id} does not keep {_differences(mended, wanted)}',
                resource=f'volume {id}',
                hint='compare it with bakflow backup show, and set the rest '
                     'by hand')
        return mended

    # -- inside -----------------------------------------------------------

    def _look(self, id: str) -> Resource | None:
        try:
            return self.get(id)
        except errors.ResourceVanished:
            return None

    def _approach(self, volume: Resource, wanted: Look) -> None:
        is_now = Look.of(volume)
        if (is_now.name, is_now.description) != (
                wanted.name, wanted.description):
            self.update(volume.id, name=wanted.name,
                        description=wanted.description)
        if is_now.metadata != wanted.metadata:
            self.set_metadata(volume.id, wanted.metadata)
        for key in is_now.image_metadata.keys() - wanted.image_metadata:
            self.unset_image_metadata(volume.id, key)
        new = dict(wanted.image_metadata.items()
                   - is_now.image_metadata.items())
        if new:
            self.set_image_metadata(volume.id, new)
        if is_now.bootable != wanted.bootable:
            self.set_bootable(volume.id, wanted.bootable)

    def _action(self, id: str, action: str, body: dict[str, Any], *,
                doing: str, microversion: str | None = None,
                creating: bool = False) -> None:
        self._api.send('POST', f'/volumes/{id}/action', doing=doing,
                       resource=f'volume {id}', json={action: body},
                       microversion=microversion, creating=creating)

    def _idempotent(self, method: str, url: str, body: dict[str, Any],
                    id: str, doing: str) -> None:
        self._api.patiently(lambda: self._api.send(
            method, url, doing=doing, resource=f'volume {id}', json=body))


def state_problem(volume: Resource) -> str | None:
    """Why a volume cannot be backed up as it is now, or None."""
    if volume.status in CAN_BACK_UP:
        return None
    return (f'{volume} is {volume.status}; only a volume that is '
            f'{" or ".join(CAN_BACK_UP)} can be backed up')


def _differences(volume: Resource, wanted: Look) -> str:
    now = dataclasses.asdict(Look.of(volume))
    return ', '.join(k for k, v in dataclasses.asdict(wanted).items()
                     if now[k] != v)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
