"""``bakflow flow list|show|resume|abandon|cancel``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from bakflow.cli import base, connection, fields, graph, report, text


class ListFlows(base.Pages):
    """List flows, the newest first; those to resume say so."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('--status', help='only in this status')
        parser.add_argument('--kind', help='only of this kind')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        with self.client() as client:
            found = client.api.list_flows(
                status=parsed_args.status, kind=parsed_args.kind,
                **base.page_of(parsed_args))
        return self.rows(
            parsed_args,
            fields.FLOWS_LONG if parsed_args.long else fields.FLOWS, found)


class _Drawn(base.Show):
    """Shows a flow: the fields, and for people the graph below them."""

    _flow: Mapping[str, Any] | None = None

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('flow', help='ID')
        return parser

    def of(self, args: argparse.Namespace, flow: Mapping[str, Any]) -> Any:
        """Columns of a flow; the graph is drawn after them."""
        self._flow = flow
        shown = dict(flow)
        if args.formatter == 'table' and flow['status'] != 'queued':
            shown['run_after'] = None
        return self.row(args, fields.FLOW, shown)

    def produce_output(self, parsed_args: argparse.Namespace,
                       column_names: Sequence[str], data: Any) -> int:
        asked = bool(parsed_args.columns)
        code = super().produce_output(parsed_args, column_names, data)
        if (parsed_args.formatter == 'table' and not asked
                and self._flow is not None):
            out = self.app.stdout
            for line in graph.draw(self._flow, text.speaks_unicode(out)):
                out.write(line + '\n')
        return code


class ShowFlow(_Drawn):
    """Show a flow: its steps, their states, times and errors."""

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        with self.client() as client:
            return self.of(parsed_args,
                           client.api.show_flow(parsed_args.flow))


class _Moved(_Drawn):
    """Tells a flow to do something and waits until it has ended."""

    #: In which the flow must end for this command to have done its work.
    good: tuple[str, ...] = ()
    method = ''

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        base.add_no_wait(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        if parsed_args.no_wait:
            connection.refuse_no_wait(self.settings)
        wait = not parsed_args.no_wait
        with self.client() as client:
            move = getattr(client.api, self.method)
            begun, flow = self.waiter(client).run(
                lambda: move(parsed_args.flow), wait)
        if wait and not self.is_good(begun, flow):
            raise report.FlowFailed(flow)
        return self.of(parsed_args, flow)

    def is_good(self, begun: Mapping[str, Any], flow: Mapping[str, Any]
                ) -> bool:
        """Whether the flow is where it was sent, and left nothing."""
        return flow['status'] in self.good and not report.orphans(flow)


class ResumeFlow(_Moved):
    """Go on with a flow that was stopped, killed or is held."""

    good = ('done',)
    method = 'resume_flow'

    def is_good(self, begun: Mapping[str, Any], flow: Mapping[str, Any]
                ) -> bool:
        if begun.get('direction') == 'revert':
            # it was on its way back, and so ends by being undone
            return flow['status'] == 'reverted' and not report.orphans(flow)
        return super().is_good(begun, flow)


class AbandonFlow(_Moved):
    """Undo a flow: delete all that it made.

    A backup that is already complete is kept; only the cleanup is finished.
    """

    good = ('reverted', 'done')
    method = 'abandon_flow'


class CancelFlow(_Moved):
    """Stop a flow that runs, and undo it."""

    good = ('reverted', 'done')
    method = 'cancel_flow'
