"""The demo: its disk, and that it sees when something is wrong."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import zlib

import pytest

from bakflow.cmd import demo


def test_the_disk_is_a_believable_mix(tmp_path):
    path = tmp_path / 'disk'
    with open(path, 'w+b') as out:
        demo.fill(out)
        os.truncate(path, demo.GIB)
        # sparse: what is empty takes no room
        assert os.stat(path).st_blocks * 512 < 0.7 * demo.GIB
        kinds = {'zeros': 0, 'files': 0, 'random': 0}
        for at in range(0, demo.GIB, 16 * demo.MIB):
            out.seek(at)
            block = out.read(demo.MIB)
            packed = len(zlib.compress(block, 1)) / len(block)
            kinds['zeros' if packed < 0.01 else
                  'files' if packed < 0.9 else 'random'] += 1
    assert kinds['files'] / 64 == pytest.approx(0.40, abs=0.03)
    assert kinds['random'] / 64 == pytest.approx(0.25, abs=0.03)
    assert kinds['zeros'] / 64 == pytest.approx(0.35, abs=0.03)


def test_the_disk_is_always_the_same():
    class First(io.BytesIO):
        def write(self, data):
            if self.tell() > 3 * demo.MIB:
                raise EOFError
            return super().write(data)
    seen = []
    for _ in range(2):
        out = First()
        with pytest.raises(EOFError):
            demo.fill(out)
        seen.append(out.getvalue())
    assert seen[0] == seen[1]


def test_the_change_is_one_percent(tmp_path):
    path = tmp_path / 'disk'
    path.write_bytes(bytes(200 * demo.MIB))
    told = demo.change(str(path))
    assert told == 2 * demo.MIB
    data = path.read_bytes()
    assert len(data) == 200 * demo.MIB
    pages = sum(any(data[i:i + 4096])
                for i in range(0, len(data), 4096))
    # pieces may fall on each other
    assert 0.7 * told <= pages * 4096 <= told


def test_the_whole_story(tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'bakflow.cmd.demo'], timeout=280,
        capture_output=True, text=True, check=False,
        env={**os.environ, 'TMPDIR': str(tmp_path)})
    assert done.returncode == 0, (done.stdout, done.stderr)
    told = re.findall(r'SHA-256 of web-disk(?:-back)? +([0-9a-f]{64})',
                      done.stdout)
    assert len(told) == 2
    assert told[0] == told[1]
    assert done.stdout.splitlines()[-1].strip().startswith('OK in ')
    assert '\x1b' not in done.stdout
    assert os.listdir(tmp_path) == []


class FakeStage:
    def tell(self, words):
        pass

    def say(self, words, good=None):
        pass


@pytest.fixture
def cloud(cloud):
    cloud.make_volume('demo', 'web-disk', 1, lambda f: f.write(b'a' * 9999),
                      metadata={'role': 'web'})
    return cloud


def test_a_wrong_byte_is_seen(cloud):
    source = next(iter(cloud.inventory()['volumes']))
    wanted = cloud.volume_bytes_sha256(source)
    with pytest.raises(demo.Failed, match='there are 0 volumes'):
        demo._compare(cloud, FakeStage(), wanted, source)
    back = cloud.make_volume('demo', 'web-disk-back', 1,
                             lambda f: f.write(b'a' * 9999),
                             metadata={'role': 'web'})
    demo._compare(cloud, FakeStage(), wanted, source)
    cloud.volume(back).metadata['role'] = 'db'
    with pytest.raises(demo.Failed, match='metadata'):
        demo._compare(cloud, FakeStage(), wanted, source)
    with open(cloud.volume_path(back), 'r+b') as f:
        f.seek(5)
        f.write(b'b')
    with pytest.raises(demo.Failed, match='differs'):
        demo._compare(cloud, FakeStage(), wanted, source)


def test_a_leftover_is_seen(cloud):
    before = cloud.inventory()
    demo._nothing_left(cloud, before)
    cloud.make_volume('demo', 'web-disk-back', 1)
    demo._nothing_left(cloud, before)
    cloud.make_volume('demo', 'bakflow-tmp', 1)
    with pytest.raises(demo.Failed, match='bakflow-tmp'):
        demo._nothing_left(cloud, before)
