"""Reads the configuration for a command."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from oslo_config import cfg

from bakflow import conf as bakflow_conf
from bakflow import errors


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a command needs to know before it connects.

    :ivar conf: all options.
    :ivar remote: ``transport_url`` names a broker: the conductors are other
        processes. Without it the work is done in this one.
    """

    conf: Any
    remote: bool


def read(files: Sequence[str] | None, os_cloud: str | None) -> Settings:
    """The configuration, with ``--os-cloud`` above what the files say.

    :raises ConfigError: a file is missing, unreadable or wrong.
    """
    for path in files or ():
        if not os.path.exists(path):
            raise errors.ConfigError(f'there is no file {path}',
                                     hint='give another --config-file')
    try:
        remote = _names_a_broker(files)
        conf = bakflow_conf.setup([], files)
        _check(conf)
    except cfg.Error as exc:
        raise errors.ConfigError(
            f'the configuration cannot be used: {exc}') from exc
    if os_cloud:
        conf.set_override('cloud', os_cloud, group='cloud')
    return Settings(conf, remote)


def _check(options: Mapping[str, Any]) -> None:
    """Read every value once: a wrong one is an error of its reader only.

    :raises cfg.Error: a value is not of its type.
    """
    for name in options:
        value = options[name]
        if isinstance(value, cfg.ConfigOpts.GroupAttr):
            _check(value)


def _names_a_broker(files: Sequence[str] | None) -> bool:
    """Whether ``transport_url`` is set.

    Once oslo.messaging has registered the option it has a default, and
    importing that takes half a second: so it is read apart.
    """
    probe = cfg.ConfigOpts()
    probe.register_opt(cfg.StrOpt('transport_url', secret=True))
    probe([], project='bakflow',
          default_config_files=None if files is None else list(files))
    return bool(probe.transport_url)
