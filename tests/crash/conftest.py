"""``bakflow`` as processes that are killed, against a simulated cloud.

The cloud lives in the process of the tests. Each test has a state folder of
its own. By default the points that differ most are tried;
``BAKFLOW_CRASH_ALL=1`` tries every one, which takes several times as long.
"""

from __future__ import annotations

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import pytest

from bakflow.devcloud import DevCloud

MIB = 1 << 20
PATIENCE = 120
ALL = os.environ.get('BAKFLOW_CRASH_ALL') == '1'


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not ALL:
        terminalreporter.write_line(
            'tests/crash: ONLY SOME of the points to die at were tried; '
            'BAKFLOW_CRASH_ALL=1 tries all')


def points(usual: str, rest: str) -> list[str]:
    """The fault points to try, as far as the environment asks for them."""
    return [*usual.split(), *(rest.split() if ALL else ())]


class Ran:
    """What a command did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    def __repr__(self) -> str:
        return f'exit {self.code}\n{self.out[-2000:]}\n{self.err[-3000:]}'


class Zygote:
    """The process whose children are the commands."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'tests.crash.zygote'], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            cwd=pathlib.Path(__file__).parents[2])

    def ask(self, **request: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + '\n')
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Running:
    """A command that has been started."""

    def __init__(self, zygote: Zygote, pid: int, out: pathlib.Path,
                 err: pathlib.Path) -> None:
        self._zygote = zygote
        self.pid = pid
        self._out = out
        self._err = err

    def interrupt(self) -> None:
        """Ctrl-C."""
        os.kill(self.pid, signal.SIGINT)

    def wait(self) -> Ran:
        code = self._zygote.ask(wait=self.pid)
        return Ran(code, self._out.read_text(), self._err.read_text())


class House:
    """One installation of bakflow with its own state, and its cloud."""

    def __init__(self, folder: pathlib.Path, cloud: DevCloud,
                 clouds: pathlib.Path, source: str, zygote: Zygote) -> None:
        self.folder = folder
        self.cloud = cloud
        self.source = source
        self.state = folder / 'state'
        self._zygote = zygote
        self._count = 0
        self.config = folder / 'bakflow.conf'
        self.configure('qcow2')
        self.environment = {
            'PATH': os.environ['PATH'], 'HOME': str(folder),
            'OS_CLIENT_CONFIG_FILE': str(clouds), 'OS_CLOUD': 'devcloud'}

    def configure(self, image_format: str) -> None:
        """qcow2 is quicker: nothing of the empty space is read."""
        self.config.write_text(
            f'[DEFAULT]\nstate_path = {self.state}\n'
            f'[conductor]\nambiguity_grace = 1\npoll = 0.05\n'
            f'image_format = {image_format}\n')

    # -- commands ---------------------------------------------------------

    def start(self, *args: str, fault: str | None = None) -> Running:
        """Start a command.

        :param fault: the point where it dies.
        """
        self._count += 1
        out, err = (self.folder / f'{self._count}.{n}' for n in ('out',
                                                                 'err'))
        environment = dict(self.environment)
        if fault:
            environment['BAKFLOW_FAULT'] = fault
        return Running(self._zygote, self._zygote.ask(
            argv=['--config-file', str(self.config), *args],
            env=environment, out=str(out), err=str(err)), out, err)

    def run(self, *args: str, fault: str | None = None,
            code: int = 0) -> Ran:
        """A command, to its end."""
        ran = self.start(*args, fault=fault).wait()
        assert ran.code == code, f'{args} {fault}: {ran}'
        return ran

    def data(self, *args: str) -> Any:
        return self.run(*args, '-f', 'json').data

    def die(self, point: str, *args: str) -> None:
        """A command that is killed at a point."""
        self.run(*args, fault=point, code=-signal.SIGKILL)

    def die_in_backup(self, point: str) -> str:
        """A backup that is killed; its flow, which can be resumed."""
        self.die(point, 'backup', 'create', '--volume', 'source',
                 '--name', 'b')
        return self.stopped()

    def stopped(self) -> str:
        """The flow that can be resumed."""
        flows = [f for f in self.data('flow', 'list') if f['resumable']]
        assert len(flows) == 1, flows
        return str(flows[0]['id'])

    # -- what must be so at the end ---------------------------------------

    def only_source(self) -> None:
        """Nothing of ours is in the cloud."""
        found = self.cloud.inventory()
        assert found == {'volumes': {self.source: 'source (available)'},
                         'snapshots': {}, 'images': {}}

    def objects(self, kind: str) -> list[str]:
        """Objects of the store: b, s, p, m or k."""
        target = self.state / 'targets' / 'local'
        pattern = 'k/*/*' if kind == 'k' else f'd/*/{kind}/**/*'
        return [str(p) for p in target.glob(pattern) if p.is_file()]

    def clean(self) -> None:
        """Cloud, ledger and store agree."""
        self.run('audit')
        assert self.objects('s') == []

    def whole_backup(self) -> None:
        """Exactly one backup, and it holds the bytes of the source."""
        backups = self.data('backup', 'list')
        assert [b['status'] for b in backups] == ['available']
        assert len(self.objects('b')) == 1
        self.run('backup', 'verify', 'b')
        path = self.folder / 'restored'
        self.run('restore', 'create', 'b', '--to-file', str(path))
        assert same(path, self.cloud.volume_path(self.source))
        path.unlink()

    def no_backup(self) -> None:
        """None, and nothing of it."""
        backups = self.data('backup', 'list')
        assert [b['status'] for b in backups] == ['error']
        self.run('target', 'collect', 'local')
        for kind in 'bspm':
            assert self.objects(kind) == []


