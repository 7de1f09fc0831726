"""Forget a backup."""

from __future__ import annotations

from taskflow.patterns import graph_flow

from bakflow.flows.serial import serial
from bakflow.tasks import keeping


def build(flow_id: str) -> graph_flow.Flow:
    """open -> remove -> finish"""
    return serial(
        'backup-delete',
        keeping.OpenDelete('open', flow_id),
        keeping.RemoveBackup('remove', flow_id),
        keeping.FinishDelete('finish', flow_id),
    )
