"""Configuration: one module for each group, registered in one place."""

from __future__ import annotations

from collections.abc import Sequence

from oslo_config import cfg

from bakflow.conf import base, cloud, conductor, targets

#: oslo.messaging reads some of its options from the global object only.
CONF = cfg.CONF

_MODULES = (base, cloud, conductor)


def setup(args: Sequence[str] = (),
          config_files: Sequence[str] | None = None) -> cfg.ConfigOpts:
    """Read the configuration files and make every option known.

    :param config_files: None looks where OpenStack services look
        (``~/.bakflow/bakflow.conf``, ``/etc/bakflow/bakflow.conf`` ...).
    """
    for module in _MODULES:
        module.register_opts(CONF)
    CONF(list(args), project='bakflow',
         default_config_files=(None if config_files is None
                               else list(config_files)))
    for name in CONF.enabled_targets:
        targets.register_opts(CONF, name)
    return CONF


def list_opts() -> list[tuple[object, list[cfg.Opt]]]:
    """All options, for the sample configuration."""
    found: list[tuple[object, list[cfg.Opt]]] = []
    for module in (base, conductor, targets, cloud):
        found += module.list_opts()
    return found