def same(one: str | os.PathLike[str], two: str | os.PathLike[str]) -> bool:
    """Whether two files have the same bytes; holes are not read."""
    with open(one, 'rb') as a, open(two, 'rb') as b:
        size = os.fstat(a.fileno()).st_size
        if size != os.fstat(b.fileno()).st_size:
            return False
        blocks = sorted(_blocks(a, size) | _blocks(b, size))
        assert blocks, 'the source has data'
        return all(os.pread(a.fileno(), MIB, i * MIB)
                   == os.pread(b.fileno(), MIB, i * MIB) for i in blocks)


def _blocks(file: BinaryIO, size: int) -> set[int]:
    """The MiB of a file that are not holes."""
    found: set[int] = set()
    at = 0
    while at < size:
        try:
            at = os.lseek(file.fileno(), at, os.SEEK_DATA)
        except OSError:     # ENXIO: no data behind
            break
        end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
        found.update(range(at // MIB, -(-end // MIB)))
        at = end
    return found


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for something to be so."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f'never came: {what}'
        time.sleep(0.02)
    return found


def fill(disk: BinaryIO) -> None:
    """24 MiB of data, all over the disk."""
    chance = random.Random(3)
    for place in range(24):
        disk.seek(place * 41 * MIB + 12288)
        disk.write(chance.randbytes(MIB - 8192))


@pytest.fixture(scope='package')
def zygote() -> Iterator[Zygote]:
    started = Zygote()
    yield started
    started.close()


@pytest.fixture(scope='module')
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCloud]:
    folder = tmp_path_factory.mktemp('cloud')
    with DevCloud(folder, delay=0.02, hashes=False) as running:
        yield running
    shutil.rmtree(folder)


@pytest.fixture(scope='module')
def source(cloud: DevCloud) -> str:
    return cloud.make_volume('demo', 'source', 1, fill,
                             description='the one')


@pytest.fixture(scope='module')
def clouds(cloud: DevCloud,
           tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp('clouds') / 'clouds.yaml'
    path.write_text(cloud.clouds_yaml())
    return path


@pytest.fixture
def house(tmp_path: pathlib.Path, cloud: DevCloud, clouds: pathlib.Path,
          source: str, zygote: Zygote) -> Iterator[House]:
    yield House(tmp_path, cloud, clouds, source, zygote)
    cloud.faults.clear()
    for things in cloud.inventory().values():
        for thing in things:
            if thing != source:
                cloud.remove(thing)
    shutil.rmtree(tmp_path)


@pytest.fixture(scope='module')
def saved(tmp_path_factory: pytest.TempPathFactory, cloud: DevCloud,
          clouds: pathlib.Path, source: str, zygote: Zygote) -> pathlib.Path:
    """The state of a house that has a backup."""
    made = House(tmp_path_factory.mktemp('saved'), cloud, clouds, source,
                 zygote)
    made.run('backup', 'create', '--volume', 'source', '--name', 'b')
    return made.state


@pytest.fixture
def furnished(house: House, saved: pathlib.Path) -> House:
    """A house with a backup named b."""
    shutil.copytree(saved, house.state)
    return house
