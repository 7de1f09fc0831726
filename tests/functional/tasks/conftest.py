"""Whole flows: simulated cloud over HTTP, real store, real SQL, TaskFlow."""

from __future__ import annotations

import pathlib
import shutil
import sys
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from oslo_config import cfg

from bakflow import store
from bakflow.cloud import session as cloud_session
from bakflow.conf import cloud as cloud_conf
from bakflow.db import engine
from bakflow.devcloud import DevCloud

from .world import SIZE, World, fill

# The contents of disks are shared with the contract tests.
sys.path.append(str(pathlib.Path(__file__).parents[3]))


@pytest.fixture(scope='session')
def empty_db(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp('db') / 'bakflow.db'
    db = engine.connect(f'sqlite:///{path}')
    engine.upgrade(db)
    with db.transaction() as session:
        session.execute(sa.text('PRAGMA user_version'))
    with db.engine.connect() as connection:
        connection.connection.driver_connection.execute(  # type: ignore
            'PRAGMA wal_checkpoint(TRUNCATE)')
    db.close()
    return path


@pytest.fixture
def db(empty_db: pathlib.Path, tmp_path: pathlib.Path
       ) -> Iterator[engine.Database]:
    path = tmp_path / 'bakflow.db'
    shutil.copy(empty_db, path)
    opened = engine.connect(f'sqlite:///{path}')
    yield opened
    opened.close()


@pytest.fixture
def dev(tmp_path: pathlib.Path) -> Iterator[DevCloud]:
    with DevCloud(tmp_path / 'devcloud', delay=0.005, gib=SIZE) as cloud:
        yield cloud


@pytest.fixture
def cloud(dev: DevCloud, tmp_path: pathlib.Path,
          monkeypatch: pytest.MonkeyPatch) -> Iterator[cloud_session.Cloud]:
    path = tmp_path / 'clouds.yaml'
    path.write_text(dev.clouds_yaml())
    monkeypatch.setenv('OS_CLIENT_CONFIG_FILE', str(path))
    conf = cfg.ConfigOpts()
    cloud_conf.register_opts(conf)
    cloud_session.register_opts(conf)
    conf([], project='bakflow-tests', default_config_files=[])
    for name, value in (('cloud', 'devcloud'), ('http_timeout', 5),
                        ('read_patience', 5)):
        conf.set_override(name, value, group='cloud')
    connected = cloud_session.connect(conf)
    yield connected
    connected.close()


@pytest.fixture
def world(db: engine.Database, dev: DevCloud, cloud: cloud_session.Cloud,
          tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> World:
    backend = store.FilesystemBackend(str(tmp_path / 'target'))
    kek = store.load_key_file(str(tmp_path / 'key'), create=True)
    opened = store.Store.create(backend, kek, deployment=db.deployment)
    return World(db, dev, cloud, opened, monkeypatch)


@pytest.fixture
def random_volume(world: World) -> str:
    """Half random, half empty."""
    return world.volume(fill(uuid.uuid4().bytes))
