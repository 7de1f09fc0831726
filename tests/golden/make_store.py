#!/usr/bin/env python3
"""Make a golden store: ``make_store.py FOLDER``.

Run once for each version of the format; what it made is committed and must
be read by every later version, so it is never made again. The content is
described in ``expected.json`` beside the store.
"""

import hashlib
import json
import random
import sys
import time
from pathlib import Path

from bakflow import errors
from bakflow.store import (
    FilesystemBackend,
    Params,
    Store,
    load_key_file,
)

KIB, MIB = 1 << 10, 1 << 20
PARAMS = Params(frame=64 * KIB, pack=128 * KIB, slots=64, page=4 * MIB)


class Disk:
    """A disk in memory."""

    def __init__(self, data):
        self.data, self.size = data, len(data)

    def extents(self, start):
        yield start, self.size - start, True

    def readinto(self, offset, view):
        view[:] = self.data[offset:offset + len(view)]

    def cancel(self):
        pass


def disks():
    """Name, parent, project, disks of each backup."""
    rng = random.Random(1)
    first = bytearray(9 * MIB + 1234)
    for number in range(60):
        at = number * 150 * KIB
        first[at:at + 9000] = b'line %d of a file\n' % number * 500
    first[5 * MIB:5 * MIB + 60 * KIB] = rng.randbytes(60 * KIB)
    first[-1234:] = rng.randbytes(1234)
    second = first + bytes(3 * MIB)
    second[100 * KIB:110 * KIB] = rng.randbytes(10 * KIB)
    second[5 * MIB:5 * MIB + 16 * KIB] = bytes(16 * KIB)
    second[-5000:] = b'the end\n' * 625
    shrunk = second[:6 * MIB]
    yield 'full', None, 'project-1', [first]
    yield 'grown', 'full', 'project-1', [second]
    yield 'shrunk', 'grown', 'project-1', [shrunk]
    yield 'instance', None, 'project-2', [
        first[:MIB], bytes(5 * MIB), b'', rng.randbytes(20 * KIB)]


def interrupt(domain, expected):
    """Leave a session in the middle, for a successor to take over."""
    data = random.Random(2).randbytes(40 * KIB) + bytes(16 * MIB) + b'end'
    session = domain.start('flow-open.1', backup_id='open',
                           sizes=[len(data)], parent='full')

    def observe(progress):
        if progress.position >= 4 * MIB:
            raise errors.Interrupted('stop')

    class Slow(Disk):
        def readinto(self, offset, view):
            if offset >= 8 * MIB:
                time.sleep(1)
            super().readinto(offset, view)

    try:
        session.write_disk(0, Slow(data), observe=observe)
    except errors.Interrupted:
        expected['open'] = {
            'project': 'project-1', 'backup': 'open', 'size': len(data),
            'session': 'flow-open.1',
            'sha256': hashlib.sha256(data).hexdigest()}


def main(folder):
    folder = Path(folder)
    key = load_key_file(folder / 'key', create=True)
    store = Store.create(FilesystemBackend(folder / 'store'), key,
                         deployment='golden', params=PARAMS)
    expected = {'store': store.id, 'deployment': 'golden', 'backups': []}
    for name, parent, project, contents in disks():
        session = store.domain(project).start(
            f'flow-{name}.7', backup_id=name, parent=parent,
            sizes=[len(data) for data in contents])
        for index, data in enumerate(contents):
            session.write_disk(index, Disk(bytes(data)),
                               observe=lambda _: None)
        document = {'name': f'volume {name} \u00e4\u20ac', 'tags': [1, None]}
        head = session.finish(document)
        expected['backups'].append({
            'project': project, 'backup': name, 'parent': parent,
            'document': document, 'digest': head.digest,
            'sha256': [hashlib.sha256(data).hexdigest()
                       for data in contents],
            'sizes': list(head.sizes)})
    interrupt(store.domain('project-1'), expected)
    store.domain('project-1').delete('full')     # its packs stay
    expected['backups'].pop(0)
    (folder / 'expected.json').write_text(
        json.dumps(expected, indent=1, sort_keys=True) + '\n')


if __name__ == '__main__':
    main(sys.argv[1])
