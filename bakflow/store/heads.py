"""Heads: the commit points. A backup is there exactly when a head is."""

from __future__ import annotations

import blake3

from bakflow import errors
from bakflow.store import layout, sealing
from bakflow.store.backends.base import ObjectMissing
from bakflow.store.model import Head, HeadDisk
from bakflow.store.space import HEAD, Space


def content_digest(disks: list[HeadDisk]) -> str:
    """One digest for the content of all disks."""
    whole = b''.join(disk.size.to_bytes(8, 'little') + disk.chain
                     for disk in disks)
    return blake3.blake3(whole).hexdigest()


def parse_head(body: bytes, name: str) -> Head:
    """A head from its body.

    :raises StoreCorrupt: it makes no sense.
    """
    return Head.from_json(layout.load_json(body, name), name)


def read_head(space: Space, name: str) -> Head:
    """Read and open a head.

    :raises StoreCorrupt: missing or damaged, or its disks do not fit.
    """
    head = parse_head(space.get(HEAD, name), name)
    for disk in head.disks:
        if len(disk.pages) != -(-disk.size // space.params.page):
            raise sealing.corrupt(name, 'a disk has too few or many pages')
    if head.digest != content_digest(list(head.disks)):
        raise sealing.corrupt(name, 'its digest is another')
    return head


def try_head(space: Space, backup: str, session: str) -> Head | None:
    """The head that a session put; None when it is not there to be read."""
    name = layout.head_name(space.name, backup, session)
    try:
        space.backend.stat(name)
        return read_head(space, name)
    except (ObjectMissing, errors.StoreCorrupt):
        return None


def list_heads(space: Space, backup: str | None = None) -> dict[
        str, list[str]]:
    """Sessions of the heads that are listed, by backup, newest first."""
    found: dict[str, list[str]] = {}
    part = 'b/' if backup is None else f'b/{backup}/'
    for item in space.list(part):
        parts = item.name.split('/')
        if len(parts) == 5 and layout.is_session(parts[4]):
            found.setdefault(parts[3], []).append(parts[4])
    for sessions in found.values():
        sessions.sort(key=layout.epoch_of, reverse=True)
    return found


def whole(space: Space, head: Head) -> bool:
    """Whether every page and pack that a head needs is there."""
    listed: dict[str, set[int]] = {}
    try:
        for disk in head.disks:
            for page in filter(None, disk.pages):
                for session, packs in space.page(page).packs.items():
                    if session not in listed:
                        listed[session] = space.packs_of(session)
                    if not packs <= listed[session]:
                        return False
    except errors.StoreCorrupt:
        return False
    return True
