"""Alembic's environment: our tables only, TaskFlow looks after its own."""

from __future__ import annotations

from typing import Any

from alembic import context

from bakflow.db import engine, models

THEIRS = {'logbooks', 'flowdetails', 'atomdetails', 'alembic_version'}


def include_object(_: Any, name: str | None, type_: str, *__: Any) -> bool:
    """TaskFlow's tables lie beside ours."""
    return not (type_ == 'table' and name in THEIRS)


context.configure(
    connection=context.config.attributes['connection'],
    target_metadata=models.Base.metadata,
    version_table=engine.VERSION_TABLE, include_object=include_object,
    render_as_batch=True, compare_type=True)
with context.begin_transaction():
    context.run_migrations()
