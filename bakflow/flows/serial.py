"""A graph whose steps follow each other."""

from __future__ import annotations

import itertools

from taskflow.patterns import graph_flow

from bakflow.tasks.base import Step


def serial(kind: str, *steps: Step) -> graph_flow.Flow:
    """Each step after the one before it; reverted the other way round."""
    flow = graph_flow.Flow(kind)
    flow.add(*steps)
    for before, then in itertools.pairwise(steps):
        flow.link(before, then)
    return flow
