"""Which fields of backups, restores, flows and targets are shown."""

from __future__ import annotations

from bakflow.cli.table import Field

BACKUPS = (
    Field('id', 'ID'),
    Field('name', 'Name', width=32),
    Field('status', 'Status'),
    Field('volume_name', 'Volume', width=32, spare=4),
    Field('size_bytes', 'Size', 'size', spare=1),
    Field('new_bytes', 'New', 'size', spare=5),
    Field('stored_bytes', 'Stored', 'size', spare=3),
    Field('created_at', 'Created', 'time', spare=2),
)
BACKUPS_LONG = BACKUPS[:4] + (
    Field('volume_id', 'Volume ID'),
    Field('target', 'Target', width=24),
    *BACKUPS[4:5],
    Field('read_bytes', 'Read', 'size'),
    Field('skipped_bytes', 'Skipped', 'size'),
    *BACKUPS[5:7],
    Field('shared_bytes', 'Shared', 'size'),
    Field('project_id', 'Project'),
    *BACKUPS[7:],
    Field('finished_at', 'Finished', 'time'),
    Field('flow_id', 'Flow'),
)
BACKUP = (
    Field('id', 'ID'),
    Field('name', 'Name'),
    Field('status', 'Status'),
    Field('error', 'Error', 'error'),
    Field('volume_name', 'Volume'),
    Field('volume_id', 'Volume ID'),
    Field('target', 'Target'),
    Field('size_bytes', 'Size', 'size'),
    Field('read_bytes', 'Read', 'size'),
    Field('skipped_bytes', 'Skipped (empty)', 'size'),
    Field('new_bytes', 'New', 'size'),
    Field('stored_bytes', 'Stored (new, compressed)', 'size'),
    Field('shared_bytes', 'Shared (with earlier)', 'size'),
    Field('parent_id', 'Compared with'),
    Field('consistency', 'Consistency'),
    Field('created_at', 'Created', 'time'),
    Field('finished_at', 'Finished', 'time'),
    Field('verified_at', 'Verified', 'time'),
    Field('project_id', 'Project'),
    Field('flow_id', 'Flow'),
)
RESTORES = (
    Field('id', 'ID'),
    Field('backup_id', 'Backup', spare=4),
    Field('status', 'Status'),
    Field('to', 'To', width=48),
    Field('bytes_done', 'Written', 'size', spare=3),
    Field('created_at', 'Created', 'time', spare=2),
)
RESTORES_LONG = (
    *RESTORES,
    Field('size_bytes', 'Size', 'size'),
    Field('finished_at', 'Finished', 'time'),
    Field('flow_id', 'Flow'),
)
RESTORE = (
    Field('id', 'ID'),
    Field('backup_id', 'Backup'),
    Field('status', 'Status'),
    Field('error', 'Error', 'error'),
    Field('to', 'To'),
    Field('made', 'Made'),
    Field('size_bytes', 'Size', 'size'),
    Field('bytes_done', 'Written', 'size'),
    Field('created_at', 'Created', 'time'),
    Field('finished_at', 'Finished', 'time'),
    Field('flow_id', 'Flow'),
)
FLOWS = (
    Field('id', 'ID'),
    Field('kind', 'Kind'),
    Field('status', 'Status'),
    Field('resumable', 'Resumable'),
    Field('owner_id', 'For', spare=3),
    Field('error', 'Error', 'error', width=48, spare=1),
    Field('created_at', 'Created', 'time', spare=2),
)
FLOWS_LONG = (
    *FLOWS,
    Field('direction', 'Direction'),
    Field('attempts', 'Attempts'),
    Field('waits_for', 'Waits for', width=48),
    Field('finished_at', 'Finished', 'time'),
    Field('owner', 'Conductor'),
    Field('project_id', 'Project'),
)
FLOW = (
    Field('id', 'ID'),
    Field('kind', 'Kind'),
    Field('status', 'Status'),
    Field('direction', 'Direction'),
    Field('owner_id', 'For'),
    Field('attempts', 'Attempts'),
    Field('run_after', 'Runs after', 'time'),
    Field('waits_for', 'Waits for'),
    Field('resumable', 'Resumable'),
    Field('owner', 'Conductor'),
    Field('created_at', 'Created', 'time'),
    Field('started_at', 'Started', 'time'),
    Field('finished_at', 'Finished', 'time'),
    Field('project_id', 'Project'),
)
TARGETS = (
    Field('name', 'Name', width=32),
    Field('driver', 'Driver'),
    Field('location', 'Location', width=60, spare=3),
    Field('state', 'State', width=48),
    Field('backups', 'Backups'),
    Field('objects', 'Objects', spare=2),
    Field('bytes', 'Size', 'size', spare=1),
)
TARGET = (
    Field('name', 'Name'),
    Field('driver', 'Driver'),
    Field('location', 'Location'),
    Field('state', 'State'),
    Field('store_id', 'Store'),
    Field('deployment', 'Deployment'),
    Field('backups', 'Backups'),
    Field('objects', 'Objects'),
    Field('bytes', 'Size', 'size'),
)
CHECKS = (
    Field('check', 'Check'),
    Field('result', 'Result'),
)
STRAYS = (
    Field('where', 'Where'),
    Field('kind', 'Kind'),
    Field('id', 'ID'),
    Field('name', 'Name', width=48, spare=3),
    Field('verdict', 'Verdict', spare=1),
    Field('what', 'What', width=60, spare=2),
    Field('fixed', 'Fixed'),
)
