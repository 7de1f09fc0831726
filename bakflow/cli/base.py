"""What all commands share: the connection, errors, exit codes, columns."""

from __future__ import annotations

import argparse
import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from cliff import command, lister, show

from bakflow import errors
from bakflow.cli import connection, report, table
from bakflow.cli.waiting import Waiter

Row = Mapping[str, Any]


class Command(command.Command):
    """A command; errors become lines on stderr and exit code 1."""

    #: Raised above 0 by a command whose result is shown and yet is bad.
    exit_code = 0
    #: Of what is shown, for ``-c`` and ``--sort-column``.
    shown: Sequence[table.Field] = ()

    def run(self, parsed_args: argparse.Namespace) -> int:
        try:
            code = super().run(parsed_args)
        except report.Stopped as exc:
            return exc.exit_code
        except errors.BakflowError as exc:
            if self.app.options.debug:
                self.app.LOG.exception('%s', exc)
            report.write(self.app.stderr, exc)
            return 2 if isinstance(exc, report.UsageError) else 1
        return code or self.exit_code

    @property
    def settings(self) -> Any:
        """The configuration, read on first use."""
        return self.app.settings    # type: ignore[attr-defined]

    @contextlib.contextmanager
    def client(self) -> Iterator[connection.Client]:
        """An open connection."""
        with self.app.connect() as client:  # type: ignore[attr-defined]
            yield client

    def waiter(self, client: connection.Client) -> Waiter:
        """Waits and tells on stderr."""
        return Waiter(client, self.app.stderr,
                      self.app.options.verbose_level)

    def say(self, words: str) -> None:
        """A note beside the result; ``-q`` silences it."""
        if self.app.options.verbose_level:
            self.app.stderr.write(words + '\n')

    def finish(self, client: connection.Client,
               begin: Callable[[], Row], wait: bool = True) -> Row:
        """Run a flow to its end; its answer as the API gave it.

        :raises FlowFailed: it did not end as ``done``.
        """
        begun, flow = self.waiter(client).run(begin, wait)
        if wait and flow['status'] != 'done':
            raise report.FlowFailed(flow)
        return begun


class _Columns(Command):
    """Speaks of columns by label or by name, whatever the format."""

    def produce_output(self, parsed_args: argparse.Namespace,
                       column_names: Sequence[str], data: Any) -> int:
        parsed_args.columns = table.asked(
            parsed_args.columns, self.shown, parsed_args.formatter)
        if getattr(parsed_args, 'sort_columns', None):
            parsed_args.sort_columns = table.asked(
                parsed_args.sort_columns, self.shown, parsed_args.formatter)
        try:
            result = super().produce_output(    # type: ignore[misc]
                parsed_args, column_names, data)
        except ValueError as exc:
            # cliff's answer to a column that is not there
            raise report.UsageError(str(exc)) from exc
        return int(result or 0)


class List(_Columns, lister.Lister):
    """Shows many rows."""

    def rows(self, parsed_args: argparse.Namespace,
             fields: Sequence[table.Field], rows: Iterable[Row]
             ) -> tuple[list[str], list[list[Any]]]:
        """Columns and rows in the format that was asked for."""
        self.shown = fields
        found = list(rows)
        if self._may_leave_out(parsed_args):
            fields = self._that_fit(fields, found)
        return table.many(fields, found, parsed_args.formatter)

    def _may_leave_out(self, args: argparse.Namespace) -> bool:
        return (args.formatter == 'table' and self.app.stdout.isatty()
                and not (args.columns or args.max_width or args.fit_width
                         or args.sort_columns))

    def _that_fit(self, fields: Sequence[table.Field], rows: Sequence[Row]
                  ) -> Sequence[table.Field]:
        room = shutil.get_terminal_size((80, 24)).columns
        fit = table.fitting(fields, rows, room)
        hidden = [f.label for f in fields if f not in fit]
        if hidden and rows:
            self.say(f'no room for: {", ".join(hidden)} (-c NAME shows any, '
                     f'-f json all)')
        return fit

    def produce_output(self, parsed_args: argparse.Namespace,
                       column_names: Sequence[str], data: Any) -> int:
        if (parsed_args.formatter == 'table' and not data
                and not parsed_args.print_empty):
            return 0    # cliff would write an empty line
        return super().produce_output(parsed_args, column_names, data)


class Show(_Columns, show.ShowOne):
    """Shows one thing."""

    def row(self, parsed_args: argparse.Namespace,
            fields: Sequence[table.Field], row: Row
            ) -> tuple[list[str], list[Any]]:
        """Columns and values in the format that was asked for."""
        self.shown = fields
        return table.one(fields, row, parsed_args.formatter)


class Pages(List):
    """Lists with pages: --limit, --marker, --all-projects, --long."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--limit', type=positive, metavar='N',
            help='at most N rows')
        parser.add_argument(
            '--marker', metavar='ID',
            help='begin after this one: the last ID of the page before')
        parser.add_argument(
            '--all-projects', action='store_true',
            help='of every project, for administrators')
        parser.add_argument(
            '--long', action='store_true', help='more columns')
        return parser


def page_of(parsed_args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of :class:`Pages` as the API takes them."""
    return {'limit': parsed_args.limit, 'marker': parsed_args.marker,
            'all_projects': parsed_args.all_projects}


def positive(text: str) -> int:
    """An argument that is a whole number above 0."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number above 0')
    return int(text)


def add_no_wait(parser: argparse.ArgumentParser) -> None:
    """For commands that begin a flow."""
    parser.add_argument(
        '--no-wait', action='store_true',
        help='do not wait for the end; needs a conductor that lives on '
             '(transport_url in the configuration)')
