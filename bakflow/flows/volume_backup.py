"""A volume into a target, by way of snapshot, volume and image."""

from __future__ import annotations

from taskflow.patterns import graph_flow

from bakflow.flows.serial import serial
from bakflow.tasks import cleaning, copying, storing


def build(flow_id: str) -> graph_flow.Flow:
    """open -> snapshot -> volume -> image -> upload -> commit -> cleanup"""
    return serial(
        'volume-backup',
        storing.OpenBackup('open', flow_id),
        copying.MakeSnapshot('snapshot', flow_id),
        copying.MakeVolume('volume', flow_id),
        copying.MakeImage('image', flow_id),
        storing.UploadDisk('upload', flow_id),
        storing.CommitBackup('commit', flow_id),
        cleaning.ReleaseTemporaries('cleanup', flow_id),
    )
