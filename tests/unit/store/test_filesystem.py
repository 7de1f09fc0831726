"""The folder backend: the promises of backends/base.py, one by one."""

import errno
import fcntl
import os
import random
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bakflow import errors
from bakflow.store import FilesystemBackend
from bakflow.store.backends import Backend, ObjectExists, ObjectMissing

MIB = 1 << 20
ROOT = Path(__file__).parents[3]


@pytest.fixture
def backend(tmp_path):
    return FilesystemBackend(tmp_path / 'root')


def incoming(backend):
    folder = backend.root / 'incoming'
    return os.listdir(folder) if folder.exists() else []


def test_it_is_a_backend(backend):
    assert isinstance(backend, Backend)


@pytest.mark.parametrize('direct', [True, False])
@pytest.mark.parametrize('size', [0, 1, 4096, MIB - 1, MIB, MIB + 1,
                                  3 * MIB + 4095])
def test_put_and_get(tmp_path, size, direct):
    backend = FilesystemBackend(tmp_path / 'r', direct=direct)
    data = random.Random(size).randbytes(size)
    backend.put('a/b/c', data)
    assert backend.get('a/b/c') == data
    assert backend.stat('a/b/c') == ('a/b/c', size)
    assert backend.get('a/b/c', 5, 7) == data[5:12]
    assert backend.get('a/b/c', -7) == data[-7:]
    assert backend.get('a/b/c', -size - 9) == data
    assert backend.get('a/b/c', size) == b''
    view = bytearray(100)
    count = backend.readinto('a/b/c', 3, memoryview(view))
    assert view[:count] == data[3:103]
    assert not incoming(backend)


def test_buffers_of_any_kind(backend):
    from bakflow.store import buffers
    memory = buffers.make(2 * MIB)
    memory[:] = random.Random(1).randbytes(2 * MIB)
    for number, data in enumerate([
            memoryview(memory)[:MIB + 77], memoryview(memory)[13:MIB + 77],
            bytearray(b'x' * 2 * MIB), b'y']):
        backend.put(f'o{number}', data)
        assert backend.get(f'o{number}') == bytes(data)


def test_put_onto_a_name_that_is_taken(backend):
    backend.put('x', b'one')
    with pytest.raises(ObjectExists):
        backend.put('x', b'two')
    assert backend.get('x') == b'one'
    assert not incoming(backend)


def test_missing_objects(backend):
    for call in (lambda: backend.get('x'), lambda: backend.stat('x'),
                 lambda: backend.readinto('x', 0, memoryview(bytearray(1))),
                 lambda: backend.get('x/y')):
        with pytest.raises(ObjectMissing):
            call()
    backend.delete('x')
    backend.delete('x/y')
    assert list(backend.list('')) == []


def test_list(backend):
    names = ['a/1', 'a/2', 'ab/1', 'b', 'b-c/d/e']
    for name in names:
        backend.put(name, name.encode())
    assert [o.name for o in backend.list('')] == names
    assert [o.name for o in backend.list('a')] == names[:3]
    assert [o.name for o in backend.list('a/')] == names[:2]
    assert [o.name for o in backend.list('b-c/d/')] == ['b-c/d/e']
    assert list(backend.list('c/')) == []
    assert list(backend.list('b')) == [('b', 1), ('b-c/d/e', 7)]


def test_delete_leaves_no_empty_folders(backend):
    backend.put('a/b/c', b'')
    backend.put('a/d', b'')
    backend.delete('a/b/c')
    assert not (backend.root / 'a' / 'b').exists()
    assert backend.get('a/d') == b''


def test_closed_to_others(backend):
    os.umask(0)
    try:
        backend.put('a/b', b'x' * 2 * MIB)
    finally:
        os.umask(0o022)
    for folder, _, files in os.walk(backend.root):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        for file in files:
            mode = os.stat(os.path.join(folder, file)).st_mode
            assert stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize('name', [
    '', '/etc/passwd', '../x', 'a/../b', 'a//b', 'a/', '.hidden', 'a\0b',
    'a b', 'a/./b'])
def test_names_stay_inside(backend, name):
    for call in (lambda: backend.put(name, b''), lambda: backend.get(name),
                 lambda: backend.delete(name), lambda: backend.stat(name)):
        with pytest.raises(errors.InvalidRequest):
            call()


