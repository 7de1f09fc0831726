"""``bakflow backup create|list|show|delete|verify``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from bakflow import errors
from bakflow.cli import base, connection, fields, preview, report, text
from bakflow.cli.table import Field

_DELETED = (Field('id', 'ID'), Field('name', 'Name'),
            Field('status', 'Status'), Field('flow_id', 'Flow'))


class CreateBackup(base.Show):
    """Back a volume up.

    Only what changed since the last backup of the volume is stored. Every
    backup is whole by itself. An attached volume is backed up as it is at
    this moment, like a disk after a power cut.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('--volume', required=True,
                            metavar='NAME_OR_ID', help='what to back up')
        parser.add_argument('--target', help='where to (default: the '
                            'default target of the configuration)')
        parser.add_argument('--name', help='a name for the backup')
        parser.add_argument(
            '--image-format', choices=('auto', 'raw', 'qcow2'),
            help='how Glance carries the data; auto takes raw, or qcow2 for '
                 'a mostly empty volume or a content refused as raw')
        parser.add_argument(
            '--on-failure', choices=('hold', 'revert'),
            help='after a failure that would only come again: keep all for '
                 'an operator who resumes, or undo (default: hold)')
        parser.add_argument('--dry-run', action='store_true',
                            help='only show what would be done')
        parser.add_argument('--idempotency-key', metavar='KEY',
                            help='the same key twice is one backup')
        base.add_no_wait(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        args = parsed_args
        if args.no_wait and not args.dry_run:
            connection.refuse_no_wait(self.settings)
        with self.client() as client:
            if args.dry_run:
                return show_preview(self, args, client.api.preview(
                    'backup', {
                        'volume': args.volume, 'target': args.target,
                        'name': args.name,
                        'image_format': args.image_format}))
            begun = self.finish(client, lambda: client.api.create_backup(
                args.volume, target=args.target, name=args.name,
                image_format=args.image_format, on_failure=args.on_failure,
                idempotency_key=args.idempotency_key), not args.no_wait)
            backup = client.api.show_backup(begun['id'])
            if not args.no_wait and backup['status'] != 'available':
                raise failed(client, begun, backup)
            return self.row(args, fields.BACKUP, backup)


class ListBackups(base.Pages):
    """List backups, the newest first."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('--volume', metavar='NAME_OR_ID',
                            help='only of this volume')
        parser.add_argument('--status', help='only in this status')
        parser.add_argument('--target', help='only in this target')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        with self.client() as client:
            found = client.api.list_backups(
                volume=parsed_args.volume, status=parsed_args.status,
                target=parsed_args.target, **base.page_of(parsed_args))
        return self.rows(
            parsed_args,
            fields.BACKUPS_LONG if parsed_args.long else fields.BACKUPS,
            found)


class ShowBackup(base.Show):
    """Show a backup: what it holds and what it cost."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('backup', help='name or ID')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        with self.client() as client:
            backup = client.api.show_backup(parsed_args.backup)
        return self.row(parsed_args, _with_document(parsed_args),
                        spread(backup) if parsed_args.formatter == 'table'
                        else backup)


class DeleteBackup(base.List):
    """Delete backups; any, in any order.

    The others stay whole. The space is freed by target collect.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('backups', nargs='+', metavar='backup',
                            help='names or IDs')
        base.add_no_wait(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        if parsed_args.no_wait:
            connection.refuse_no_wait(self.settings)
        rows = []
        with self.client() as client:
            for wanted in parsed_args.backups:
                try:
                    rows.append(self._delete(client, wanted,
                                             not parsed_args.no_wait))
                except errors.BakflowError as exc:
                    # the others can still be deleted
                    report.write(self.app.stderr, exc)
                    self.exit_code = 1
        return self.rows(parsed_args, _DELETED, rows)

    def _delete(self, client: connection.Client, wanted: str, wait: bool
                ) -> Mapping[str, Any]:
        begun = self.finish(
            client, lambda: client.api.delete_backup(wanted), wait)
        if not wait:
            return begun
        return {**begun, 'status': 'deleted'}


class VerifyBackup(base.Show):
    """Read every byte of a backup and check it.

    Exits with 1 and names the damages when there are any.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('backup', help='name or ID')
        base.add_no_wait(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        args = parsed_args
        if args.no_wait:
            connection.refuse_no_wait(self.settings)
        with self.client() as client:
            begun = self.finish(
                client, lambda: client.api.verify_backup(args.backup),
                not args.no_wait)
            backup = client.api.show_backup(begun['id'])
        damages = backup.get('damages') or []
        if not args.no_wait and (damages
                                 or backup['status'] != 'available'):
            self.exit_code = 1
            self._tell(backup, damages)
        return self.row(args, fields.BACKUP, backup)

    def _tell(self, backup: Mapping[str, Any], damages: list[Any]) -> None:
        out = self.app.stderr
        out.write(f'error: backup {backup["id"]} is damaged: '
                  f'{len(damages)} found\n')
        for damage in damages:
            out.write('  ' + text.clean(_damage(damage)) + '\n')
        out.write('  what to do: restore from another backup, or mend the '
                  'target from a copy and verify again\n')


def _damage(damage: Any) -> str:
    if not isinstance(damage, Mapping):
        return text.plain(damage)
    told = f'{damage.get("object")}: {damage.get("reason")}'
    if damage.get('length'):
        told += (f' (disk {damage.get("disk")}, {damage["length"]} bytes at '
                 f'{damage.get("offset")})')
    return told


def failed(client: connection.Client, begun: Mapping[str, Any],
           backup: Mapping[str, Any]) -> report.FlowFailed:
    """A flow that is done and yet has left no usable result."""
    flow = client.api.show_flow(begun['flow_id'])
    return report.FlowFailed(
        {**flow, 'error': flow.get('error') or backup.get('error')},
        f'backup {backup["id"]} is {backup["status"]}')


def show_preview(command: base.Show, args: argparse.Namespace,
                 found: Mapping[str, Any]) -> Any:
    """The result of ``--dry-run``; exit code 1 when a limit is too low."""
    if preview.short_of(found):
        command.exit_code = 1
    row = preview.told(found) if args.formatter == 'table' else found
    return command.row(args, preview.FIELDS, row)


_SAVED = (
    Field('volume_description', 'Volume description'),
    Field('volume_type', 'Volume type'),
    Field('volume_zone', 'Availability zone'),
    Field('volume_bootable', 'Bootable'),
    Field('volume_metadata', 'Volume metadata'),
    Field('damages_count', 'Damages'),
)


def _with_document(args: argparse.Namespace) -> tuple[Field, ...]:
    return (*fields.BACKUP, *_SAVED) if args.formatter == 'table' else (
        fields.BACKUP)


def spread(backup: Mapping[str, Any]) -> dict[str, Any]:
    """A backup with what it knows of its volume as fields of their own."""
    document = backup.get('document') or {}
    return {
        **backup,
        'volume_description': document.get('description') or None,
        'volume_type': document.get('type') or document.get('volume_type'),
        'volume_zone': (document.get('az')
                        or document.get('availability_zone')),
        'volume_bootable': document.get('bootable'),
        'volume_metadata': document.get('metadata') or None,
        'damages_count': len(backup.get('damages') or ()) or None}
