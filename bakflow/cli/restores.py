"""``bakflow restore create|list|show``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import Any

from bakflow.cli import backups, base, connection, fields, report

STDOUT = '-'


class CreateRestore(base.Show):
    """Bring a backup back: to a volume, an image or a file.

    With --to-file - the data goes to standard output and the result to
    standard error.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('backup', help='name or ID')
        where = parser.add_mutually_exclusive_group(required=True)
        where.add_argument('--to-volume', metavar='NEW_NAME',
                           help='to a new volume of this name')
        where.add_argument('--into-volume', metavar='NAME_OR_ID',
                           help='over an available volume; all that it '
                                'holds is lost; needs --yes')
        where.add_argument('--to-image', metavar='NAME',
                           help='to a new image of this name')
        where.add_argument('--to-file', metavar='PATH',
                           help='to a new file or a device of this host; '
                                '- is standard output')
        parser.add_argument('--yes', action='store_true',
                            help='overwrite the volume, or the device of '
                                 '--to-file')
        parser.add_argument('--type', metavar='TYPE',
                            help='volume type of the new volume (default: '
                                 'as it was saved)')
        parser.add_argument('--availability-zone', metavar='ZONE',
                            help='of the new volume (default: as it was '
                                 'saved)')
        parser.add_argument('--on-failure', choices=('hold', 'revert'),
                            help='as of backup create')
        parser.add_argument('--dry-run', action='store_true',
                            help='only show what would be done')
        parser.add_argument('--idempotency-key', metavar='KEY',
                            help='the same key twice is one restore')
        base.add_no_wait(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        args = parsed_args
        destination = destination_of(args)
        if not args.dry_run:
            self._allow(args)
        with self.client() as client:
            if args.dry_run:
                return backups.show_preview(self, args, client.api.preview(
                    'restore', {
                        'backup': args.backup, 'destination': destination,
                        'volume_type': args.type,
                        'availability_zone': args.availability_zone}))
            if args.to_file == STDOUT:
                # the bytes of the disk are there; nothing else may be
                self.app.stdout = self.app.stderr
            begun = self.finish(client, lambda: client.api.create_restore(
                args.backup, destination, volume_type=args.type,
                availability_zone=args.availability_zone,
                on_failure=on_failure(args),
                idempotency_key=args.idempotency_key), not args.no_wait)
            restore = client.api.show_restore(begun['id'])
            if not args.no_wait and restore['status'] != 'done':
                flow = client.api.show_flow(begun['flow_id'])
                raise report.FlowFailed(
                    {**flow, 'error': flow.get('error')
                     or restore.get('error')},
                    f'restore {restore["id"]} is {restore["status"]}')
        return self.row(args, fields.RESTORE, told(restore))

    def _allow(self, args: argparse.Namespace) -> None:
        """Refuse what would surprise, before anything is made."""
        if args.no_wait:
            connection.refuse_no_wait(self.settings)
        if args.into_volume and not args.yes:
            raise report.UsageError(
                f'all that volume {args.into_volume} holds would be lost',
                hint='add --yes, or restore with --to-volume')
        if args.to_file is None:
            return
        connection.refuse_files(self.settings)
        if args.to_file == STDOUT:
            if self.app.stdout.isatty():
                raise report.UsageError(
                    'a disk is not written to a terminal',
                    hint='redirect the output: > FILE, or | COMMAND')
        else:
            check_path(args.to_file, args.yes)


class ListRestores(base.Pages):
    """List restores, the newest first."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('--backup', metavar='NAME_OR_ID',
                            help='only of this backup')
        parser.add_argument('--status', help='only in this status')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        with self.client() as client:
            found = client.api.list_restores(
                backup=parsed_args.backup, status=parsed_args.status,
                **base.page_of(parsed_args))
        return self.rows(
            parsed_args,
            fields.RESTORES_LONG if parsed_args.long else fields.RESTORES,
            [told(r) for r in found])


class ShowRestore(base.Show):
    """Show a restore."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('restore', help='ID')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        with self.client() as client:
            found = client.api.show_restore(parsed_args.restore)
        return self.row(parsed_args, fields.RESTORE, told(found))


def destination_of(args: argparse.Namespace) -> dict[str, str]:
    """Where to, as the API takes it.

    :raises UsageError: options that do not go together.
    """
    if args.to_volume is None and (args.type or args.availability_zone):
        raise report.UsageError(
            '--type and --availability-zone are of a new volume',
            hint='use them with --to-volume')
    if args.to_volume is not None:
        return {'kind': 'new-volume', 'name': args.to_volume}
    if args.into_volume is not None:
        return {'kind': 'existing-volume', 'volume_id': args.into_volume}
    if args.to_image is not None:
        return {'kind': 'image', 'name': args.to_image}
    path = args.to_file
    return {'kind': 'file',
            'path': path if path == STDOUT else os.path.abspath(path)}


def on_failure(args: argparse.Namespace) -> str | None:
    """A stream that broke off cannot go on: nothing to hold for."""
    if args.to_file == STDOUT and args.on_failure is None:
        return 'revert'
    return args.on_failure


def check_path(path: str, overwrite: bool) -> None:
    """Refuse what the flow would refuse, or could not take back.

    :raises UsageError: a file is there, or a device and no --yes.
    """
    hint = 'give a path where nothing is'
    if os.path.isfile(path) or os.path.isdir(path):
        raise report.UsageError(f'{path} exists already', hint=hint)
    if os.path.exists(path) and not overwrite:
        raise report.UsageError(f'all that {path} holds would be lost',
                                hint=f'add --yes, or {hint}')
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise report.UsageError(f'there is no folder {folder}', hint=hint)


def told(restore: Mapping[str, Any]) -> dict[str, Any]:
    """A restore with its destination and result in words beside them."""
    to = restore.get('destination') or {}
    named = to.get('name') or to.get('volume_id') or to.get('path') or ''
    where = ('standard output' if named == STDOUT
             else f'{to.get("kind", "")} {named}'.strip())
    made = {k: v for k, v in (restore.get('result') or {}).items()
            if v != STDOUT}
    return {**restore,
            'to': where or None,
            'made': ', '.join(f'{k.removesuffix("_id")} {v}'
                              for k, v in made.items()
                              if isinstance(v, str)) or None}
