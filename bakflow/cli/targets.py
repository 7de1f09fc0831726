"""``bakflow target list|show|check|collect``."""

from __future__ import annotations

import argparse
from typing import Any

from bakflow.cli import base, connection, fields, text
from bakflow.cli.table import Field

_COLLECTED = (*fields.FLOW[:3], Field('removed', 'Objects removed'),
              Field('freed', 'Freed', 'size'), Field('blocked', 'Blocked'),
              *fields.FLOW[10:13])


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
        found = flow.get('report') or {}
        for domain, why in (found.get('blocked') or {}).items():
            # what is not known to be garbage is kept: say so
            self.exit_code = 1
            self.app.stderr.write(text.clean(
                f'error: nothing was freed of project {domain}: {why}')
                + '\n')
        return self.row(args, _COLLECTED, {
            **flow, 'removed': found.get('removed'),
            'freed': found.get('freed'),
            'blocked': found.get('blocked') or None})
