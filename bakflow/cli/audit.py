"""``bakflow audit``: what is left behind, and where the records disagree."""

from __future__ import annotations

import argparse
from typing import Any

from bakflow.cli import base, fields


class Audit(base.List):
    """Compare the cloud, the ledger and the targets.

    Exits with 1 when something is left that should not be.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--fix', action='store_true',
            help='delete what is provably of this deployment and not needed')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        with self.client() as client:
            found = client.api.audit(fix=parsed_args.fix)
        strays = found['strays']
        if not found['clean']:
            self.exit_code = 1
            self.say(f'not clean: {len(strays)} found'
                     + ('' if parsed_args.fix else
                        '; bakflow audit --fix deletes what is ours and not '
                        'needed'))
        else:
            self.say('clean: nothing is left behind')
        return self.rows(parsed_args, fields.STRAYS, strays)
