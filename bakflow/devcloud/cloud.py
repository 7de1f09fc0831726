"""The simulated cloud as a whole, and what tests and the demo do to it."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable
from typing import Any, BinaryIO

import yaml

from bakflow.devcloud import cinder, files, front, keystone
from bakflow.devcloud.faults import Faults
from bakflow.devcloud.server import Listener, RequestLog
from bakflow.devcloud.state import (
    GIB,
    Image,
    Snapshot,
    State,
    Token,
    Volume,
    new_id,
    now,
)
from bakflow.devcloud.web import Answer, Request
from bakflow.devcloud.work import Workers

LOG = logging.getLogger(__name__)


class DevCloud:
    """One simulated OpenStack on one loopback port.

    A context manager; or :meth:`start` and :meth:`stop`.

    :param data_dir: where the bytes lie; made when missing, mode 0700.
    :param delay: seconds that each background step takes.
    :param port: to listen on; 0 takes a free one.
    :param token_life: seconds until a token expires.
    :param delays: overrides of ``delay`` by operation (``volume.create`` ...)
    :param gib: bytes that a GiB of a volume has here; a smaller one makes
        tests quick where nothing depends on the real size.
    :param hashes: False leaves images without checksum and os_hash_value,
        whose computing takes 4 CPU seconds a GiB.
    """

    def __init__(self, data_dir: str | os.PathLike[str], delay: float = 0.02,
                 port: int = 0, token_life: float = 14400,
                 delays: dict[str, float] | None = None, *,
                 gib: int = GIB, hashes: bool = True) -> None:
        self.data_dir = os.fspath(data_dir)
        os.makedirs(self.data_dir, mode=0o700, exist_ok=True)
        for kind in ('volumes', 'snapshots', 'images'):
            os.makedirs(os.path.join(self.data_dir, kind), mode=0o700,
                        exist_ok=True)
        self.password = secrets.token_hex(8)
        #: for POST /devcloud/..., see control.py
        self.secret = secrets.token_urlsafe(24)
        self.state = State(self.password, token_life)
        self.workers = Workers(delay)
        self.workers.delays.update(delays or {})
        self.faults = Faults()
        self.requests = RequestLog()
        self.zones = ['nova']
        #: bytes a second that answers are sent with; None: no limit
        self.send_rate: float | None = None
        #: the largest image in bytes (Glance's image_size_cap)
        self.image_size_cap: int | None = 1 << 40
        #: how many images a project may have; None: no limit
        self.image_limit: int | None = None
        self.gib = gib
        self.hashes = hashes
        self._port = port
        self._listener: Listener | None = None

    # -- running ----------------------------------------------------------

    def start(self) -> DevCloud:
        """Listen and answer, in threads of this process."""
        self._listener = Listener(self, self._port)
        self._port = self._listener.port
        self._listener.start()
        return self

    def stop(self) -> None:
        """Stop at once: what is held is let go, connections are closed."""
        self.workers.stopping.set()
        self.faults.clear()
        if self._listener is not None:
            self._listener.stop()
            self._listener = None
        self.workers.stop()

    def __enter__(self) -> DevCloud:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self._port}'

    @property
    def auth_url(self) -> str:
        return f'{self.url}/identity/v3'

    # -- credentials ------------------------------------------------------

    def auth(self, user: str = 'demo',
             project: str | None = None) -> dict[str, str]:
        """The ``auth`` of a clouds.yaml entry, with the password."""
        return {'auth_url': self.auth_url, 'username': user,
                'password': self.password, 'project_name': project or user,
                'user_domain_name': 'Default',
                'project_domain_name': 'Default'}

    def config(self) -> dict[str, Any]:
        """The clouds ``devcloud``, ``devcloud-other``, ``devcloud-admin``."""
        return {'clouds': {
            name: {'auth': self.auth(user), 'region_name': keystone.REGION,
                   'identity_api_version': '3'}
            for name, user in (('devcloud', 'demo'),
                               ('devcloud-other', 'other'),
                               ('devcloud-admin', 'admin'))}}

    def clouds_yaml(self) -> str:
        """:meth:`config` as the text of a clouds.yaml."""
        text: str = yaml.safe_dump(self.config(), sort_keys=False)
        return text

    def make_app_credential(self, user: str = 'demo',
                            project: str | None = None) -> dict[str, str]:
        """An application credential: ``id`` and ``secret``."""
        from bakflow.devcloud.state import AppCredential
        made = AppCredential(
            new_id().replace('-', ''), secrets.token_urlsafe(24), 'test',
            self.state.users[user].id, self.project_id(project or user))
        self.state.app_credentials[made.id] = made
        return {'id': made.id, 'secret': made.secret}

    def revoke_tokens(self) -> None:
        """Every token given so far answers 401 from now on."""
        with self.state.lock:
            for token in self.state.tokens.values():
                token.revoked = True

    def project_id(self, name: str) -> str:
        return self.state.projects[name].id

    def answer(self, request: Request) -> Answer:
        """The answer to one request.

        :raises ApiError: to be worded by the service.
        """
        return front.answer(self, request)

    # -- what the services ask --------------------------------------------

    def sees_image(self, request: Request, image: Image) -> bool:
        return (request.caller.admin or image.owner == request.project_id
                or image.visibility in ('public', 'community'))

    def images_full(self, project_id: str) -> bool:
        mine = [i for i in self.state.images.values()
                if i.owner == project_id]
        return self.image_limit is not None and len(mine) >= self.image_limit

    def message(self, volume: Volume, request_id: str, text: str,
                event: str, cause: object) -> None:
        """An entry for GET /messages: why a background work failed."""
        LOG.info('%s: %s', text, cause)
        moment = now()
        self.state.messages.append({
            'id': new_id(), 'event_id': event, 'user_message': text,
            'message_level': 'ERROR', 'created_at': cinder.stamp(moment),
            'guaranteed_until': cinder.stamp(
                moment.replace(year=moment.year + 1)),
            'request_id': request_id, 'resource_type': 'VOLUME',
            'resource_uuid': volume.id, 'project_id': volume.project_id})

    def attach(self, volume: Volume, server_id: str, device: str) -> None:
        """Make a volume ``in-use``, as Nova would."""
        volume.attachments = [{
            'id': volume.id, 'attachment_id': new_id(),
            'volume_id': volume.id, 'server_id': server_id,
            'host_name': None, 'device': device,
            'attached_at': cinder.stamp(now())}]
        volume.admin_metadata = {'readonly': 'False', 'attached_mode': 'rw'}
        self.state.set_status(volume, 'in-use')

    # -- files ------------------------------------------------------------

    def volume_path(self, volume_id: str) -> str:
        """The file with a volume's bytes, exactly as long as the volume."""
        return os.path.join(self.data_dir, 'volumes', volume_id)

    def snapshot_path(self, snapshot_id: str) -> str:
        return os.path.join(self.data_dir, 'snapshots', snapshot_id)

    def image_path(self, image_id: str) -> str:
        return os.path.join(self.data_dir, 'images', image_id)

    # -- for tests and the demo -------------------------------------------

    def make_volume(self, project: str = 'demo', name: str | None = None,
                    size_gib: int = 1,
                    data: Callable[[BinaryIO], object] | str
                    | os.PathLike[str] | None = None, *,
                    volume_type: str | None = None, bootable: bool = False,
                    attached: bool = False,
                    metadata: dict[str, str] | None = None,
                    image_metadata: dict[str, str] | None = None,
                    description: str | None = None,
                    zone: str = 'nova', status: str = 'available') -> str:
        """A volume, ready at once, without a request.

        :param data: a function that writes into the open file, or the path
            of a file to copy; the rest is zeros.
        :param attached: leaves it ``in-use``.
        :returns: the volume's id.
        """
        user = self.state.users.get(project, self.state.users['demo'])
        volume = Volume(
            new_id(), self.project_id(project), user.id, size_gib,
            self.state.types[volume_type or self.state.default_type],
            name=name, description=description, zone=zone,
            metadata=dict(metadata or {}), bootable=bootable,
            image_metadata=dict(image_metadata or {}))
        path = self.volume_path(volume.id)
        if data is None or callable(data):
            files.make_empty(path, size_gib * self.gib)
        else:
            files.copy_sparse(os.fspath(data), path, size_gib * self.gib)
        if callable(data):
            with open(path, 'r+b') as f:
                data(f)
            os.truncate(path, size_gib * self.gib)
        with self.state.lock:
            self.state.volumes[volume.id] = volume
            self.state.set_status(volume, status)
            if attached:
                self.attach(volume, new_id(), '/dev/vdb')
        return volume.id

    def volume_bytes_sha256(self, volume_id: str) -> str:
        """SHA-256 of all bytes of a volume, as hex."""
        return files.sha256(self.volume_path(volume_id))

    def inventory(self, project: str | None = None
                  ) -> dict[str, dict[str, str]]:
        """All that exists, by kind: id -> ``name (status)``.

        :param project: only of this project.
        """
        def told(things: dict[str, Any], owner: str) -> dict[str, str]:
            wanted = self.project_id(project) if project else None
            return {k: f'{v.name} ({v.status})' for k, v in things.items()
                    if wanted in (None, getattr(v, owner))}
        with self.state.lock:
            return {'volumes': told(self.state.volumes, 'project_id'),
                    'snapshots': told(self.state.snapshots, 'project_id'),
                    'images': told(self.state.images, 'owner')}

    def wait(self, condition: Callable[[], bool],
             timeout: float = 30) -> None:
        """Wait until a condition on the state holds.

        :raises TimeoutError: when it does not, after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        with self.state.changed:
            while not condition():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError('the state did not come')
                self.state.changed.wait(min(left, 0.05))

    def volume(self, volume_id: str) -> Volume:
        return self.state.volumes[volume_id]

    def snapshot(self, snapshot_id: str) -> Snapshot:
        return self.state.snapshots[snapshot_id]

    def image(self, image_id: str) -> Image:
        return self.state.images[image_id]

    def token(self, user: str = 'demo',
              project: str | None = None) -> Token:
        """A token without a request."""
        return keystone.issue(self, self.state.users[user],
                              self.state.projects[project or user],
                              ['password'])

    def remove(self, thing_id: str) -> None:
        """Let a volume, snapshot or image vanish at once, with its bytes."""
        with self.state.changed:
            kinds: tuple[tuple[dict[str, Any], Callable[[str], str]], ...] = (
                (self.state.volumes, self.volume_path),
                (self.state.snapshots, self.snapshot_path),
                (self.state.images, self.image_path))
            for things, path in kinds:
                if things.pop(thing_id, None) is not None:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path(thing_id))
            self.state.changed.notify_all()
