"""What the simulated cloud knows: users, volumes, snapshots, images.

Plain records under one lock (:attr:`State.lock`). Bytes lie in files, see
``files.py``. Nothing survives the end of the process.
"""

from __future__ import annotations

import dataclasses
import datetime
import threading
import uuid
from typing import Any

GIB = 1 << 30


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


def new_id() -> str:
    return str(uuid.uuid4())


@dataclasses.dataclass(frozen=True)
class Project:
    id: str
    name: str


@dataclasses.dataclass(frozen=True)
class User:
    id: str
    name: str
    password: str
    #: project id -> role names
    roles: dict[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class AppCredential:
    id: str
    secret: str
    name: str
    user_id: str
    project_id: str


@dataclasses.dataclass
class Token:
    id: str
    user: User
    project: Project | None
    roles: tuple[str, ...]
    methods: list[str]
    issued: datetime.datetime
    expires: datetime.datetime
    revoked: bool = False

    @property
    def admin(self) -> bool:
        return 'admin' in self.roles

    def valid(self) -> bool:
        return not self.revoked and now() < self.expires


@dataclasses.dataclass
class VolumeType:
    """A volume type; ``backend`` decides which driver's ways are shown.

    ``nfs`` refuses and fails some calls that ``rbd`` carries out, exactly as
    Cinder's drivers do; see ``content.py`` and ``transfer.py``.
    """

    id: str
    name: str
    backend: str
    description: str | None = None
    encryption: dict[str, Any] | None = None


@dataclasses.dataclass
class Volume:
    id: str
    project_id: str
    user_id: str
    size: int
    type: VolumeType
    name: str | None = None
    description: str | None = None
    zone: str = 'nova'
    status: str = 'creating'
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    #: shown among the metadata of an attached volume
    admin_metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    image_metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    bootable: bool = False
    snapshot_id: str | None = None
    source_volid: str | None = None
    attachments: list[dict[str, Any]] = dataclasses.field(
        default_factory=list)
    created: datetime.datetime = dataclasses.field(default_factory=now)
    updated: datetime.datetime | None = None
    #: how often a deletion is still refused or fails (faults)
    delete_fails: str | None = None

    @property
    def encrypted(self) -> bool:
        return self.type.encryption is not None

    def touch(self) -> None:
        self.updated = now()


@dataclasses.dataclass
class Snapshot:
    id: str
    project_id: str
    user_id: str
    volume_id: str
    size: int
    name: str | None = None
    description: str | None = None
    status: str = 'creating'
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    image_metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    bootable: bool = False
    created: datetime.datetime = dataclasses.field(default_factory=now)
    updated: datetime.datetime | None = None

    def touch(self) -> None:
        self.updated = now()


@dataclasses.dataclass
class Image:
    id: str
    owner: str
    name: str | None = None
    status: str = 'queued'
    disk_format: str | None = None
    container_format: str | None = None
    visibility: str = 'shared'
    protected: bool = False
    hidden: bool = False
    min_disk: int = 0
    min_ram: int = 0
    size: int | None = None
    virtual_size: int | None = None
    checksum: str | None = None
    os_hash_value: str | None = None
    tags: list[str] = dataclasses.field(default_factory=list)
    properties: dict[str, str] = dataclasses.field(default_factory=dict)
    created: datetime.datetime = dataclasses.field(default_factory=now)
    updated: datetime.datetime = dataclasses.field(default_factory=now)

    def touch(self) -> None:
        self.updated = now()


@dataclasses.dataclass
class Quota:
    """Limits of one project; -1 is none. Gigabytes count snapshots too."""

    volumes: int = 100
    snapshots: int = 100
    gigabytes: int = 2000
    per_volume_gigabytes: int = -1
    backups: int = 200
    backup_gigabytes: int = 2000


class State:
    """All records of one cloud. Hold :attr:`lock` to read and change."""

    def __init__(self, password: str, token_life: float) -> None:
        self.lock = threading.RLock()
        #: notified at each change of a status
        self.changed = threading.Condition(self.lock)
        self.token_life = token_life
        self.projects = {
            p.name: p for p in (
                Project(uuid.uuid4().hex, 'demo'),
                Project(uuid.uuid4().hex, 'other'),
                Project(uuid.uuid4().hex, 'admin'))}
        member = ('reader', 'member')
        self.users = {}
        for name, roles in (('demo', {'demo': member}),
                            ('other', {'other': member}),
                            ('admin', {'admin': ('admin', 'reader', 'member'),
                                       'demo': ('admin',)})):
            self.users[name] = User(
                uuid.uuid4().hex, name, password,
                {self.projects[p].id: r for p, r in roles.items()})
        self.app_credentials: dict[str, AppCredential] = {}
        self.tokens: dict[str, Token] = {}
        self.types = self._types()
        self.default_type = 'nfs'
        self.volumes: dict[str, Volume] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self.images: dict[str, Image] = {}
        self.messages: list[dict[str, Any]] = []
        self.quotas: dict[str, Quota] = {}

    @staticmethod
    def _types() -> dict[str, VolumeType]:
        luks = {'provider': 'luks', 'cipher': 'aes-xts-plain64',
                'key_size': 256, 'control_location': 'front-end'}
        types = (VolumeType(new_id(), 'encrypted', 'nfs', None, luks),
                 VolumeType(new_id(), 'rbd', 'rbd'),
                 VolumeType(new_id(), 'nfs', 'nfs'),
                 VolumeType(new_id(), '__DEFAULT__', 'nfs',
                            'Default Volume Type'))
        return {t.name: t for t in types}

    def quota(self, project_id: str) -> Quota:
        return self.quotas.setdefault(project_id, Quota())

    def set_status(self, thing: Volume | Snapshot | Image,
                   status: str) -> None:
        """Change a status and wake those who wait for a change."""
        with self.changed:
            thing.status = status
            thing.touch()
            self.changed.notify_all()

    def used(self, project_id: str) -> dict[str, int]:
        """What a project uses: volumes, snapshots, gigabytes."""
        with self.lock:
            volumes = [v for v in self.volumes.values()
                       if v.project_id == project_id]
            snapshots = [s for s in self.snapshots.values()
                         if s.project_id == project_id]
        return {'volumes': len(volumes), 'snapshots': len(snapshots),
                'gigabytes': sum(x.size for x in volumes)
                + sum(s.size for s in snapshots)}
