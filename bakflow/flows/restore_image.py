"""A backup into a new image."""

from __future__ import annotations

from taskflow.patterns import graph_flow

from bakflow.flows.serial import serial
from bakflow.tasks import restoring, sending


def build(flow_id: str) -> graph_flow.Flow:
    """open -> image -> send -> finish"""
    return serial(
        'restore-image',
        restoring.OpenRestore('open', flow_id),
        sending.MakeEmptyImage('image', flow_id),
        sending.SendDisk('send', flow_id),
        restoring.FinishImage('finish', flow_id),
    )
