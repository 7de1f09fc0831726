"""A domain: the backups of one project, which share chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bakflow import errors
from bakflow.store import collecting, heads, layout, session, verifying
from bakflow.store.collecting import CollectReport
from bakflow.store.model import Head, Progress
from bakflow.store.reading import Reader
from bakflow.store.session import Session
from bakflow.store.space import Space
from bakflow.store.verifying import VerifyReport


class Domain:
    """The backups of one project in one store.

    No chunk is ever shared with another domain, so nobody can learn from a
    backup's size what others have stored.
    """

    def __init__(self, space: Space, project_id: str) -> None:
        self.project_id = project_id
        self.space = space

    @property
    def name(self) -> str:
        """The domain's name in the store; tells nothing of the project."""
        return self.space.name

    # -- writing ----------------------------------------------------------

    def start(self, session_name: str, *, backup_id: str,
              sizes: Sequence[int], adopt: Sequence[str] = (),
              parent: str | None = None) -> Session:
        """Begin, or go on with, the writing of a backup.

        :param session_name: ``'<flow id>.<epoch>'``, used once.
        :param sizes: bytes of each disk.
        :param adopt: earlier sessions of the same flow, newest last; what
            they made durable is taken over and they are fenced.
        :param parent: the backup to compare with. It may be gone or
            damaged: then more is stored.
        :raises Conflict: the session was started before.
        """
        return session.start(self.space, session_name, backup_id, sizes,
                             adopt, parent)

    def abort(self, flow_prefix: str) -> CollectReport:
        """Remove, at once, what a flow's uncommitted sessions left.

        :param flow_prefix: ``'<flow id>.'``
        :raises Conflict: a backup of the flow is committed.
        """
        layout.check_session(flow_prefix + '0')
        return collecting.abort(self.space, flow_prefix)

    # -- backups ----------------------------------------------------------

    def heads(self) -> list[str]:
        """Ids of all backups."""
        return sorted(heads.list_heads(self.space))

    def head(self, backup_id: str) -> Head:
        """What is known of a backup.

        :raises NotFound: there is none.
        :raises StoreCorrupt: its head is damaged.
        """
        return self._head(backup_id)[0]

    def _head(self, backup_id: str) -> tuple[Head, str]:
        layout.check_backup(backup_id)
        found = heads.list_heads(self.space, backup_id).get(backup_id, ())
        error: errors.StoreCorrupt | None = None
        for owner in found:
            name = layout.head_name(self.space.name, backup_id, owner)
            try:
                return heads.read_head(self.space, name), name
            except errors.StoreCorrupt as exc:
                error = error or exc
        if error is not None:
            raise error
        raise errors.NotFound(f'there is no backup {backup_id} in the store',
                              resource=f'backup {backup_id}')

    def delete(self, backup_id: str) -> None:
        """Remove a backup's head; the collector frees the bytes."""
        layout.check_backup(backup_id)
        for owner in heads.list_heads(self.space, backup_id).get(
                backup_id, ()):
            self.space.backend.delete(layout.head_name(
                self.space.name, backup_id, owner))

    def reader(self, backup_id: str) -> Reader:
        """For reading a backup's disks.

        :raises NotFound: there is none.
        """
        return Reader(self.space, self.head(backup_id))

    def verify(self, backup_id: str, *,
               observe: Callable[[Progress], None] = lambda _: None
               ) -> VerifyReport:
        """Read and authenticate everything that a backup needs.

        A head that is damaged is reported as the one damage that there is.

        :raises NotFound: there is no such backup.
        """
        try:
            head, name = self._head(backup_id)
        except errors.StoreCorrupt as exc:
            return VerifyReport([verifying.Damage(
                (exc.resource or '').removeprefix('object '), 0, 0, 0,
                exc.message)])
        return verifying.verify(self.space, head, name, observe)
