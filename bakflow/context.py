"""Who asks: oslo.context's request context, without its secrets.

``to_dict`` never holds a token: what goes over RPC was authorised before it
was sent, and long work runs with credentials of its own.
"""

from __future__ import annotations

from typing import Any

from oslo_context import context


class RequestContext(context.RequestContext):
    """A request.

    :param local: the operator of an embedded conductor, who owns the
        database and needs no token to read it. Never taken from the wire
        of a real broker: see ``rpc.server``.
    """

    def __init__(self, *, local: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.local = local

    def to_dict(self) -> dict[str, Any]:
        """As JSON data, without token."""
        found: dict[str, Any] = super().to_dict()
        for secret in ('auth_token', 'service_token'):
            found.pop(secret, None)
        found['local'] = self.local
        return found

    @classmethod
    def from_dict(cls, values: dict[str, Any], **kwargs: Any
                  ) -> RequestContext:
        """The context that :meth:`to_dict` described."""
        return super().from_dict(
            values, local=bool(values.get('local')), **kwargs)
