"""``bakflow target list|show|check|collect``."""

from __future__ import annotations

import argparse
from typing import Any

from bakflow.cli import base, connection, fields
from bakflow.cli.table import Field

_COLLECTED = (*fields.FLOW[:3], Field('objects_freed', 'Objects freed'),
              Field('bytes_freed', 'Freed', 'size'), *fields.FLOW[10:13])


class ListTargets(base.List):
    """List the configured targets."""

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        with self.client() as client:
            found = client.api.list_targets()
        return self.rows(parsed_args, fields.TARGETS, found)


class _OfOne(base.Command):
    """A command with the name of a target."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('target', help='name')
        return parser


class ShowTarget(_OfOne, base.Show):
    """Show a target."""

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        with self.client() as client:
            found = client.api.show_target(parsed_args.target)
        return self.row(parsed_args, fields.TARGET, found)


class CheckTarget(_OfOne, base.List):
    """Try what a target must be able to do; exits with 1 if it is not."""

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        with self.client() as client:
            found = client.api.check_target(parsed_args.target)
        if not found['ok']:
            self.exit_code = 1
        return self.rows(parsed_args, fields.CHECKS, found['checks'])


class CollectTarget(_OfOne, base.Show):
    """Free the space of what no backup needs any more."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        base.add_no_wait(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        args = parsed_args
        if args.no_wait:
            connection.refuse_no_wait(self.settings)
        with self.client() as client:
            begun = self.finish(
                client, lambda: client.api.collect_target(args.target),
                not args.no_wait)
            flow = client.api.show_flow(begun.get('flow_id') or begun['id'])
        freed = flow.get('report') or {}
        return self.row(args, _COLLECTED, {
            **flow, **{k: v for k, v in freed.items() if k not in flow}})
