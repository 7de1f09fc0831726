"""Stores of every version of the format are read by this one."""

import hashlib
import json
import random
import shutil
import sys
from pathlib import Path

import pytest

from bakflow.store import FilesystemBackend, Store, load_key_file

HERE = Path(__file__).parent
FORMATS = sorted(p.name for p in HERE.glob('format-*'))
KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture(params=FORMATS)
def golden(request, tmp_path):
    """A copy of a golden store, opened, and what must be in it."""
    shutil.copytree(HERE / request.param, tmp_path / 'g')
    (tmp_path / 'g' / 'key').chmod(0o600)       # git does not keep modes
    key = load_key_file(tmp_path / 'g' / 'key')
    store = Store.open(FilesystemBackend(tmp_path / 'g' / 'store'), key,
                       deployment='golden')
    return store, json.loads((tmp_path / 'g' / 'expected.json').read_text())


class Disk:
    """A disk in memory that notes where it was read."""

    def __init__(self, data):
        self.data, self.size, self.reads = data, len(data), []

    def extents(self, start):
        yield start, self.size - start, True

    def readinto(self, offset, view):
        self.reads.append(offset)
        view[:] = self.data[offset:offset + len(view)]

    def cancel(self):
        pass


def test_there_is_one():
    assert FORMATS


def test_all_backups_are_listed_and_read(golden):
    store, expected = golden
    assert store.id == expected['store']
    found = {(d.project_id, b) for d in store.domains() for b in d.heads()}
    assert found == {(b['project'], b['backup'])
                     for b in expected['backups']}
    for backup in expected['backups']:
        domain = store.domain(backup['project'])
        head = domain.head(backup['backup'])
        assert head.document == backup['document']
        assert head.parent == backup['parent']
        assert head.digest == backup['digest']
        assert list(head.sizes) == backup['sizes']
        reader = domain.reader(backup['backup'])
        for index, digest in enumerate(backup['sha256']):
            data = reader.read(index, 0, head.sizes[index])
            assert hashlib.sha256(data).hexdigest() == digest
        assert not domain.verify(backup['backup']).damages


def test_a_backup_goes_on_from_it(golden):
    """Unchanged bytes are found: ids are made as they were."""
    store, expected = golden
    backup = expected['backups'][0]
    domain = store.domain(backup['project'])
    old = domain.reader(backup['backup'])
    data = old.read(0, 0, backup['sizes'][0])
    session = domain.start('new.1', backup_id='new', sizes=[len(data)],
                           parent=backup['backup'])
    session.write_disk(0, Disk(data), observe=lambda _: None)
    head = session.finish({})
    assert head.new_bytes == 0
    assert head.digest == backup['digest']
    assert head.disks[0].pages == old.head.disks[0].pages


def test_an_interrupted_session_is_taken_over(golden):
    store, expected = golden
    was = expected['open']
    domain = store.domain(was['project'])
    assert store.collect(
        live_sessions=lambda: [was['session']]).removed == 0
    data = random.Random(2).randbytes(40 * KIB) + bytes(16 * MIB) + b'end'
    session = domain.start('flow-open.2', backup_id=was['backup'],
                           sizes=[was['size']], adopt=[was['session']])
    disk = Disk(data)
    result = session.write_disk(0, disk, observe=lambda _: None)
    session.finish({})
    assert result.resumed_at > 0
    assert min(disk.reads) == result.resumed_at
    assert domain.reader(was['backup']).read(0, 0, was['size']) == data


def test_it_can_be_emptied(golden):
    store, _ = golden
    for domain in store.domains():
        for backup in domain.heads():
            domain.delete(backup)
    store.collect(live_sessions=lambda: [])
    assert set(store.usage()) == {'total', 'keys'}


def test_the_document_is_enough():
    """A reader written from the document alone restores the same bytes."""
    sys.path.insert(0, str(HERE))
    try:
        import second_reader
    finally:
        sys.path.remove(str(HERE))
    folder = HERE / 'format-1'
    expected = json.loads((folder / 'expected.json').read_text())
    marker, domains = second_reader.open_store(folder / 'store',
                                               folder / 'key')
    assert marker['store'] == expected['store']
    found = {}
    for domain in domains:
        for head in domain.heads():
            found[domain.project, head['backup']] = [
                hashlib.sha256(domain.disk(disk)).hexdigest()
                for disk in head['disks']]
    assert found == {(b['project'], b['backup']): b['sha256']
                     for b in expected['backups']}
