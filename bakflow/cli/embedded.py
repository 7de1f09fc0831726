"""A conductor in the process of its user: the default without a broker.

SQLite under ``state_path``, ``fake://`` and the same RPC as everywhere. It
runs only what this process asks for, so that one command never starts the
old work of another.
"""

from __future__ import annotations

import bakflow.threading_backend  # noqa: F401  isort: skip - first
import oslo_messaging as messaging
from futurist import _thread as futurist_thread
from oslo_config import cfg

from bakflow.conductor.endpoints import Endpoint
from bakflow.conductor.service import Conductor
from bakflow.conductor.targets import Targets
from bakflow.context import RequestContext
from bakflow.db import engine
from bakflow.rpc import transport
from bakflow.rpc.api import BakflowAPI


class Embedded:
    """Database, conductor and RPC of one process.

    :ivar api: speaks to it.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        # The server's idle threads look for its end only as often as this:
        # with futurist's second every command would end a second late.
        setattr(futurist_thread.ThreadWorker, 'MAX_IDLE_FOR',   # noqa: B010
                0.05)       # typed as int
        self._db = engine.connect(engine.url_of(conf))
        if not engine.is_current(self._db):
            engine.upgrade(self._db)
        self.conductor = Conductor(
            conf, self._db, Targets(conf, self._db.deployment), only=set())
        self._transport = transport.get(conf, transport.EMBEDDED)
        self._server = messaging.get_rpc_server(
            self._transport, transport.target('embedded'),
            [Endpoint(self.conductor)],
            access_policy=messaging.DefaultRPCAccessPolicy)
        self._server.start()
        self.conductor.start()
        context = RequestContext(local=True,
                                 roles=['admin', 'member', 'reader'])
        # A cloud that is down must show as its own error, not as ours.
        self.api = BakflowAPI(context, self._transport, timeout=600)

    def stop(self) -> None:
        """Interrupt the running flows; they stay resumable."""
        self.conductor.stop(timeout=10)

    def close(self) -> None:
        """Stop, and let go of everything."""
        self.stop()
        self._server.stop()
        self._server.wait()
        self._transport.cleanup()
        self._db.close()


def start(conf: cfg.ConfigOpts) -> Embedded:
    """Open the database, bring its schema up to date, run a conductor.

    :raises BakflowError: what prevents it.
    """
    return Embedded(conf)
