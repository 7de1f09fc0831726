"""A conductor with its endpoint: real SQLite, store, HTTP and threads."""

from __future__ import annotations

import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bakflow import conf as bakflow_conf
from bakflow import fault
from bakflow.conductor.endpoints import Endpoint
from bakflow.conductor.service import Conductor
from bakflow.conductor.targets import Targets
from bakflow.context import RequestContext
from bakflow.db import engine, models
from bakflow.devcloud import DevCloud
from bakflow.rpc import envelope

MIB = 1 << 20


class Gate:
    """Holds a flow at a point until it is opened."""

    def __init__(self, point: str) -> None:
        self.point = point
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, name: str) -> None:
        if name == self.point:
            self.reached.set()
            self.opened.wait(30)


class House:
    """One deployment, and what a test does to it."""

    def __init__(self, conf: Any, dev: DevCloud) -> None:
        self.dev = dev
        self.db = engine.connect(engine.url_of(conf))
        engine.upgrade(self.db)
        self.conductor = Conductor(conf, self.db,
                                   Targets(conf, self.db.deployment))
        self.endpoint = Endpoint(self.conductor)

    def call(self, method: str, **kwargs: Any) -> Any:
        """As RPC would."""
        context = RequestContext(
            local=True, roles=['admin', 'member', 'reader']).to_dict()
        return envelope.open(
            getattr(self.endpoint, method)(context, **kwargs))

    def volume(self) -> str:
        return self.dev.make_volume(
            'demo', 'source', 1, lambda f: f.write(b'\x07' * MIB))

    def row(self, model: Any, row_id: str) -> Any:
        with self.db.transaction() as session:
            return session.get_one(model, row_id)

    def until(self, condition: Callable[[], Any], seconds: float = 30
              ) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, 'it did not come to that'
            time.sleep(0.02)

    def ended(self, flow_id: str) -> Any:
        """The row of a flow that does not go on by itself."""
        self.until(lambda: self.row(models.Flow, flow_id).status in (
            'done', 'held', 'reverted'))
        return self.row(models.Flow, flow_id)

    def backed_up(self, volume: str | None = None) -> str:
        made = self.call('create_backup', volume=volume or self.volume())
        assert self.ended(made['flow_id']).status == 'done'
        return str(made['id'])


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch
         ) -> Iterator[Callable[[str], Gate]]:
    made: list[Gate] = []

    def make(point: str) -> Gate:
        found = Gate(point)
        made.append(found)
        monkeypatch.setattr(fault, 'point', found)
        return found
    yield make
    for one in made:
        one.opened.set()


@pytest.fixture
def house(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
          ) -> Iterator[House]:
    with DevCloud(tmp_path / 'dev', delay=0.005) as dev:
        clouds = tmp_path / 'clouds.yaml'
        clouds.write_text(dev.clouds_yaml())
        monkeypatch.setenv('OS_CLIENT_CONFIG_FILE', str(clouds))
        path = tmp_path / 'bakflow.conf'
        path.write_text(
            f'[DEFAULT]\nstate_path = {tmp_path}/state\n'
            '[cloud]\ncloud = devcloud\nhttp_timeout = 5\n'
            '[conductor]\nimage_format = qcow2\npoll = 0.05\n'
            'ambiguity_grace = 0\n'
            'retry_delay = 0\ndelete_timeout = 20\n')
        conf = bakflow_conf.setup([], [str(path)])
        made = House(conf, dev)
        yield made
        made.conductor.stop()
        made.db.close()
