"""Options of ``[conductor]``: leases, limits, deadlines."""

from __future__ import annotations

from oslo_config import cfg

GROUP = 'conductor'

OPTS = [
    cfg.IntOpt(
        'lease', default=60, min=6,
        help='Seconds that a claim on a flow lasts without renewal. After '
             'that another conductor may take the flow.'),
    cfg.IntOpt(
        'heartbeat', default=10, min=1,
        help='Seconds between renewals. A conductor that cannot renew for '
             'two thirds of the lease stops its flows.'),
    cfg.FloatOpt(
        'poll', default=1.0, min=0.05,
        help='Seconds between looks for work.'),
    cfg.IntOpt(
        'max_flows', default=4, min=1,
        help='Flows that one conductor runs at the same time.'),
    cfg.IntOpt(
        'max_attempts', default=5, min=1,
        help='Times that a transient failure is tried again before the flow '
             'is held for an operator.'),
    cfg.IntOpt(
        'retry_delay', default=15, min=0,
        help='Seconds before the first new attempt; doubled each time, up '
             'to 15 minutes.'),
    cfg.IntOpt(
        'snapshot_timeout', default=900, min=1,
        help='Seconds until a snapshot must be usable.'),
    cfg.IntOpt(
        'volume_timeout', default=3600, min=1,
        help='Seconds until a volume must be usable.'),
    cfg.IntOpt(
        'image_timeout', default=86400, min=1,
        help='Seconds until an image must be active.'),
    cfg.IntOpt(
        'delete_timeout', default=600, min=1,
        help='Seconds until a deleted temporary must be gone; what resists '
             'becomes orphaned and audit names it.'),
    cfg.IntOpt(
        'ambiguity_grace', default=30, min=0,
        help='Seconds during which a resource is looked for when the answer '
             'to its creation was lost, before it is asked for again.'),
    cfg.StrOpt(
        'image_format', default='auto', choices=['auto', 'raw', 'qcow2'],
        help='Format of temporary images. auto: raw, and qcow2 when the '
             'cloud refuses the content as raw.'),
    cfg.IntOpt(
        'buffer_mib', default=320, min=160,
        help='MiB of buffers for all running uploads and restores of a '
             'process. One upload takes about 144, one restore 64; flows '
             'wait for their share.'),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options known to ``conf``."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """For the sample configuration."""
    return [(GROUP, OPTS)]
