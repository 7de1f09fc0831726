"""The tables. See ../../shared design: what each says and its statuses.

Times are integer milliseconds since 1970, UTC, by the database's clock.
"""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class now_ms(FunctionElement[int]):  # noqa: N801 - an SQL function
    """The database's clock, not that of the transaction's start."""

    type = sa.BigInteger()
    inherit_cache = True


@compiles(now_ms, 'sqlite')
def _sqlite(*_: Any, **__: Any) -> str:
    return ("CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)")


@compiles(now_ms, 'postgresql')
def _postgresql(*_: Any, **__: Any) -> str:
    return 'CAST(extract(epoch from clock_timestamp()) * 1000 AS BIGINT)'


@compiles(now_ms, 'mysql')
@compiles(now_ms, 'mariadb')
def _mysql(*_: Any, **__: Any) -> str:
    return 'CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000 AS SIGNED)'


def new_id() -> str:
    """A fresh id."""
    return str(uuid.uuid4())


class Base(orm.DeclarativeBase):
    """With names for all constraints, so that migrations can change them."""

    metadata = sa.MetaData(naming_convention={
        'ix': 'ix_%(table_name)s_%(column_0_N_name)s',
        'uq': 'uq_%(table_name)s_%(column_0_N_name)s',
        'fk': 'fk_%(table_name)s_%(column_0_name)s',
        'pk': 'pk_%(table_name)s'})
    type_annotation_map = {
        dict[str, Any]: sa.JSON, list[Any]: sa.JSON, int: sa.BigInteger,
        str: sa.String(255), bool: sa.Boolean}


Id = orm.mapped_column


class Deployment(Base):
    """One row: who this database is."""

    __tablename__ = 'deployment'
    id: orm.Mapped[str] = Id(sa.String(36), primary_key=True)
    singleton: orm.Mapped[int] = Id(sa.Integer, unique=True, default=1)
    created_at: orm.Mapped[int] = Id(default=now_ms())


class Backup(Base):
    """One source at one point in time, kept in one target."""

    __tablename__ = 'backups'
    __table_args__ = (
        sa.UniqueConstraint('project_id', 'idempotency_key'),
        sa.Index('ix_backups_source', 'project_id', 'source_id', 'target',
                 'status'))
    id: orm.Mapped[str] = Id(sa.String(36), primary_key=True, default=new_id)
    project_id: orm.Mapped[str] = Id(sa.String(64))
    name: orm.Mapped[str] = Id(sa.String(255), index=True)
    status: orm.Mapped[str] = Id(sa.String(16), default='queued')
    target: orm.Mapped[str] = Id(sa.String(64))
    source_kind: orm.Mapped[str] = Id(sa.String(16), default='volume')
    source_id: orm.Mapped[str] = Id(sa.String(64))
    source_name: orm.Mapped[str] = Id(sa.String(255))
    size: orm.Mapped[int]
    read_bytes: orm.Mapped[int | None]
    skipped_bytes: orm.Mapped[int | None]
    new_bytes: orm.Mapped[int | None]
    stored_bytes: orm.Mapped[int | None]
    parent_id: orm.Mapped[str | None] = Id(sa.String(36))
    head_digest: orm.Mapped[str | None] = Id(sa.String(128))
    consistency: orm.Mapped[str] = Id(sa.String(16), default='crash')
    document: orm.Mapped[dict[str, Any]] = Id(default=dict)
    error: orm.Mapped[dict[str, Any] | None]
    damages: orm.Mapped[list[Any] | None]
    verified_at: orm.Mapped[int | None]
    idempotency_key: orm.Mapped[str | None] = Id(sa.String(128))
    created_at: orm.Mapped[int] = Id(default=now_ms(), index=True)
    finished_at: orm.Mapped[int | None]


class Disk(Base):
    """One block device inside a backup."""

    __tablename__ = 'disks'
    backup_id: orm.Mapped[str] = Id(
        sa.String(36), sa.ForeignKey('backups.id', ondelete='CASCADE'),
        primary_key=True)
    index: orm.Mapped[int] = Id(sa.Integer, primary_key=True)
    source_id: orm.Mapped[str] = Id(sa.String(64))
    size: orm.Mapped[int]
    bytes_done: orm.Mapped[int] = Id(default=0)


class Restore(Base):
    """Writing a backup back."""

    __tablename__ = 'restores'
    __table_args__ = (sa.UniqueConstraint('project_id', 'idempotency_key'),)
    id: orm.Mapped[str] = Id(sa.String(36), primary_key=True, default=new_id)
    project_id: orm.Mapped[str] = Id(sa.String(64))
    backup_id: orm.Mapped[str] = Id(sa.String(36), index=True)
    status: orm.Mapped[str] = Id(sa.String(16), default='queued')
    destination: orm.Mapped[dict[str, Any]] = Id(default=dict)
    size: orm.Mapped[int]
    bytes_done: orm.Mapped[int] = Id(default=0)
    result: orm.Mapped[dict[str, Any] | None]
    error: orm.Mapped[dict[str, Any] | None]
    idempotency_key: orm.Mapped[str | None] = Id(sa.String(128))
    created_at: orm.Mapped[int] = Id(default=now_ms(), index=True)
    finished_at: orm.Mapped[int | None]


