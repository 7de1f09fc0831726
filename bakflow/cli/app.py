"""The cliff application: global options, logging, the connection.

``bakflow --help`` imports this and every module of commands, so none of them
imports more than cliff before it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cliff import app, commandmanager

from bakflow.cli import helping

if TYPE_CHECKING:
    from bakflow.cli.connection import Client
    from bakflow.cli.settings import Settings

GROUP = 'bakflow.cli'
_DESCRIPTION = ('Backups of OpenStack volumes, instances and images. '
                'Without transport_url in the configuration the work is '
                'done in this process.')


class BakflowApp(app.App):
    """``bakflow``."""

    NAME = 'bakflow'
    LOG = logging.getLogger(NAME)

    def __init__(self, **streams: Any) -> None:
        super().__init__(
            _DESCRIPTION, version(),
            commandmanager.CommandManager(GROUP),
            deferred_help=True, **streams)
        self.command_manager.add_command('help', helping.Help)
        self._settings: Settings | None = None

    def build_option_parser(
            self, description: str | None, version: str | None,
            argparse_kwargs: dict[str, Any] | None = None
    ) -> argparse.ArgumentParser:
        # no abbreviations: they would take options of the commands away
        parser = super().build_option_parser(
            description, version,
            {'allow_abbrev': False, 'prog': self.NAME,
             **(argparse_kwargs or {})})
        parser.add_argument(
            '--config-file', action='append', metavar='FILE',
            help='configuration file; may be repeated')
        parser.add_argument(
            '--os-cloud', metavar='NAME',
            help='entry of clouds.yaml to work with (default: [cloud] cloud '
                 'of the configuration, then OS_CLOUD)')
        return parser

    def configure_logging(self) -> None:
        """Warnings of bakflow; with -v all of it, with --debug everything.

        Tracebacks are shown with --debug only.
        """
        level = {0: logging.ERROR, 1: logging.WARNING, 2: logging.INFO}.get(
            self.options.verbose_level, logging.DEBUG)
        root = logging.getLogger()
        handler = logging.StreamHandler(self.stderr)
        if self.options.debug:
            level = logging.DEBUG
            handler.setFormatter(logging.Formatter(
                '%(asctime)s %(levelname)s %(name)s: %(message)s'))
        else:
            handler.setFormatter(_NoTraceback('%(levelname)s: %(message)s'))
            if level > logging.INFO:
                handler.addFilter(logging.Filter(self.NAME))
        handler.setLevel(level)
        root.addHandler(handler)
        if self.options.log_file:
            kept = logging.FileHandler(self.options.log_file)
            kept.setFormatter(logging.Formatter(
                self.LOG_FILE_MESSAGE_FORMAT))
            root.addHandler(kept)
            level = min(level, logging.INFO)
        root.setLevel(level)

    def interact(self) -> None:
        """There is no shell of its own: show what there is."""
        helping.write(self, self.stderr)
        raise SystemExit(2)

    def print_help_if_requested(self) -> None:
        """``--help`` without a command."""
        if self.options.deferred_help:
            helping.write(self, self.stdout)
            raise SystemExit(0)

    @property
    def settings(self) -> Settings:
        """The configuration, read on first use.

        :raises ConfigError: a file that is missing or wrong.
        """
        if self._settings is None:
            from bakflow.cli import settings
            self._settings = settings.read(self.options.config_file,
                                           self.options.os_cloud)
        return self._settings

    @contextlib.contextmanager
    def connect(self) -> Iterator[Client]:
        """The connection of a command."""
        from bakflow.cli import connection
        with connection.open(self.settings) as client:
            yield client


class _NoTraceback(logging.Formatter):
    """Only the message: a traceback tells users nothing."""

    def format(self, record: logging.LogRecord) -> str:
        return f'{record.levelname.lower()}: {record.getMessage()}'


def version() -> str:
    """Of the installed package."""
    try:
        return importlib.metadata.version('bakflow')
    except importlib.metadata.PackageNotFoundError:
        return 'unknown: not installed'


def run(argv: list[str] | None = None) -> int:
    """Run one command line; the exit code."""
    return BakflowApp().run(sys.argv[1:] if argv is None else argv)
