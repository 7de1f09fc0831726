"""The API of bakflow for other services, for the CLI, and for tests.

Light: no TaskFlow, SDK or SQLAlchemy behind it. Version history:

* 1.0 - backups, restores, flows, targets, preview, audit, status.
"""

from __future__ import annotations

from typing import Any

import bakflow.threading_backend  # noqa: F401  isort: skip - first
import oslo_messaging as messaging

from bakflow import errors
from bakflow.context import RequestContext
from bakflow.rpc import envelope, transport


class BakflowAPI:
    """Requests to the conductors. Every answer is plain data.

    :param context: on whose behalf.
    :param rpc_transport: see :func:`bakflow.rpc.transport.get`.
    :param timeout: seconds to wait for an answer.
    :raises BakflowError: every method raises the class that the conductor
        raised; ``ServiceUnavailable`` when none answers.
    """

    def __init__(self, context: RequestContext, rpc_transport: Any,
                 timeout: float = 60) -> None:
        self._context = context
        self._client = messaging.get_rpc_client(
            rpc_transport, transport.target(), timeout=timeout)

    def _call(self, method: str, **kwargs: Any) -> Any:
        try:
            found = self._client.call(self._context.to_dict(), method,
                                      **kwargs)
        except (messaging.MessagingTimeout,
                messaging.MessageDeliveryFailure) as exc:
            raise errors.ServiceUnavailable(
                f'no conductor answered {method}: {type(exc).__name__}',
                hint='check that a conductor and the broker run; the same '
                     'idempotency key makes asking again safe') from exc
        except messaging.RemoteError as exc:
            raise errors.UnknownError(
                f'{method} failed: {exc.exc_type}: {exc.value}',
                hint='the log of the conductor tells more') from exc
        return envelope.open(found)

    # -- backups ----------------------------------------------------------

    def preview(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        """The resolved request, before anything is made.

        :param kind: ``backup`` or ``restore``.
        :param request: the arguments of the create call.
        """
        return self._call('preview', kind=kind, request=request)

    def create_backup(self, volume: str, *, target: str | None = None,
                      name: str | None = None,
                      image_format: str | None = None,
                      on_failure: str | None = None,
                      idempotency_key: str | None = None) -> dict[str, Any]:
        """Back up a volume, by name or id.

        :param on_failure: ``hold`` for an operator, or ``revert``.
        :param idempotency_key: the same key twice is one backup.
        """
        return self._call('create_backup', volume=volume, target=target,
                          name=name, image_format=image_format,
                          on_failure=on_failure,
                          idempotency_key=idempotency_key)

    def list_backups(self, **filters: Any) -> list[dict[str, Any]]:
        """Backups, newest first.

        Filters: volume, status, target, limit, marker, all_projects.
        """
        return self._call('list_backups', **filters)

    def show_backup(self, backup: str) -> dict[str, Any]:
        """One backup, by id or unique name."""
        return self._call('show_backup', backup=backup)

    def delete_backup(self, backup: str) -> dict[str, Any]:
        """Delete a backup; ``flow_id`` names the flow that does it."""
        return self._call('delete_backup', backup=backup)

    def verify_backup(self, backup: str) -> dict[str, Any]:
        """Read and authenticate everything that a backup needs."""
        return self._call('verify_backup', backup=backup)

    # -- restores ---------------------------------------------------------

    def create_restore(self, backup: str, destination: dict[str, Any], *,
                       volume_type: str | None = None,
                       availability_zone: str | None = None,
                       on_failure: str | None = None,
                       idempotency_key: str | None = None
                       ) -> dict[str, Any]:
        """Restore a backup.

        :param destination: ``{'kind': 'new-volume', 'name': …}``,
            ``{'kind': 'existing-volume', 'volume_id': …}``,
            ``{'kind': 'image', 'name': …}`` or
            ``{'kind': 'file', 'path': …}``.
        """
        return self._call('create_restore', backup=backup,
                          destination=destination, volume_type=volume_type,
                          availability_zone=availability_zone,
                          on_failure=on_failure,
                          idempotency_key=idempotency_key)

    def list_restores(self, **filters: Any) -> list[dict[str, Any]]:
        """Restores. Filters: backup, status, limit, marker, all_projects."""
        return self._call('list_restores', **filters)

    def show_restore(self, restore: str) -> dict[str, Any]:
        """One restore."""
        return self._call('show_restore', restore=restore)

    # -- flows ------------------------------------------------------------

    def list_flows(self, **filters: Any) -> list[dict[str, Any]]:
        """Flows. Filters: status, kind, limit, marker, all_projects."""
        return self._call('list_flows', **filters)

    def show_flow(self, flow: str) -> dict[str, Any]:
        """One flow with its steps and temporaries."""
        return self._call('show_flow', flow=flow)

    def resume_flow(self, flow: str) -> dict[str, Any]:
        """Go on with a flow that stopped."""
        return self._call('resume_flow', flow=flow)

    def abandon_flow(self, flow: str) -> dict[str, Any]:
        """Revert a flow that stopped."""
        return self._call('abandon_flow', flow=flow)

    def cancel_flow(self, flow: str) -> dict[str, Any]:
        """Stop and revert a flow, wherever it runs."""
        return self._call('cancel_flow', flow=flow)

    # -- targets and the whole --------------------------------------------

    def list_targets(self) -> list[dict[str, Any]]:
        """The configured targets."""
        return self._call('list_targets')

    def show_target(self, target: str) -> dict[str, Any]:
        """One target."""
        return self._call('show_target', target=target)

    def check_target(self, target: str) -> dict[str, Any]:
        """Try what a backup and a restore need of a target."""
        return self._call('check_target', target=target)

    def collect_target(self, target: str) -> dict[str, Any]:
        """Free what no backup needs; answers with the flow."""
        return self._call('collect_target', target=target)

    def audit(self, fix: bool = False) -> dict[str, Any]:
        """Compare cloud, ledger and stores; name, and mend, strays."""
        return self._call('audit', fix=fix)

    def status(self) -> dict[str, Any]:
        """What is at work."""
        return self._call('status')
