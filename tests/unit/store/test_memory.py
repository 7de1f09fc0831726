"""The memory bound, measured in a process of its own."""

import subprocess
import sys
import textwrap
from pathlib import Path

HERE = Path(__file__).parent

CHILD = textwrap.dedent('''
    import os, sys
    sys.path[:0] = [{here!r}, {root!r}]
    from bakflow.store import *
    MIB, TIB = 1 << 20, 1 << 40

    def peak():
        with open('/proc/self/status') as file:
            for line in file:
                if line.startswith('VmHWM'):
                    return int(line.split()[1]) // 1024

    class Sparse:
        """1 TiB; every 8 GiB some MiB of data, every 256 MiB a chunk."""
        size = TIB
        block = os.urandom(8 * MIB)

        def __init__(self, version):
            self.version = version

        def extents(self, start):
            at = start
            while at < self.size:
                end = at // (256 * MIB) * (256 * MIB) + 256 * MIB
                big = at // (256 * MIB) % 32 == 0
                data = at // (256 * MIB) * (256 * MIB) + (
                    5 * MIB if big else 16384)
                if at < data:
                    yield at, data - at, True
                    at = data
                yield at, end - at, False
                at = end

        def readinto(self, offset, view):
            shift = offset // 16384 % 977
            view[:] = self.block[shift:shift + len(view)]
            view[:8] = (offset + (self.version << 50 if offset % 7 == 0
                                  else 0)).to_bytes(8, 'little')

        def cancel(self):
            pass

    store = Store.create(FilesystemBackend({path!r}),
                         KeyEncryptionKey(bytes(32)), deployment='d')
    domain = store.domain('p')
    before = peak()
    digests = []
    for version, parent in [(1, None), (1, 'b0'), (2, 'b1')]:
        name = f'b{{len(digests)}}'
        session = domain.start(f'{{name}}.1', backup_id=name, sizes=[TIB],
                               parent=parent)
        session.write_disk(0, Sparse(version), observe=lambda _: None)
        digests.append(session.finish({{}}))
    wrote = peak() - before
    assert digests[0].digest == digests[1].digest != digests[2].digest
    assert digests[1].stored_bytes == 0
    assert 0 < digests[2].new_bytes < digests[0].new_bytes
    report = domain.verify('b2')
    assert not report.damages
    print(wrote, peak() - before)
''')


def test_one_upload_and_one_read_of_a_tebibyte(tmp_path):
    code = CHILD.format(here=str(HERE), root=str(HERE.parents[2]),
                        path=str(tmp_path / 's'))
    done = subprocess.run([sys.executable, '-c', code], check=True,
                          capture_output=True, text=True, timeout=120)
    wrote, both = map(int, done.stdout.split())
    print(wrote, both)
    assert wrote <= 256
    assert both <= 256


READ = textwrap.dedent('''
    import os, sys
    sys.path[:0] = [{here!r}, {root!r}]
    from storekit import *
    house = make_house({path!r})
    before = peak = 0
    def now(key):
        with open('/proc/self/status') as file:
            return next(int(line.split()[1]) // 1024 for line in file
                        if line.startswith(key))
    before = now('VmHWM')
    fd = os.open({out!r}, os.O_RDWR | os.O_CREAT, 0o600)
    house.domain.reader('b1').restore_file(0, fd)
    print(now('VmHWM') - before)
''')


def test_restoring(tmp_path):
    from storekit import MIB, Params, make_house, mixed
    house = make_house(tmp_path / 's', params=Params())
    data = mixed(100 * MIB, 1, zeros=0.1)
    house.backup('b1', data)
    code = READ.format(here=str(HERE), root=str(HERE.parents[2]),
                       path=str(tmp_path / 's'), out=str(tmp_path / 'out'))
    done = subprocess.run([sys.executable, '-c', code], check=True,
                          capture_output=True, text=True, timeout=120)
    print(done.stdout)
    assert int(done.stdout) <= 128
    assert (tmp_path / 'out').read_bytes() == data
