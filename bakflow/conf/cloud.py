"""The cloud that is backed up: options of the group ``[cloud]``.

The options of the authentication plugin (``auth_type``, ``auth_url`` ...) in
the same group are keystoneauth's; ``bakflow.cloud.session`` registers them
when it needs them, so that a client that only speaks RPC does not load them.
"""

from __future__ import annotations

from oslo_config import cfg

GROUP = 'cloud'

OPTS = [
    cfg.StrOpt(
        'cloud',
        help='Name of an entry of clouds.yaml. Excludes auth_type.'),
    cfg.StrOpt(
        'region_name',
        help='Region to use, when the cloud has several.'),
    cfg.StrOpt(
        'interface', choices=['public', 'internal', 'admin'],
        help='Which endpoints of the service catalog to use. The default '
             'is that of clouds.yaml, else public.'),
    cfg.IntOpt(
        'http_timeout', default=60, min=1,
        help='Seconds without an answer, or without a byte of it, after '
             'which a request counts as failed.'),
    cfg.IntOpt(
        'read_patience', default=30, min=0,
        help='Seconds during which a reading request is repeated while the '
             'service does not answer or says 429, 502, 503 or 504. '
             'Requests that create something are never repeated blindly.'),
]


def group() -> cfg.OptGroup:
    """A new one each time: oslo.config keeps an instance's options in it,
    so two configurations that share one share their values too."""
    return cfg.OptGroup(
        GROUP, title='The cloud that is backed up',
        help='Without any option here the cloud comes from OS_CLOUD and '
             'clouds.yaml, or from the OS_* variables, as with any OpenStack '
             'client.')


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options known to ``conf``."""
    conf.register_group(group())
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """For the sample configuration."""
    return [(group(), OPTS)]
