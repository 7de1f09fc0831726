"""Conductors behind a broker. This version has no daemon yet."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from oslo_config import cfg

from bakflow import errors


def connect(conf: cfg.ConfigOpts) -> AbstractContextManager[Any]:
    """Refuse, before a request is sent that nobody would answer.

    :raises ConfigError: always.
    """
    del conf
    raise errors.ConfigError(
        'transport_url is set, but this version of bakflow has no conductor '
        'daemon', hint='leave transport_url out: the command runs a '
                       'conductor in its own process')
