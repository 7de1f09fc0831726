"""What snapshots and volumes have in common: Cinder's way with resources."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from oslo_log import log as logging

from bakflow import errors
from bakflow.cloud import naming, rest
from bakflow.cloud.resources import Resource

LOG = logging.getLogger(__name__)

#: Listings of messages and their filter (``api-ref`` of Block Storage).
_MESSAGES = '3.5'


class CinderKind:
    """One kind of Cinder's resources. See snapshots.py and volumes.py."""

    kind: str
    plural: str
    read: Callable[[dict[str, Any]], Resource]

    def __init__(self, api: rest.Api) -> None:
        self._api = api

    def get(self, id: str) -> Resource:
        """The resource as it is now.

        :raises ResourceVanished: there is none, or it is not ours to see.
        """
        body = self._api.get(f'/{self.plural}/{id}',
                             doing=f'look at {self.kind} {id}',
                             resource=f'{self.kind} {id}')
        return type(self).read(body[self.kind])

    def find(self, tag: naming.Tag) -> list[Resource]:
        """All that have exactly this name and this metadata."""
        return [r for r in self.named(tag.name) if tag.fits(r)]

    def named(self, name: str) -> list[Resource]:
        """All of exactly this name."""
        found = self._list({'name': name})
        return [r for r in found if r.name == name]

    def ours(self, deployment: str) -> Iterator[Resource]:
        """All that bear this deployment's metadata, or only our name."""
        for resource in self._list({}):
            if naming.ours(resource, deployment) is not None:
                yield resource

    def adopt(self, resource: Resource, tag: naming.Tag) -> Resource:
        """Make a resource that was found our own: nothing to do here."""
        del tag
        return resource

    def delete(self, id: str) -> None:
        """Ask for deletion; one that is gone or going is fine.

        :raises ResourceBusy: its state or its dependents forbid it now.
        """
        resource = f'{self.kind} {id}'
        try:
            self._api.patiently(lambda: self._api.send(
                'DELETE', f'/{self.plural}/{id}', resource=resource,
                doing=f'delete {resource}'))
        except errors.ResourceVanished:
            return
        except (errors.ResourceBusy, errors.CloudRefused):
            if not self._going(id):
                raise

    def explain(self, resource: Resource) -> str | None:
        """What Cinder tells its users about a failure, newest first.

        Readable by a plain member. None when there is nothing to tell.
        """
        try:
            body = self._api.get(
                '/messages', doing=f'read the messages about {resource}',
                params={'resource_uuid': resource.id},
                microversion=_MESSAGES)
        except errors.CloudError as exc:
            # An old Cinder has no messages; the failure itself is known.
            LOG.debug('No messages about %s: %s', resource, exc)
            return None
        found = [m for m in body.get('messages', [])
                 if m.get('resource_uuid') == resource.id]
        found.sort(key=lambda m: str(m.get('created_at')), reverse=True)
        return str(found[0]['user_message']) if found else None

    # -- for the kinds ----------------------------------------------------

    def _list(self, params: dict[str, str]) -> Iterator[Resource]:
        for body in self._api.pages(f'/{self.plural}/detail', self.plural,
                                    doing=f'list {self.plural}',
                                    params=params or None):
            yield type(self).read(body)

    def _create(self, body: dict[str, Any], doing: str) -> Resource:
        answer = self._api.send('POST', f'/{self.plural}', doing=doing,
                                creating=True, json={self.kind: body})
        return type(self).read(rest.created(answer, doing)[self.kind])

    def _going(self, id: str) -> bool:
        try:
            return self.get(id).status in ('deleting', 'deleted')
        except errors.ResourceVanished:
            return True


