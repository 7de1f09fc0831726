"""A deployment in this process: real SQL, store, HTTP, RPC and threads."""

from __future__ import annotations

import contextlib
import pathlib
import random
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import pytest

from bakflow import conf as bakflow_conf
from bakflow.cli import embedded
from bakflow.devcloud import DevCloud

MIB = 1 << 20
PATIENCE = 90


class Room:
    """bakflow with a state folder of its own, and the cloud."""

    def __init__(self, folder: pathlib.Path, dev: DevCloud,
                 source: str) -> None:
        self.folder = folder
        self.state = folder / 'state'
        self.dev = dev
        self.source = source
        self.running: embedded.Embedded | None = None
        self.target: dict[str, str] = {}

    # -- the service ------------------------------------------------------

    def open(self, cloud: str = 'devcloud') -> None:
        """Start it, or start it again as a new process would."""
        self.close()
        path = self.folder / 'bakflow.conf'
        target = '\n'.join(f'{k} = {v}' for k, v in self.target.items())
        path.write_text(
            f'[DEFAULT]\nstate_path = {self.state}\n[local]\n{target}\n'
            f'[cloud]\ncloud = {cloud}\nhttp_timeout = 5\n'
            f'read_patience = 10\n[conductor]\npoll = 0.05\n'
            f'ambiguity_grace = 1\nretry_delay = 0\ndelete_timeout = 20\n'
            f'max_attempts = 2\nimage_format = qcow2\n')
        self.running = embedded.start(bakflow_conf.setup([], [str(path)]))

    def close(self) -> None:
        """End it."""
        if self.running is not None:
            self.running.close()
            self.running = None

    @property
    def api(self) -> Any:
        assert self.running is not None
        return self.running.api

    # -- flows ------------------------------------------------------------

    def rest(self, flow_id: str) -> dict[str, Any]:
        """The flow, once it does not go on for now."""
        deadline = time.monotonic() + PATIENCE
        while True:
            flow: dict[str, Any] = self.api.show_flow(flow_id)
            if flow['status'] in ('done', 'held', 'reverted') or (
                    flow['status'] == 'queued' and flow['run_after']):
                return flow
            assert time.monotonic() < deadline, flow
            time.sleep(0.05)

    def done(self, begun: dict[str, Any]) -> dict[str, Any]:
        """The flow of a request, which must end well."""
        flow = self.rest(begun.get('flow_id') or begun['id'])
        assert flow['status'] == 'done', flow['error']
        return flow

    def resume(self, flow_id: str) -> dict[str, Any]:
        """Go on, to a good end."""
        self.api.resume_flow(flow_id)
        return self.done({'id': flow_id})

    def abandon(self, flow_id: str) -> None:
        """Undo it."""
        self.api.abandon_flow(flow_id)
        flow = self.rest(flow_id)
        assert flow['status'] == 'reverted', flow

    def back_up(self, name: str = 'b') -> dict[str, Any]:
        """Ask for a backup of the source."""
        begun: dict[str, Any] = self.api.create_backup(self.source,
                                                       name=name)
        return begun

    # -- what must be so at the end ---------------------------------------

    def only_source(self) -> None:
        """Nothing of ours is in the cloud."""
        assert self.dev.inventory('demo') == {
            'volumes': {self.source: 'source (available)'},
            'snapshots': {}, 'images': {}}

    def whole(self, backup: str) -> None:
        """The backup has the bytes of the source; all else is clean."""
        assert self.api.show_backup(backup)['status'] == 'available'
        path = self.folder / 'whole'
        self.done(self.api.create_restore(
            backup, {'kind': 'file', 'path': str(path)}))
        assert same(path, pathlib.Path(self.dev.volume_path(self.source)))
        path.unlink()
        self.only_source()
        assert self.api.audit() == {'strays': [], 'clean': True}


def told(error: dict[str, Any], code: str, resource: str,
         request_id: bool = False) -> None:
    """An error names the resource, the cause and what to do, and the
    request if the cloud was asked."""
    assert error['code'] == code, error
    assert error['message']
    assert error.get('hint'), error
    assert resource in f"{error.get('resource')} {error['message']}", error
    if request_id:
        assert error.get('request_id', '').startswith('req-'), error


def same(one: pathlib.Path, two: pathlib.Path) -> bool:
    """Whether two files have the same bytes, 8 MiB at a time."""
    if one.stat().st_size != two.stat().st_size:
        return False
    with one.open('rb') as a, two.open('rb') as b:
        while piece := a.read(8 * MIB):
            if piece != b.read(8 * MIB):
                return False
    return True


def fill(disk: BinaryIO) -> None:
    """12 MiB of data, all over the disk."""
    chance = random.Random(4)
    for place in range(12):
        disk.seek(place * 80 * MIB + 12288)
        disk.write(chance.randbytes(MIB - 8192))


@pytest.fixture(scope='module')
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCloud]:
    folder = tmp_path_factory.mktemp('dev')
    with DevCloud(folder, delay=0.01, hashes=False) as cloud:
        yield cloud
    shutil.rmtree(folder)


@pytest.fixture(scope='module')
def source(dev: DevCloud) -> str:
    return dev.make_volume('demo', 'source', 1, fill)


@pytest.fixture(autouse=True)
def _clouds(dev: DevCloud, tmp_path: pathlib.Path,
            monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'clouds.yaml'
    path.write_text(dev.clouds_yaml())
    monkeypatch.setenv('OS_CLIENT_CONFIG_FILE', str(path))


@pytest.fixture
def room(tmp_path: pathlib.Path, dev: DevCloud, source: str
         ) -> Iterator[Room]:
    made = Room(tmp_path, dev, source)
    made.open()
    yield made
    dev.faults.clear()
    made.close()
    _tidy(dev, source)


def _tidy(dev: DevCloud, source: str) -> None:
    for things in dev.inventory().values():
        for thing in things:
            if thing != source:
                dev.remove(thing)


@pytest.fixture
def mounted(tmp_path: pathlib.Path) -> Iterator[Callable[[int], str]]:
    """Mounts, or makes larger, a file system of so many MiB."""
    import subprocess
    place = tmp_path / 'small'
    place.mkdir(mode=0o700)
    there = False

    def mount(mib: int) -> str:
        nonlocal there
        options = f'size={mib}m,mode=700' + (',remount' if there else '')
        ran = subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', str(place)],
            capture_output=True, check=False)
        if ran.returncode:
            pytest.skip('only root can mount a small file system')
        there = True
        return str(place)

    with contextlib.ExitStack() as stack:
        yield mount
        if there:
            stack.callback(subprocess.run, ['umount', '-l', str(place)],
                           check=True)
