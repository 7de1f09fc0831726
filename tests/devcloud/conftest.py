"""One simulated cloud for each test, and a real SDK connection to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import openstack
import openstack.connection
import pytest

from bakflow.devcloud import DevCloud

Connect = Callable[..., openstack.connection.Connection]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[DevCloud]:
    with DevCloud(tmp_path / 'cloud') as made:
        yield made


@pytest.fixture
def connect(cloud: DevCloud) -> Iterator[Connect]:
    made: list[openstack.connection.Connection] = []

    def _connect(user: str = 'demo', **options: object
                 ) -> openstack.connection.Connection:
        made.append(openstack.connect(
            load_yaml_config=False, load_envvars=False,
            auth=cloud.auth(user), region_name='RegionOne', **options))
        return made[-1]

    yield _connect
    for connection in made:
        connection.close()


@pytest.fixture
def conn(connect: Connect) -> openstack.connection.Connection:
    return connect()
