"""The database: engine, transactions, and the upgrade of its schema.

SQLite is for one host: WAL, and every transaction takes the write lock at
its begin, so that what was read is still so when it is written.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import pathlib
import sqlite3
import threading
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from oslo_config import cfg
from sqlalchemy import orm
from taskflow.persistence.backends import impl_sqlalchemy

from bakflow import errors
from bakflow.db import models

VERSION_TABLE = 'bakflow_alembic_version'


class Database:
    """An engine and its transactions."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self._sessions = orm.sessionmaker(engine, expire_on_commit=False)
        self._deployment: str | None = None
        self._local = threading.local()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[orm.Session]:
        """A session that commits at the end, or rolls back.

        :raises RuntimeError: inside another one of the same thread, which
            on SQLite would wait for itself.
        """
        if getattr(self._local, 'busy', False):
            raise RuntimeError('a transaction inside a transaction')
        self._local.busy = True
        try:
            with self._sessions() as session, session.begin():
                yield session
        finally:
            self._local.busy = False

    @property
    def deployment(self) -> str:
        """The id of this database; made on first use."""
        if self._deployment is None:
            with self.transaction() as session:
                found = session.scalar(sa.select(models.Deployment.id))
                if found is None:
                    row = models.Deployment(id=models.new_id())
                    session.add(row)
                    found = row.id
            self._deployment = found
        return self._deployment

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def url_of(conf: cfg.ConfigOpts) -> str:
    """The configured database, or SQLite in ``state_path``."""
    if conf.database.connection:
        return str(conf.database.connection)
    return 'sqlite:///' + os.path.join(
        os.path.abspath(os.path.expanduser(conf.state_path)), 'bakflow.db')


def connect(url: str) -> Database:
    """Open a database.

    :raises ConfigError: the URL names no database that can be opened.
    """
    try:
        parsed = sa.make_url(url)
        kwargs: dict[str, Any] = {'pool_pre_ping': True}
        if parsed.get_backend_name() == 'sqlite':
            kwargs = {'connect_args': {'timeout': 30}}
            _prepare_folder(parsed.database)
        engine = sa.create_engine(parsed, **kwargs)
    except (sa.exc.ArgumentError, ImportError, OSError) as exc:
        raise errors.ConfigError(
            f'[database] connection cannot be used: {type(exc).__name__}',
            hint='check the URL and that its driver is installed') from exc
    if engine.dialect.name == 'sqlite':
        sa.event.listen(engine, 'connect', _tune_sqlite)
        sa.event.listen(engine, 'begin', _begin_immediate)
    return Database(engine)


def _prepare_folder(path: str | None) -> None:
    """Others may read neither the folder nor the file."""
    if path and path != ':memory:':
        folder = os.path.dirname(os.path.abspath(path))
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _tune_sqlite(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None       # BEGIN is ours
    for pragma in ('journal_mode=WAL', 'busy_timeout=30000',
                   'foreign_keys=ON', 'synchronous=NORMAL'):
        connection.execute('PRAGMA ' + pragma)


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql('BEGIN IMMEDIATE')


# -- schema ---------------------------------------------------------------

def alembic_config() -> Config:
    """Alembic's configuration; the scripts are part of the package."""
    migrations = importlib.import_module('bakflow.migrations')
    config = Config()
    config.set_main_option('script_location', str(
        pathlib.Path(next(iter(migrations.__path__)))))
    return config


def upgrade(db: Database) -> None:
    """Bring our tables and TaskFlow's to the newest version."""
    with _alone(db):
        config = alembic_config()
        with db.engine.begin() as connection:
            config.attributes['connection'] = connection
            command.upgrade(config, 'head')
        backend = impl_sqlalchemy.SQLAlchemyBackend({}, engine=db.engine)
        with contextlib.closing(backend.get_connection()) as connection:
            connection.upgrade()


def is_current(db: Database) -> bool:
    """Whether the schema is the one this program needs."""
    with db.engine.begin() as connection:
        context = MigrationContext.configure(
            connection, opts={'version_table': VERSION_TABLE})
        heads = ScriptDirectory.from_config(alembic_config()).get_heads()
        return set(context.get_current_heads()) == set(heads)


@contextlib.contextmanager
def _alone(db: Database) -> Iterator[None]:
    """Two processes that meet a new SQLite file upgrade one by one."""
    path = db.engine.url.database
    if db.engine.dialect.name != 'sqlite' or not path or path == ':memory:':
        yield
        return
    fd = os.open(path + '.lock', os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
