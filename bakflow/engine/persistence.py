"""TaskFlow's persistence behind the fence of a lease.

TaskFlow fences nothing: two engines on one flow detail would both run it. So
each write of its rows checks the lease in the same transaction. It overrides
two private methods of TaskFlow; a unit test fails if they disappear.
"""

from __future__ import annotations

import contextlib
from typing import Any

from taskflow.persistence import models as tf
from taskflow.persistence.backends import impl_sqlalchemy as impl

from bakflow.db import changes
from bakflow.db.engine import Database


class FencedConnection(impl.Connection):
    """Writes only while the claim holds."""

    def _update_atom_details(self, conn: Any, ad: Any, e_ad: Any) -> None:
        changes.check_epoch(conn, self.backend.claim)
        super()._update_atom_details(conn, ad, e_ad)

    def _update_flow_details(self, conn: Any, fd: Any, e_fd: Any) -> None:
        changes.check_epoch(conn, self.backend.claim)
        super()._update_flow_details(conn, fd, e_fd)


class FencedBackend(impl.SQLAlchemyBackend):
    """TaskFlow's tables in our database, for one claimed flow."""

    def __init__(self, db: Database, claim: changes.Claim) -> None:
        super().__init__({}, engine=db.engine)
        self.claim = claim

    def get_connection(self) -> FencedConnection:
        """A connection that checks the lease."""
        return FencedConnection(self, upgrade_lock=self._upgrade_lock)


def flow_detail(backend: impl.SQLAlchemyBackend, flow_id: str, kind: str
                ) -> tf.FlowDetail:
    """TaskFlow's record of a flow; made at its first run."""
    with contextlib.closing(backend.get_connection()) as connection:
        try:
            book = connection.get_logbook(flow_id)
        except impl.exc.NotFound:
            book = tf.LogBook(kind, flow_id)
            book.add(tf.FlowDetail(kind, flow_id))
            connection.save_logbook(book)
            book = connection.get_logbook(flow_id)
        return book.find(flow_id)


def atoms(db: Database, flow_id: str) -> list[Any]:
    """The states of a flow's atoms as they are in SQL; for display."""
    backend = impl.SQLAlchemyBackend({}, engine=db.engine)
    with contextlib.closing(backend.get_connection()) as connection:
        try:
            book = connection.get_logbook(flow_id)
        except impl.exc.NotFound:
            return []
        return list(book.find(flow_id) or ())