class Flow(Base):
    """One run of a graph; its id is also that of TaskFlow's flow detail."""

    __tablename__ = 'flows'
    __table_args__ = (
        sa.Index('ix_flows_claim', 'status', 'run_after'),)
    id: orm.Mapped[str] = Id(sa.String(36), primary_key=True, default=new_id)
    kind: orm.Mapped[str] = Id(sa.String(32))
    owner_id: orm.Mapped[str] = Id(sa.String(64), index=True)
    project_id: orm.Mapped[str] = Id(sa.String(64))
    request: orm.Mapped[dict[str, Any]] = Id(default=dict)
    cloud: orm.Mapped[str | None] = Id(sa.String(512))
    status: orm.Mapped[str] = Id(sa.String(16), default='queued')
    direction: orm.Mapped[str] = Id(sa.String(8), default='forward')
    on_failure: orm.Mapped[str] = Id(sa.String(8), default='hold')
    attempts: orm.Mapped[int] = Id(sa.Integer, default=0)
    run_after: orm.Mapped[int] = Id(default=0)
    cancel: orm.Mapped[bool] = Id(default=False)
    committed: orm.Mapped[bool] = Id(default=False)
    owner: orm.Mapped[str | None] = Id(sa.String(128))
    epoch: orm.Mapped[int] = Id(default=0)
    lease_until: orm.Mapped[int] = Id(default=0)
    waits_for: orm.Mapped[str | None] = Id(sa.Text)
    progress: orm.Mapped[dict[str, Any] | None]
    notes: orm.Mapped[dict[str, Any]] = Id(default=dict)
    error: orm.Mapped[dict[str, Any] | None]
    created_at: orm.Mapped[int] = Id(default=now_ms(), index=True)
    started_at: orm.Mapped[int | None]
    finished_at: orm.Mapped[int | None]


class Temporary(Base):
    """The ledger: a cloud resource that must not outlive its flow."""

    __tablename__ = 'temporaries'
    __table_args__ = (sa.UniqueConstraint('flow_id', 'role', 'ordinal'),)
    id: orm.Mapped[int] = Id(
        sa.BigInteger().with_variant(sa.Integer, 'sqlite'),
        primary_key=True)
    flow_id: orm.Mapped[str] = Id(sa.String(36), index=True)
    owner_id: orm.Mapped[str] = Id(sa.String(64))
    role: orm.Mapped[str] = Id(sa.String(16))
    kind: orm.Mapped[str] = Id(sa.String(16))
    ordinal: orm.Mapped[int] = Id(sa.Integer, default=0)
    name: orm.Mapped[str] = Id(sa.String(255), index=True)
    cloud: orm.Mapped[str] = Id(sa.String(512))
    cloud_id: orm.Mapped[str | None] = Id(sa.String(64))
    status: orm.Mapped[str] = Id(sa.String(16), default='intended',
                                 index=True)
    attempts: orm.Mapped[int] = Id(sa.Integer, default=0)
    last_error: orm.Mapped[str | None] = Id(sa.Text)
    created_at: orm.Mapped[int] = Id(default=now_ms())
    updated_at: orm.Mapped[int] = Id(default=now_ms(), onupdate=now_ms())


class Conductor(Base):
    """For display only: leases decide."""

    __tablename__ = 'conductors'
    id: orm.Mapped[str] = Id(sa.String(128), primary_key=True)
    host: orm.Mapped[str] = Id(sa.String(255))
    pid: orm.Mapped[int]
    version: orm.Mapped[str] = Id(sa.String(32))
    draining: orm.Mapped[bool] = Id(default=False)
    last_seen: orm.Mapped[int] = Id(default=now_ms())


class Event(Base):
    """What changed; append only, in the transaction of the change."""

    __tablename__ = 'events'
    id: orm.Mapped[int] = Id(
        sa.BigInteger().with_variant(sa.Integer, 'sqlite'),
        primary_key=True)
    at: orm.Mapped[int] = Id(default=now_ms())
    kind: orm.Mapped[str] = Id(sa.String(16))
    subject_id: orm.Mapped[str] = Id(sa.String(64), index=True)
    before: orm.Mapped[str | None] = Id(sa.String(16))
    after: orm.Mapped[str] = Id(sa.String(16))
    actor: orm.Mapped[str] = Id(sa.String(128))
    data: orm.Mapped[dict[str, Any] | None]
