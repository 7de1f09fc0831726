"""What a step may use: made by the conductor for each run of a flow.

Tasks find it by the flow's id (:func:`context_of`), because TaskFlow's own
store would write it to SQL. Nothing in here survives a crash; all that must
is in the ledger, in the rows, or in the backup store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from bakflow import store
    from bakflow.cloud.session import Cloud
    from bakflow.db.ledger import Ledger
    from bakflow.db.records import Records


class Targets(Protocol):
    """The configured targets by name."""

    def open(self, name: str) -> store.Store:
        """The store of a target, made on first use.

        :raises NotFound: no such target; others of ``errors.StoreError``.
        """


class StepContext:
    """One run of one flow, under one lease.

    :ivar flow_id: id of the flow; also prefix of its store sessions.
    :ivar epoch: the fencing number of this run.
    :ivar owner_id: id of the backup or restore that the flow is for.
    :ivar deployment: id of the bakflow database.
    :ivar request: the request as it was accepted (JSON data, read only).
    :ivar ledger: of temporaries, fenced by the lease.
    :ivar records: rows of backups, disks and restores, fenced too.
    :ivar options: seconds and limits by name, from the configuration:
        snapshot_timeout, volume_timeout, image_timeout, delete_timeout.
    """

    def __init__(self, *, flow_id: str, epoch: int, owner_id: str,
                 project_id: str, deployment: str,
                 request: Mapping[str, Any], ledger: Ledger,
                 records: Records, targets: Targets,
                 connect: Callable[[], Cloud],
                 pause: Callable[[float], None],
                 options: Mapping[str, Any]) -> None:
        self.flow_id = flow_id
        self.epoch = epoch
        self.owner_id = owner_id
        self.project_id = project_id
        self.deployment = deployment
        self.request = request
        self.ledger = ledger
        self.records = records
        self.targets = targets
        self.pause = pause
        self.options = options
        self._connect = connect
        self._cloud: Cloud | None = None

    @property
    def cloud(self) -> Cloud:
        """The cloud of this flow; its waits stop when the flow must.

        :raises WrongCloud: another cloud is configured than the flow's.
        """
        if self._cloud is None:
            self._cloud = self._connect().pausing(self.pause)
        return self._cloud

    def check(self) -> None:
        """Raise when the flow must stop now.

        :raises Interrupted: the conductor stops.
        :raises Cancelled: a user wants the flow reverted.
        :raises LeaseLost: another conductor owns the flow.
        """
        self.pause(0)


_contexts: dict[str, StepContext] = {}
_lock = threading.Lock()


def bind(context: StepContext) -> None:
    """Make the context known to the tasks of its flow."""
    with _lock:
        _contexts[context.flow_id] = context


def unbind(flow_id: str, context: StepContext | None = None) -> None:
    """Forget it; the run is over.

    :param context: of that run: one that ends late must not take away what
        the next run of the flow has bound.
    """
    with _lock:
        if context is None or _contexts.get(flow_id) is context:
            _contexts.pop(flow_id, None)


def context_of(flow_id: str) -> StepContext:
    """The context of the flow that runs in this process.

    :raises KeyError: it does not run here.
    """
    with _lock:
        return _contexts[flow_id]
