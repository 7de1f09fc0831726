"""Plain data that the store takes and gives."""

from __future__ import annotations

import dataclasses
from typing import Any

from bakflow.store import layout, sealing

_NO_CHAIN = bytes(32)


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a job is; all in bytes.

    ``position`` is what of ``total`` is done; ``durable`` what would not be
    done again after a crash. Of what is done, ``read`` was read from the
    source, ``skipped`` was zeros or holes, ``new`` was in no backup before
    and became ``stored`` bytes in the store.
    """

    total: int
    position: int = 0
    read: int = 0
    skipped: int = 0
    new: int = 0
    stored: int = 0
    durable: int = 0


@dataclasses.dataclass(frozen=True)
class DiskResult:
    """A disk that is stored; bytes as in :class:`Progress`.

    ``resumed_at`` is where an earlier session had come to, ``now_read``
    what this session itself read.
    """

    index: int
    size: int
    read: int
    skipped: int
    new: int
    stored: int
    resumed_at: int
    now_read: int


@dataclasses.dataclass
class DiskState:
    """A disk as far as it is durable: what a checkpoint says of it."""

    size: int
    position: int = 0
    pages: list[str | None] = dataclasses.field(default_factory=list)
    partial: bytes = b''
    chain: bytes = _NO_CHAIN
    read: int = 0
    skipped: int = 0
    new: int = 0
    stored: int = 0

    @property
    def complete(self) -> bool:
        """Whether the whole disk is durable."""
        return self.position >= self.size

    def to_json(self) -> dict[str, Any]:
        """All but the partial page."""
        data = dataclasses.asdict(self)
        data['partial'] = len(self.partial)
        data['chain'] = self.chain.hex()
        return data

    @classmethod
    def from_json(cls, data: Any, partial: bytes, name: str) -> DiskState:
        """What :meth:`to_json` said.

        :raises StoreCorrupt: it says something else.
        """
        numbers = {}
        try:
            for key in ('size', 'position', 'read', 'skipped', 'new',
                        'stored'):
                numbers[key] = natural(data[key])
            state = cls(**numbers, pages=page_list(data['pages']),
                        partial=partial, chain=bytes.fromhex(data['chain']))
        except (KeyError, TypeError, ValueError, AttributeError,
                OverflowError) as exc:
            raise sealing.corrupt(name, f'a disk is not told: {exc}') from exc
        if (state.position > state.size or len(state.chain) != 32
                or (state.position % layout.SEGMENT
                    and state.position != state.size)):
            raise sealing.corrupt(name, 'a disk makes no sense')
        return state


@dataclasses.dataclass(frozen=True)
class HeadDisk:
    """One disk in a head: its size in bytes, its pages, its digest."""

    size: int
    pages: tuple[str | None, ...]
    chain: bytes


@dataclasses.dataclass(frozen=True)
class Head:
    """What makes a backup: written last, and it is whole.

    ``created`` is seconds since the epoch. ``document`` is the writer's own.
    ``digest`` is of the content of all disks: equal digests within a domain
    mean equal disks. ``logical_bytes`` is the size of all disks; the other
    numbers are as in :class:`Progress`.
    """

    backup_id: str
    created: float
    parent: str | None
    session: str
    document: dict[str, Any]
    disks: tuple[HeadDisk, ...]
    read_bytes: int
    skipped_bytes: int
    new_bytes: int
    stored_bytes: int
    digest: str

    @property
    def sizes(self) -> tuple[int, ...]:
        """Size in bytes of each disk."""
        return tuple(disk.size for disk in self.disks)

    @property
    def logical_bytes(self) -> int:
        """What all disks hold together, empty or not."""
        return sum(self.sizes)

    def to_json(self) -> dict[str, Any]:
        """The head as it is stored."""
        return {
            'backup': self.backup_id, 'created': self.created,
            'parent': self.parent, 'session': self.session,
            'document': self.document, 'digest': self.digest,
            'read': self.read_bytes, 'skipped': self.skipped_bytes,
            'new': self.new_bytes, 'stored': self.stored_bytes,
            'disks': [disk_json(disk) for disk in self.disks]}

    @classmethod
    def from_json(cls, data: dict[str, Any], name: str) -> Head:
        """What :meth:`to_json` said.

        :raises StoreCorrupt: it says something else.
        """
        try:
            head = cls(
                backup_id=str(data['backup']),
                created=float(data['created']),
                parent=optional(data['parent']),
                session=str(data['session']), document=data['document'],
                disks=tuple(disk_from(d) for d in data['disks']),
                read_bytes=natural(data['read']),
                skipped_bytes=natural(data['skipped']),
                new_bytes=natural(data['new']),
                stored_bytes=natural(data['stored']),
                digest=str(data['digest']))
        except (KeyError, TypeError, ValueError, AttributeError,
                OverflowError) as exc:
            raise sealing.corrupt(name, f'it is no head: {exc}') from exc
        if (not isinstance(head.document, dict)
                or name.split('/')[-2:] != [head.backup_id, head.session]):
            raise sealing.corrupt(name, 'it is the head of something else')
        return head


def natural(value: Any) -> int:
    """A number of at least 0, below 2**63.

    :raises ValueError: it is none.
    """
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f'{value!r} is no number of bytes')
    return value


def optional(value: Any) -> str | None:
    """A string or nothing.

    :raises ValueError: it is neither.
    """
    if value is not None and not isinstance(value, str):
        raise ValueError(f'{value!r} is no name')
    return value


def page_list(value: Any) -> list[str | None]:
    """Names of pages; None is a page of zeros.

    :raises ValueError: a name is none.
    """
    out: list[str | None] = []
    for page in value:
        if page is not None:
            session, _, digest = page.partition('/')
            if (not layout.is_session(session) or len(digest) != 32
                    or not digest.isalnum()):
                raise ValueError(f'{page!r} is no page')
        out.append(page)
    return out


def disk_json(disk: HeadDisk) -> dict[str, Any]:
    """A head's disk as it is stored."""
    return {'size': disk.size, 'pages': list(disk.pages),
            'chain': disk.chain.hex()}


def disk_from(data: Any) -> HeadDisk:
    """What :func:`disk_json` said.

    :raises ValueError: and KeyError, TypeError: it says something else.
    """
    disk = HeadDisk(natural(data['size']), tuple(page_list(data['pages'])),
                    bytes.fromhex(data['chain']))
    if len(disk.chain) != 32:
        raise ValueError('a digest has another length')
    return disk
