"""``bakflow --help`` and ``bakflow help``: every command on one line."""

from __future__ import annotations

import argparse
from typing import Any, TextIO

from cliff import help as cliff_help


def write(app: Any, out: TextIO) -> None:
    """The global options and all commands, in columns that fit."""
    app.parser.print_help(out)
    lines = []
    for name, entry in sorted(app.command_manager):
        try:
            told = entry.load()(app, None).get_description()
        except Exception as exc:    # noqa: BLE001 - somebody else's plugin
            told = f'(cannot be loaded: {exc})'
        lines.append((name, told.split('\n')[0].rstrip('.')))
    width = max(len(name) for name, _ in lines)
    out.write('\nCommands:\n')
    for name, told in lines:
        out.write(f'  {name:<{width}}  {told[:1].upper()}{told[1:]}\n')
    out.write(f'\n{app.NAME} help COMMAND tells more about one.\n')


class Help(cliff_help.HelpCommand):
    """Show all commands, or what one of them takes."""

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        if not parsed_args.cmd:
            write(self.app, self.app.stdout)
            return 0
        return super().take_action(parsed_args)
