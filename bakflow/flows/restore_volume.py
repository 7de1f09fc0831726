"""A backup into a new volume, by way of a temporary image."""

from __future__ import annotations

from taskflow.patterns import graph_flow

from bakflow.flows.serial import serial
from bakflow.tasks import cleaning, restoring, sending


def build(flow_id: str) -> graph_flow.Flow:
    """open -> image -> send -> volume -> mend -> finish -> cleanup"""
    return serial(
        'restore-volume',
        restoring.OpenRestore('open', flow_id),
        sending.MakeEmptyImage('image', flow_id),
        sending.SendDisk('send', flow_id),
        restoring.MakeTarget('volume', flow_id),
        restoring.MendTarget('mend', flow_id),
        restoring.FinishVolume('finish', flow_id),
        cleaning.ReleaseTemporaries('cleanup', flow_id),
    )
