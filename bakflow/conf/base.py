"""Options of ``[DEFAULT]`` and ``[database]``."""

from __future__ import annotations

import platformdirs
from oslo_config import cfg

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'state_path', default=platformdirs.user_data_dir('bakflow'),
        sample_default='~/.local/share/bakflow',
        help='Folder for what bakflow keeps on this host: the SQLite '
             'database, the target "local" and its key.'),
    cfg.ListOpt(
        'enabled_targets', default=['local'],
        help='Names of the targets; each is configured in a group of its '
             'own name.'),
    cfg.StrOpt(
        'default_target',
        help='The target of a backup that names none. Default: the first of '
             'enabled_targets.'),
]

DATABASE: list[cfg.Opt] = [
    cfg.StrOpt(
        'connection', secret=True,
        help='SQLAlchemy URL of the database. Default: SQLite in '
             'state_path, for one host. '
             'postgresql+psycopg://… and mysql+pymysql://… for several.'),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options known to ``conf``."""
    conf.register_opts(OPTS)
    conf.register_opts(DATABASE, group='database')


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """For the sample configuration."""
    return [('DEFAULT', OPTS), ('database', DATABASE)]