@pytest.mark.parametrize(('code', 'error'), [
    (errno.ENOSPC, errors.StoreFull), (errno.EDQUOT, errors.StoreFull),
    (errno.EROFS, errors.StoreNotWritable),
    (errno.EACCES, errors.StoreNotWritable),
    (errno.EIO, errors.StoreUnavailable),
    (errno.ESTALE, errors.StoreUnavailable)])
@pytest.mark.parametrize('call', ['open', 'write', 'fsync', 'link'])
def test_what_the_system_says(backend, monkeypatch, call, code, error):
    backend.put('before', b'')

    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(error) as caught:
            backend.put('x', b'data')
    assert caught.value.hint
    assert os.strerror(code) in str(caught.value)
    with pytest.raises(ObjectMissing):
        backend.get('x')
    assert not incoming(backend)


def test_short_writes_are_continued(backend, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, 'write',
                        lambda fd, data: real(fd, data[:1000]))
    data = random.Random(2).randbytes(MIB + 10)
    backend.put('x', data)
    assert backend.get('x') == data


def test_without_hard_links(backend, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EOPNOTSUPP, 'no links')

    monkeypatch.setattr(os, 'link', refuse)
    backend.put('x', b'1')
    assert backend.get('x') == b'1'
    with pytest.raises(ObjectExists):
        backend.put('x', b'2')
    assert not incoming(backend)


def test_put_while_others_remove_the_folder(backend):
    """Folders that become empty are removed, by others, at any time."""
    stop = threading.Event()
    failures = []

    def churn(name):
        try:
            while not stop.is_set():
                backend.put(f'a/b/{name}', b'x')
                backend.delete(f'a/b/{name}')
        except errors.StoreError as exc:
            failures.append(exc)

    threads = [threading.Thread(target=churn, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_one_of_many_writers_wins(backend):
    won = []

    def put(number):
        try:
            backend.put('x', b'%d' % number * 1000)
            won.append(number)
        except ObjectExists:
            pass

    threads = [threading.Thread(target=put, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert backend.get('x') == b'%d' % won[0] * 1000


def test_sweep_takes_only_what_is_dead(backend):
    backend.put('x', b'')
    folder = backend.root / 'incoming'
    (folder / 'dead').write_bytes(b'1')
    (folder / 'held').write_bytes(b'1')
    with open(folder / 'held') as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert backend.sweep(3600) == 0
        assert backend.sweep(0) == 1
        assert incoming(backend) == ['held']
    assert backend.sweep(0) == 1


def test_writer_whose_file_is_swept_tries_again(backend, monkeypatch):
    real = os.link
    calls = []

    def link(source, target):
        calls.append(source)
        if len(calls) == 1:
            os.unlink(source)
        real(source, target)

    monkeypatch.setattr(os, 'link', link)
    backend.put('x', b'data')
    assert backend.get('x') == b'data'
    assert len(calls) == 2


def test_check(backend):
    facts = backend.check()
    assert int(facts['free bytes']) > 0
    assert list(backend.list('')) == []


def test_check_tells_what_is_wrong(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    with pytest.raises(errors.StoreError, match='file'):
        FilesystemBackend(tmp_path / 'file').check()
    backend = FilesystemBackend(tmp_path / 'r')
    monkeypatch.setattr(backend, 'list', lambda prefix: iter(()))
    with pytest.raises(errors.StoreError, match='list'):
        backend.check()


def test_all_is_synced_before_it_counts(tmp_path):
    """The order of system calls, as the kernel saw them."""
    if not os.path.exists('/usr/bin/strace'):
        pytest.skip('strace is not installed')
    code = ('from bakflow.store import FilesystemBackend as F\n'
            f'F({str(tmp_path / "r")!r}).put("a/b", b"x" * 100)')
    out = subprocess.run(
        ['/usr/bin/strace', '-f', '-e',
         'trace=fsync,link,linkat,mkdir,write,openat', sys.executable,
         '-c', code], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)}, check=True).stderr
    lines = [line for line in out.splitlines() if str(tmp_path) in line
             or 'fsync' in line]
    link = next(n for n, line in enumerate(lines) if 'link' in line)
    assert any('fsync' in line for line in lines[:link])
    assert sum('fsync' in line for line in lines[link:]) >= 2
