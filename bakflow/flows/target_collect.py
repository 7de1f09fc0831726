"""Free what no backup needs."""

from __future__ import annotations

from taskflow.patterns import graph_flow

from bakflow.flows.serial import serial
from bakflow.tasks import keeping


def build(flow_id: str) -> graph_flow.Flow:
    """open -> collect -> finish"""
    return serial(
        'target-collect',
        keeping.OpenCollect('open', flow_id),
        keeping.CollectGarbage('collect', flow_id),
        keeping.FinishCollect('finish', flow_id),
    )
