"""A store on a real folder, with sizes small enough for quick tests."""

import dataclasses
import random

from bakflow import errors
from bakflow.store import (
    FilesystemBackend,
    KeyEncryptionKey,
    Params,
    Store,
)
from bakflow.store.backends import ObjectExists, ObjectInfo, ObjectMissing

KIB, MIB = 1 << 10, 1 << 20
#: Pages of 8 MiB and packs of 2 MiB: all borders are met in small disks.
SMALL = Params(frame=256 * KIB, pack=2 * MIB, slots=200, page=8 * MIB)


class BytesSource:
    """A disk in memory that notes what was read of it."""

    def __init__(self, data, extents=None):
        self.data = data
        self.size = len(data)
        self.reads = []
        self._extents = extents

    def extents(self, start):
        if self._extents is not None:
            for offset, length, has_data in self._extents:
                end = offset + length
                if end > start:
                    begin = max(offset, start)
                    yield begin, end - begin, has_data
        elif start < self.size:
            yield start, self.size - start, True

    def readinto(self, offset, view):
        self.reads.append((offset, len(view)))
        view[:] = self.data[offset:offset + len(view)]

    def cancel(self):
        pass


@dataclasses.dataclass
class House:
    """A store in a folder, and the short way to a backup in it."""

    path: object
    kek: KeyEncryptionKey
    backend: object
    store: Store

    @property
    def domain(self):
        return self.store.domain('project-1')

    def backup(self, name, *disks, parent=None, document=None, flow=None):
        """Store disks (bytes) as a backup in one go."""
        session = self.domain.start(
            f'{flow or "flow-" + name}.1', backup_id=name,
            sizes=[len(d) for d in disks], parent=parent)
        for index, disk in enumerate(disks):
            session.write_disk(index, BytesSource(disk),
                               observe=lambda _: None)
        return session.finish(document or {})

    def content(self, name, disk=0):
        """All bytes of a disk of a backup."""
        reader = self.domain.reader(name)
        return reader.read(disk, 0, reader.head.sizes[disk])

    def collect(self, live=(), known=None):
        return self.store.collect(
            live_sessions=lambda: live, known_heads=known, temp_age=0)

    def objects(self):
        return sorted(o.name for o in self.backend.list(''))


def make_house(path, kek=None, params=SMALL, backend=None):
    kek = kek or KeyEncryptionKey(bytes(range(32)))
    backend = backend or FilesystemBackend(path)
    store = Store.create(backend, kek, deployment='dep-1', params=params)
    return House(path, kek, backend, store)


def mixed(size, seed=0, zeros=0.3):
    """Bytes of all kinds: random, repeating, text, zeros."""
    rng = random.Random(seed)
    out = bytearray()
    while len(out) < size:
        length = rng.choice([4, 16, 40, 100, 300]) * KIB
        kind = rng.random()
        if kind < zeros:
            out += bytes(length)
        elif kind < 0.7:
            out += rng.randbytes(length)
        else:
            out += (b'line %d of a file\n' % rng.randrange(9)) * (
                length // 17)
    return bytes(out[:size])


class Wrapped:
    """A backend that passes everything on; the base of the faulty ones."""

    def __init__(self, inner):
        self.inner = inner

    def put(self, name, data):
        return self.inner.put(name, data)

    def get(self, name, start=0, length=None):
        return self.inner.get(name, start, length)

    def readinto(self, name, start, view):
        return self.inner.readinto(name, start, view)

    def list(self, prefix):
        return self.inner.list(prefix)

    def stat(self, name):
        return self.inner.stat(name)

    def delete(self, name):
        return self.inner.delete(name)

    def sweep(self, age):
        return self.inner.sweep(age)

    def check(self):
        return self.inner.check()


class Small(Wrapped):
    """A place with room for so many bytes of packs."""

    def __init__(self, inner, room):
        super().__init__(inner)
        self.room = room

    def put(self, name, data):
        if '/p/' in name:
            if len(data) > self.room:
                raise errors.StoreFull('no space left')
            self.room -= len(data)
        super().put(name, data)


class Memory:
    """A backend that keeps its promises without a disk: many runs, quick."""

    def __init__(self):
        self.objects = {}

    def put(self, name, data):
        if self.objects.setdefault(name, data := bytes(data)) is not data:
            raise ObjectExists(name)

    def get(self, name, start=0, length=None):
        try:
            data = self.objects[name]
        except KeyError:
            raise ObjectMissing(name) from None
        if start < 0:
            start = max(0, len(data) + start)
        end = len(data) if length is None else start + length
        return data[start:end]

    def readinto(self, name, start, view):
        part = self.get(name, start, len(view))
        view[:len(part)] = part
        return len(part)

    def list(self, prefix):
        return iter([ObjectInfo(name, len(data))
                     for name, data in sorted(self.objects.items())
                     if name.startswith(prefix)])

    def stat(self, name):
        return ObjectInfo(name, len(self.get(name)))

    def delete(self, name):
        self.objects.pop(name, None)

    def sweep(self, age):
        return 0

    def check(self):
        return {}
