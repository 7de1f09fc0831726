"""Waiting for a flow to end, with progress and an ear for Ctrl-C.

A command that is killed here leaves a flow that can be resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TextIO

from bakflow import errors
from bakflow.cli import progress, report
from bakflow.cli.connection import Client
from bakflow.cli.interrupts import Interrupts

#: A flow in one of these does not go on by itself.
ENDED = ('done', 'held', 'reverted')
_POLL = 0.3


class Waiter:
    """Waits for flows of one connection.

    :param out: for progress and notes; never the result's stream.
    """

    def __init__(self, client: Client, out: TextIO, verbose: int) -> None:
        self._client = client
        self._out = out
        self._show = progress.renderer(out, verbose)

    def run(self, begin: Callable[[], Mapping[str, Any]],
            wait: bool = True) -> tuple[Mapping[str, Any],
                                        Mapping[str, Any]]:
        """Begin something and wait until its flow has ended.

        :param begin: asks the API; its answer has ``flow_id``, or is the
            flow.
        :returns: the answer, and the last look at the flow.
        :raises Stopped: Ctrl-C, or SIGTERM.
        """
        with Interrupts() as interrupts:
            begun = begin()
            flow_id = begun.get('flow_id') or begun['id']
            if not wait:
                return begun, self._client.api.show_flow(flow_id)
            try:
                return begun, self._wait(flow_id, interrupts)
            finally:
                self._show.clear()

    def _wait(self, flow_id: str, interrupts: Interrupts
              ) -> Mapping[str, Any]:
        while True:
            flow: Mapping[str, Any] = self._client.api.show_flow(flow_id)
            if flow['status'] in ENDED:
                return flow
            self._show.show(flow)
            if interrupts.event.wait(_POLL):
                return self._stop(flow_id, interrupts)

    def _stop(self, flow_id: str, interrupts: Interrupts
              ) -> Mapping[str, Any]:
        self._show.clear()
        if not self._client.embedded:
            self._say(f'not waiting any longer; flow {flow_id} goes on at '
                      f'its conductor\n  look:   bakflow flow show '
                      f'{flow_id}\n  cancel: bakflow flow cancel {flow_id}')
            raise report.Stopped(interrupts.exit_code)
        self._say('stopping at the next chunk…'
                  if progress.text.speaks_unicode(self._out)
                  else 'stopping at the next chunk...')
        self._client.stop_requested()
        try:
            flow: Mapping[str, Any] = self._client.api.show_flow(flow_id)
        except errors.BakflowError as exc:
            self._say(f'flow {flow_id} cannot be looked at any more: {exc}')
            flow = {'status': 'queued'}
        if flow['status'] in ENDED:
            return flow
        self._say(f'stopped; nothing is undone\n'
                  f'  go on: bakflow flow resume {flow_id}\n'
                  f'  undo:  bakflow flow abandon {flow_id}')
        raise report.Stopped(interrupts.exit_code)

    def _say(self, words: str) -> None:
        self._out.write(words + '\n')
        self._out.flush()
