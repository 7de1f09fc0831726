"""A simulated OpenStack over real HTTP with real bytes and faults on demand.

Keystone v3, Cinder v3 and Glance v2, enough for the real openstacksdk, on one
loopback port. What it answers was recorded from Cinder 29, Glance 33 and
Keystone 30; ``tests/contract`` runs the same calls against both. For the demo
and for tests only: its state lives in memory and ends with the process.
"""

from bakflow.devcloud.cloud import DevCloud
from bakflow.devcloud.faults import Fault

__all__ = ['DevCloud', 'Fault']
