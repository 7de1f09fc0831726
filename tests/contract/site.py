"""One cloud under contract: raw calls through the SDK, and cleaning up."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import openstack.connection
import requests

NOWHERE = '00000000-0000-0000-0000-000000000000'
PATCH = 'application/openstack-images-v2.1-json-patch'


class Site:
    """Calls that raise nothing: the answers are what is looked at."""

    def __init__(self, conn: openstack.connection.Connection, *, real: bool,
                 volume_type: str, gib: int = 1 << 30) -> None:
        self.conn = conn
        self.gib = gib
        self.real = real
        self.volume_type = volume_type
        self.prefix = f'contract-{uuid.uuid4().hex[:8]}'
        self._made: list[Callable[[], None]] = []

    @property
    def project(self) -> str:
        project: str = self.conn.current_project_id
        return project

    def volume(self, method: str, path: str, body: Any = None,
               version: str | None = None, **kw: Any) -> requests.Response:
        """A call to Cinder, without the SDK's retries."""
        if body is not None:
            kw['json'] = body
        answer: requests.Response = self.conn.block_storage.request(
            path, method, microversion=version, raise_exc=False,
            connect_retries=0, status_code_retries=0,
            headers={'Accept': 'application/json'}, **kw)
        return answer

    def image(self, method: str, path: str = '', body: Any = None,
              headers: dict[str, str] | None = None,
              **kw: Any) -> requests.Response:
        """A call to Glance below /v2/images."""
        if body is not None:
            kw['json'] = body
        answer: requests.Response = self.conn.image.request(
            '/images' + path, method,
            raise_exc=False, connect_retries=0, status_code_retries=0,
            headers=headers or {}, **kw)
        return answer

    def patch(self, image_id: str, *changes: dict[str, Any]
              ) -> requests.Response:
        return self.image('PATCH', f'/{image_id}', list(changes),
                          {'Content-Type': PATCH})

    # -- making -----------------------------------------------------------

    def name(self, what: str) -> str:
        return f'{self.prefix}-{what}'

    def create(self, kind: str, data: dict[str, Any],
               version: str | None = None) -> dict[str, Any]:
        """A volume or snapshot; deleted at the end."""
        answer = self.volume('POST', f'/{kind}s', {kind: data}, version)
        assert answer.status_code == 202, answer.text
        made: dict[str, Any] = answer.json()[kind]
        self.later(kind, made['id'])
        return made

    def later(self, kind: str, thing_id: str) -> None:
        """Delete this at the end of the test."""
        self._made.append(lambda: self.delete(kind, thing_id))

    def make_volume(self, what: str = 'v', **details: Any) -> dict[str, Any]:
        """A volume of 1 GiB, available."""
        if not {'snapshot_id', 'source_volid'} & set(details):
            details.setdefault('volume_type', self.volume_type)
        made = self.create('volume', {'name': self.name(what), 'size': 1,
                                      **details})
        self.wait('volume', made['id'])
        return self.show('volume', made['id'])

    def make_image(self, data: bytes | Iterable[bytes] | None = None,
                   disk_format: str = 'raw', **details: Any) -> str:
        """An image; without data it stays queued."""
        answer = self.image('POST', '', {
            'name': self.name('i'), 'disk_format': disk_format,
            'container_format': 'bare', 'visibility': 'private', **details})
        assert answer.status_code == 201, answer.text
        image_id: str = answer.json()['id']
        self.later('image', image_id)
        if data is not None:
            sent = self.put(image_id, data)
            assert sent.status_code == 204, sent.text
        return image_id

    def put(self, image_id: str, data: bytes | Iterable[bytes],
            **headers: str) -> requests.Response:
        return self.image('PUT', f'/{image_id}/file', data=data, headers={
            'Content-Type': 'application/octet-stream', **headers})

    def upload(self, volume_id: str, disk_format: str = 'qcow2',
               **details: Any) -> str:
        """Start a volume's upload to an image."""
        answer = self.volume('POST', f'/volumes/{volume_id}/action', {
            'os-volume_upload_image': {
                'image_name': self.name('up'), 'disk_format': disk_format,
                'container_format': 'bare', **details}}, '3.1')
        assert answer.status_code == 202, answer.text
        image_id: str = answer.json()['os-volume_upload_image']['image_id']
        self.later('image', image_id)
        return image_id

    def act(self, volume_id: str, name: str, data: Any,
            version: str | None = None) -> requests.Response:
        return self.volume('POST', f'/volumes/{volume_id}/action',
                           {name: data}, version)

    # -- looking and waiting ----------------------------------------------

    def look(self, kind: str, thing_id: str) -> requests.Response:
        if kind == 'image':
            return self.image('GET', f'/{thing_id}')
        return self.volume('GET', f'/{kind}s/{thing_id}', version='3.68')

    def show(self, kind: str, thing_id: str) -> dict[str, Any]:
        answer = self.look(kind, thing_id)
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()
        return data if kind == 'image' else data[kind]

    def wait(self, kind: str, thing_id: str,
             *statuses: str, timeout: float = 180) -> list[str]:
        """Wait for a status (``gone`` is one).

        :returns: the statuses on the way, the last one included.
        """
        wanted = statuses or (('active',) if kind == 'image'
                              else ('available',))
        seen: list[str] = []
        deadline = time.monotonic() + timeout
        while True:
            answer = self.look(kind, thing_id)
            if answer.status_code == 404:
                status = 'gone'
            else:
                data = answer.json()
                status = (data if kind == 'image' else data[kind])['status']
            if not seen or seen[-1] != status:
                seen.append(status)
            if status in wanted:
                return seen
            assert status not in ('gone', 'error', 'error_deleting'), seen
            assert time.monotonic() < deadline, seen
            time.sleep(0.02 if not self.real else 0.1)

    # -- cleaning up ------------------------------------------------------

    def delete(self, kind: str, thing_id: str) -> None:
        """Delete and wait until it is gone."""
        deadline = time.monotonic() + 180
        while self.look(kind, thing_id).status_code != 404:
            if kind == 'image':
                self.image('DELETE', f'/{thing_id}')
            else:
                self.volume('DELETE', f'/{kind}s/{thing_id}')
            assert time.monotonic() < deadline, f'{kind} {thing_id} stays'
            time.sleep(0.02 if not self.real else 0.2)

    def clean(self) -> None:
        while self._made:
            self._made.pop()()


def random_bytes(amount: int = 1 << 20) -> bytes:
    return os.urandom(amount)


def fault(answer: requests.Response) -> tuple[int, str, str]:
    """Status, name and message of Cinder's error."""
    data = answer.json()
    name = next(iter(data))
    assert data[name]['code'] == answer.status_code
    return answer.status_code, name, data[name]['message']
