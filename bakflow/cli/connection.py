"""The way to ``rpc.api``: a broker's, or a conductor in this process.

Everything heavy is imported when a connection is opened, never before.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bakflow import errors
from bakflow.cli import report

if TYPE_CHECKING:
    from bakflow.cli.settings import Settings


class Client:
    """An open connection.

    :ivar api: ``bakflow.rpc.api.BakflowAPI`` or what answers like it.
    """

    def __init__(self, api: Any, running: Any = None) -> None:
        self.api = api
        self._running = running

    @property
    def embedded(self) -> bool:
        """The conductor is in this process and ends with it."""
        return self._running is not None

    def stop_requested(self) -> None:
        """Let the embedded conductor stop its flows at the next chunk.

        Returns when it has, after 10 seconds at most. Flows stay resumable.
        """
        if self._running is not None:
            self._running.stop()


@contextlib.contextmanager
def open(settings: Settings) -> Iterator[Client]:   # noqa: A001
    """Connect as the configuration says, for one command.

    :raises BakflowError: no conductor, no database, a wrong option.
    """
    if settings.remote:
        with _remote(settings) as api:
            yield Client(api)
        return
    from bakflow.cli import embedded
    running = embedded.start(settings.conf)
    try:
        yield Client(running.api, running)
    finally:
        running.close()


@contextlib.contextmanager
def _remote(settings: Settings) -> Iterator[Any]:
    from bakflow.context import RequestContext
    from bakflow.rpc import transport
    from bakflow.rpc.api import BakflowAPI
    project = os.environ.get('OS_PROJECT_ID')
    if not project:
        raise errors.ConfigError(
            'a conductor behind transport_url must be told the project',
            hint='set OS_PROJECT_ID')
    line = transport.get(settings.conf)
    try:
        yield BakflowAPI(
            RequestContext(project_id=project, roles=['member', 'reader']),
            line)
    finally:
        line.cleanup()


def refuse_no_wait(settings: Settings) -> None:
    """Say that nobody would do the work, before anything is made.

    :raises UsageError: there is no broker.
    """
    if not settings.remote:
        raise report.UsageError(
            '--no-wait needs a conductor that lives on, and the one of this '
            'command ends with it',
            hint='leave --no-wait out, or set transport_url in the '
                 'configuration file and run a conductor')


def refuse_files(settings: Settings) -> None:
    """A conductor elsewhere cannot write files of this host.

    :raises UsageError: there is a broker.
    """
    if settings.remote:
        raise report.UsageError(
            '--to-file needs a conductor in this process: one elsewhere '
            'would write to its own host',
            hint='restore to an image or a volume, or use a configuration '
                 'file without transport_url that names the same database '
                 'and targets')
