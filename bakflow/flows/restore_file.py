"""A backup into a file, a block device or standard output."""

from __future__ import annotations

from taskflow.patterns import graph_flow

from bakflow.flows.serial import serial
from bakflow.tasks import restoring, writing


def build(flow_id: str) -> graph_flow.Flow:
    """open -> write -> finish"""
    return serial(
        'restore-file',
        restoring.OpenRestore('open', flow_id),
        writing.WriteFile('write', flow_id),
        writing.FinishFile('finish', flow_id),
    )
