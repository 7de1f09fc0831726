"""Images: the road along which the bytes of volumes come and go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from bakflow import errors
from bakflow.cloud import errors as cloud_errors
from bakflow.cloud import naming, reader, resources, rest
from bakflow.cloud.naming import Tag
from bakflow.cloud.resources import Resource

_PATCH = 'application/openstack-images-v2.1-json-patch'

#: The first microversion whose upload-to-image takes a visibility; before
#: it, images are 'shared'.
_VISIBILITY = '3.1'

#: Glance answers a PUT when it has digested all of the data (seconds); until
#: then each piece has to be taken within the usual time.
_UPLOAD_ANSWER = 600


class Images:
    """The project's images."""

    kind = resources.IMAGE

    def __init__(self, glance: rest.Api, cinder: rest.Api,
                 project_id: str) -> None:
        self._glance = glance
        self._cinder = cinder
        self._project_id = project_id

    def get(self, id: str) -> Resource:
        """The image as it is now.

        :raises ResourceVanished: there is none, or it is not ours to see.
        """
        return resources.image(self._glance.get(
            f'/images/{id}', doing=f'look at image {id}',
            resource=f'image {id}'))

    def find(self, tag: Tag) -> list[Resource]:
        """All of this name that bear the tag, or no tag of bakflow's yet.

        An image made by upload-to-image knows only its name until it is
        patched: :meth:`adopt` it.
        """
        found = self._list({'name': tag.name, 'owner': self._project_id})
        return [i for i in found if i.name == tag.name
                and (tag.fits(i) or naming.untagged(i))]

    def ours(self, deployment: str) -> Iterator[Resource]:
        """All that bear this deployment's properties, or only our name."""
        for image in self._list({'owner': self._project_id}):
            if naming.ours(image, deployment) is not None:
                yield image

    def delete(self, id: str) -> None:
        """Delete; one that is gone is fine.

        :raises ResourceBusy: it is in use (409).
        """
        try:
            self._glance.patiently(lambda: self._glance.send(
                'DELETE', f'/images/{id}', doing=f'delete image {id}',
                resource=f'image {id}'))
        except errors.ResourceVanished:
            return

    def explain(self, resource: Resource) -> str | None:
        """Why an image failed, when Glance says so."""
        stores = resource.metadata.get('os_glance_failed_import')
        return f'it could not be stored in {stores}' if stores else None

    def create_from_volume(self, volume_id: str, tag: Tag,
                           disk_format: str) -> Resource:
        """Ask Cinder to write a volume into a new image. Sent once.

        The call takes no properties, so the image is patched at once. The
        image is ``queued``, then ``saving``; the volume is ``uploading``
        meanwhile.

        :raises AmbiguousCreate: look with :meth:`find` what became of it.
        :raises ImageRefused: the image was gone before it could be patched:
            Cinder or Glance did not take the content in this format.
        :raises ResourceBusy: the volume is not in a state for it.
        """
        doing = f'write volume {volume_id} into an image'
        answer = self._cinder.send(
            'POST', f'/volumes/{volume_id}/action', doing=doing,
            resource=f'volume {volume_id}', creating=True,
            microversion=_VISIBILITY,
            json={'os-volume_upload_image': {
                'image_name': tag.name, 'disk_format': disk_format,
                'container_format': 'bare', 'force': False,
                'visibility': 'private', 'protected': False}})
        body = rest.created(answer, doing)['os-volume_upload_image']
        image_id = str(body['image_id'])
        try:
            return self._claim(image_id, tag)
        except errors.ResourceVanished as exc:
            raise refused(image_id, exc.request_id) from exc
        except errors.CloudUnavailable as exc:
            raise errors.AmbiguousCreate(
                f'image {image_id} was made but could not be tagged: {exc}',
                resource=f'image {image_id}', hint=exc.hint) from exc

    def adopt(self, resource: Resource, tag: Tag) -> Resource:
        """Tag an image that :meth:`find` knew by its name only."""
        if tag.fits(resource):
            return resource
        return self._claim(resource.id, tag)

    def create(self, tag: Tag | None, *, name: str, disk_format: str,
               min_disk: int = 0,
               properties: dict[str, str] | None = None) -> Resource:
        """Ask for an empty image, to be filled by :meth:`upload`. Sent once.

        :param tag: of a temporary; its properties are added, its name wins.
        :param min_disk: in GiB.
        :raises AmbiguousCreate: look with :meth:`find` what became of it.
        """
        body: dict[str, Any] = {
            **(properties or {}), **(tag.metadata if tag else {}),
            'name': tag.name if tag else name, 'disk_format': disk_format,
            'container_format': 'bare', 'visibility': 'private',
            'min_disk': min_disk, 'tags': [naming.IMAGE_TAG] if tag else []}
        doing = f'make image {body["name"]}'
        answer = self._glance.send('POST', '/images', doing=doing,
                                   creating=True, json=body)
        return resources.image(rest.created(answer, doing))

    def upload(self, id: str, pieces: Iterable[bytes], total: int) -> None:
        """Send the data of a queued image, in one stream, once.

        :param pieces: are sent as they come; nothing is gathered.
        :param total: bytes in all of them.
        :raises ImageRefused: Glance refuses the content (415), or the image
            is gone.
        :raises CloudUnavailable: the stream was cut. The image is of no use
            then unless it turns out ``active``: begin with a new one.
        :raises QuotaReached: the image is larger than Glance takes (413).
        """
        resource, doing = f'image {id}', f'send the data of image {id}'
        try:
            # A body cannot be sent again after a 401, and the answer to it
            # is easily lost: so a dead token is renewed by this look.
            self.get(id)
            self._glance.send(
                'PUT', f'/images/{id}/file', doing=doing, resource=resource,
                headers={'Content-Type': 'application/octet-stream'},
                data=_Body(pieces, total), redirect=False,
                allow_reauth=False, log=False,
                timeout=(self._glance.timeout, _UPLOAD_ANSWER))
        except rest.cloud_failures() as exc:
            raise cloud_errors.from_exception(exc, doing=doing,
                                              resource=resource) from exc
        except errors.ResourceVanished as exc:
            raise refused(id, exc.request_id) from exc
        except errors.CloudAuthFailed as exc:
            self._glance.adapter.session.invalidate()
            raise errors.CloudUnavailable(
                f'{exc.message}: the token was refused', resource=resource,
                request_id=exc.request_id,
                hint='it is tried again with a new token') from exc
        except errors.CloudRefused as exc:
            raise errors.ImageRefused(
                exc.message, resource=resource, request_id=exc.request_id,
                hint='the content does not pass as this disk format; qcow2 '
                     'takes any') from exc

    def reader(self, image: Resource) -> reader.ImageReader:
        """Read the data of an active image."""
        return reader.ImageReader(self._glance, image, self.get)

    # -- inside -----------------------------------------------------------

    def _list(self, params: dict[str, str]) -> Iterator[Resource]:
        for body in self._glance.pages('/images', 'images',
                                       doing='list images', params=params):
            yield resources.image(body)

    def _claim(self, id: str, tag: Tag) -> Resource:
        """Tag an image. ``add`` replaces too, so this can be repeated."""
        patch = [{'op': 'add', 'path': f'/{key}', 'value': value}
                 for key, value in tag.metadata.items()]
        patch.append({'op': 'replace', 'path': '/tags',
                      'value': [naming.IMAGE_TAG]})   # type: ignore
        answer = self._glance.patiently(lambda: self._glance.send(
            'PATCH', f'/images/{id}', doing=f'tag image {id}',
            resource=f'image {id}', json=patch,
            headers={'Content-Type': _PATCH}))
        return resources.image(answer.json())


def refused(id: str, request_id: str | None = None,
            reason: str | None = None) -> errors.ImageRefused:
    """The error of an image that vanished before it was active.

    :param reason: what Cinder says about the volume (``Volumes.explain``).
    """
    return errors.ImageRefused(
        f'image {id} vanished before it was active: the services did not '
        f'take its content in this format'
        + (f' ({reason})' if reason else ''), resource=f'image {id}',
        request_id=request_id,
        hint='some content does not pass as raw; qcow2 takes any')


class _Body:
    """Pieces of a known total length.

    With a length requests sends Content-Length, and from an iterator it
    sends each piece as it is (from a file it would read by 8 KiB).
    """

    def __init__(self, pieces: Iterable[bytes], total: int) -> None:
        self._pieces = pieces
        self._total = total

    def __len__(self) -> int:
        return self._total

    def __iter__(self) -> Iterator[bytes]:
        sent = 0
        for piece in self._pieces:
            sent += len(piece)
            if sent > self._total:
                raise ValueError('more data than announced')
            yield piece
        if sent != self._total:
            raise ValueError(f'{sent} bytes of data, {self._total} announced')
