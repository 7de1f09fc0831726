"""A backup over an existing volume, by way of a temporary image."""

from __future__ import annotations

from taskflow.patterns import graph_flow

from bakflow.flows.serial import serial
from bakflow.tasks import cleaning, reimaging, restoring, sending


def build(flow_id: str) -> graph_flow.Flow:
    """open -> image -> send -> reimage -> mend -> finish -> cleanup"""
    return serial(
        'restore-reimage',
        restoring.OpenRestore('open', flow_id),
        sending.MakeEmptyImage('image', flow_id),
        sending.SendDisk('send', flow_id),
        reimaging.WriteOver('reimage', flow_id),
        reimaging.MendOver('mend', flow_id),
        reimaging.FinishOver('finish', flow_id),
        cleaning.ReleaseTemporaries('cleanup', flow_id),
    )
