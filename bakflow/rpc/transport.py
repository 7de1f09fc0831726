"""Where requests go: topic, exchange, version and transport."""

from __future__ import annotations

from typing import Any

import bakflow.threading_backend  # noqa: F401  isort: skip - first
import oslo_messaging as messaging
from oslo_config import cfg

EXCHANGE = 'bakflow'
TOPIC = 'bakflow-conductor'
VERSION = '1.0'

#: Transport of the embedded default: queues of this process.
EMBEDDED = 'fake://'


def get(conf: cfg.ConfigOpts, url: str | None = None) -> Any:
    """The transport of the configuration, or of ``url``."""
    messaging.set_transport_defaults(EXCHANGE)
    return messaging.get_rpc_transport(conf, url=url)


def target(server: str | None = None) -> Any:
    """Every conductor listens on the topic; the first one free answers."""
    return messaging.Target(topic=TOPIC, server=server, version=VERSION)
