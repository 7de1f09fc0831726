"""A simulated cloud for each test, and a session on it."""

from __future__ import annotations

import os
import pathlib
import time
import uuid
from collections.abc import Iterator

import pytest
from oslo_config import cfg

from bakflow.cloud import naming, session
from bakflow.conf import cloud as cloud_conf
from bakflow.devcloud import DevCloud


class Pauses:
    """Waits a little only, and remembers what was asked for."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        time.sleep(min(seconds, 0.02))


@pytest.fixture
def no_os_variables(monkeypatch: pytest.MonkeyPatch,
                    tmp_path: pathlib.Path) -> None:
    """Nothing of the caller's own clouds can be reached."""
    for name in list(os.environ):
        if name.startswith('OS_'):
            monkeypatch.delenv(name)
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def dev(tmp_path: pathlib.Path) -> Iterator[DevCloud]:
    with DevCloud(tmp_path / 'devcloud') as cloud:
        yield cloud


def make_conf(**options: object) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    cloud_conf.register_opts(conf)
    session.register_opts(conf)
    conf([])
    for name, value in options.items():
        conf.set_override(name, value, group='cloud')
    return conf


@pytest.fixture
def clouds_yaml(dev: DevCloud, no_os_variables: None,
                tmp_path: pathlib.Path,
                monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    path = tmp_path / 'clouds.yaml'
    path.write_text(dev.clouds_yaml())
    monkeypatch.setenv('OS_CLIENT_CONFIG_FILE', str(path))
    return path


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def cloud(clouds_yaml: pathlib.Path,
          pauses: Pauses) -> Iterator[session.Cloud]:
    connected = session.connect(make_conf(cloud='devcloud', http_timeout=3,
                                          read_patience=5))
    yield connected.pausing(pauses)
    connected.close()


@pytest.fixture
def tag() -> naming.Tag:
    return naming.Tag(str(uuid.uuid4()), str(uuid.uuid4()),
                      str(uuid.uuid4()), 'snapshot')
