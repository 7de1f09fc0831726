"""Options of each target: a group named as the target."""

from __future__ import annotations

from oslo_config import cfg

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'driver', default='filesystem', choices=['filesystem'],
        help='Kind of the target.'),
    cfg.StrOpt(
        'path',
        help='Folder of a filesystem target. Default: '
             'STATE_PATH/targets/NAME.'),
    cfg.StrOpt(
        'key_file',
        help='File with the key that opens the store, mode 0600. Made on '
             'first use when it is in STATE_PATH/keys (the default). '
             'Whoever loses it loses every backup in the target.'),
]


def register_opts(conf: cfg.ConfigOpts, name: str) -> None:
    """Make the options of the target ``name`` known to ``conf``."""
    conf.register_opts(OPTS, group=name)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """For the sample configuration: the target that is always there."""
    return [('local', OPTS)]
