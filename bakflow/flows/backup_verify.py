"""Read a backup, all of it."""

from __future__ import annotations

from taskflow.patterns import graph_flow

from bakflow.flows.serial import serial
from bakflow.tasks import keeping


def build(flow_id: str) -> graph_flow.Flow:
    """open -> read -> finish"""
    return serial(
        'backup-verify',
        keeping.OpenVerify('open', flow_id),
        keeping.ReadBackup('read', flow_id),
        keeping.FinishVerify('finish', flow_id),
    )
