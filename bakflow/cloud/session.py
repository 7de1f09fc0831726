"""Which cloud, as whom: the session that everything in here uses.

Looked up in this order: ``[cloud] cloud`` (an entry of clouds.yaml),
``[cloud] auth_type`` and the other options of keystoneauth, then OS_CLOUD,
clouds.yaml and the OS_* variables, as with any OpenStack client.
"""

from __future__ import annotations

import dataclasses
import time
import urllib.parse
from typing import Any

import openstack.config
import openstack.connection
from keystoneauth1 import exceptions as ks
from keystoneauth1 import loading
from keystoneauth1.session import TCPKeepAliveAdapter
from openstack import exceptions as sdk
from oslo_config import cfg

from bakflow import errors
from bakflow.cloud import errors as cloud_errors
from bakflow.cloud import images, quotas, rest, snapshots, volumes

GROUP = 'cloud'

#: Connections kept to each host.
_CONNECTIONS = 64

_HINT = ('set OS_CLOUD to an entry of clouds.yaml, or the OS_* variables, or '
         'cloud or auth_type in [cloud] of the configuration file')


@dataclasses.dataclass(frozen=True)
class CloudKey:
    """Which cloud a flow belongs to. No secret; stored in rows."""

    auth_url: str
    region: str
    project_id: str

    def __str__(self) -> str:
        return f'{self.auth_url} {self.region} {self.project_id}'

    @classmethod
    def normalised(cls, auth_url: str, region: str, project_id: str
                   ) -> CloudKey:
        """The same cloud gives the same key, however its URL is written."""
        parts = urllib.parse.urlsplit(auth_url.strip())
        host = (parts.hostname or '').lower()
        if ':' in host:
            host = f'[{host}]'
        default = {'http': 80, 'https': 443}.get(parts.scheme.lower())
        port = (f':{parts.port}'
                if parts.port and parts.port != default else '')
        path = parts.path.rstrip('/')
        for version in ('/v3', '/v2.0'):
            path = path.removesuffix(version)
        return cls(f'{parts.scheme.lower()}://{host}{port}'
                   f'{path.rstrip("/")}', region, project_id)


class Cloud:
    """One project of one cloud. Safe to share between threads.

    ``snapshots``, ``volumes``, ``images`` and ``quotas`` are its parts.
    """

    def __init__(self, connection: openstack.connection.Connection,
                 key: CloudKey, user_id: str, *, patience: float,
                 pause: rest.Pause = time.sleep) -> None:
        self.key = key
        self.project_id = key.project_id
        self.user_id = user_id
        self._connection = connection
        self._patience = patience
        cinder = rest.Api(connection.block_storage, patience=patience,
                          pause=pause)
        glance = rest.Api(connection.image, patience=patience, pause=pause)
        self.snapshots = snapshots.Snapshots(cinder)
        self.volumes = volumes.Volumes(cinder)
        self.images = images.Images(glance, cinder, key.project_id)
        self.quotas = quotas.Quotas(cinder, glance, key.project_id)

    def pausing(self, pause: rest.Pause) -> Cloud:
        """The same session, waiting in the way of one flow.

        :param pause: sleeps, or raises when the flow must stop. Used
            between repeated reads.
        """
        return Cloud(self._connection, self.key, self.user_id,
                     patience=self._patience, pause=pause)

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()


def register_opts(conf: cfg.ConfigOpts) -> None:
    """The options of keystoneauth in ``[cloud]``: plugin and TLS."""
    loading.register_auth_conf_options(conf, GROUP)
    conf.register_opts(_tls_opts(), group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """For the sample configuration: the common ways to log in."""
    opts = {o.dest: o for o in loading.get_auth_common_conf_options()}
    for plugin in ('password', 'v3applicationcredential'):
        for opt in loading.get_auth_plugin_conf_options(plugin):
            opts.setdefault(opt.dest, opt)
    for opt in _tls_opts():
        opts.setdefault(opt.dest, opt)
    return [(GROUP, sorted(opts.values(), key=lambda o: str(o.dest)))]


def connect(conf: cfg.ConfigOpts) -> Cloud:
    """Log in to the configured cloud.

    :raises ConfigError: nothing, or something wrong, is configured.
    :raises CloudAuthFailed: the credentials are refused.
    :raises CloudUnavailable: Keystone does not answer.
    """
    register_opts(conf)
    options = conf[GROUP]
    if options.cloud and options.auth_type:
        raise errors.ConfigError(
            '[cloud] cloud and [cloud] auth_type exclude each other',
            hint='keep one of them')
    connection = (_from_options(conf) if options.auth_type
                  else _from_clouds_yaml(options))
    try:
        return _log_in(connection, options)
    except BaseException:
        connection.close()
        raise


def _log_in(connection: openstack.connection.Connection,
            options: Any) -> Cloud:
    """Fetch a token and a catalog: what is wrong shows here."""
    session = connection.session
    session.timeout = float(options.http_timeout)
    for scheme in ('http://', 'https://'):
        # Every flow may keep streams open; the default of 10 makes urllib3
        # warn and throw connections away.
        session.session.mount(scheme, TCPKeepAliveAdapter(
            pool_maxsize=_CONNECTIONS))
    try:
        project = session.get_project_id()
        user = session.get_user_id()
        auth_url = _auth_url(session)
        # The SDK's proxies look at the catalog when they are first named.
        endpoint = connection.block_storage.get_endpoint_data()
        glance = connection.image.get_endpoint()
    except rest.cloud_failures() as exc:
        raise _login_error(exc) from exc
    except Exception as exc:
        if type(exc) is not Exception:
            raise
        # So does keystoneauth's generic plugin tell of a missing password.
        raise errors.ConfigError(
            f'no usable cloud is configured: {_harmless(exc)}', hint=_HINT
        ) from None
    if not project or not user:
        raise errors.ConfigError(
            'the credentials are not those of a user in a project',
            hint='name the project (OS_PROJECT_NAME, project_name)')
    region = connection.config.get_region_name()
    if endpoint is None or not glance:
        raise errors.ConfigError(
            f'the cloud offers no '
            f'{"image" if endpoint else "block-storage"} service in region '
            f'{region or "(any)"}', hint='check region_name and interface')
    key = CloudKey.normalised(auth_url, region or endpoint.region_name or '',
                              project)
    return Cloud(connection, key, user, patience=options.read_patience)


def _auth_url(session: Any) -> str:
    """Where Keystone is; a plugin without an URL has it in the catalog."""
    return str(getattr(session.auth, 'auth_url', None)
               or session.get_endpoint(service_type='identity') or '')


def _login_error(exc: Exception) -> errors.BakflowError:
    """A missing option or plugin is the configuration's fault."""
    if isinstance(exc, (ks.AuthPluginException, sdk.ConfigException,
                        ks.MissingAuthMethods)):
        return errors.ConfigError(
            f'no usable cloud is configured: {_harmless(exc)}', hint=_HINT)
    if isinstance(exc, ks.NotFound):
        return errors.ConfigError(
            'there is no Keystone v3 at the configured auth_url',
            hint='check auth_url; it usually ends in /v3')
    return cloud_errors.from_exception(exc, doing='log in to the cloud')


def _from_clouds_yaml(options: Any) -> openstack.connection.Connection:
    try:
        config = openstack.config.OpenStackConfig()
        wanted = {k: v for k, v in (
            ('region_name', options.region_name),
            ('interface', options.interface),
            ('cacert', options.cafile)) if v}
        region = config.get_one(cloud=options.cloud, **wanted)
    except (sdk.ConfigException, ks.AuthPluginException) as exc:
        raise errors.ConfigError(
            f'no usable cloud is configured: {_harmless(exc)}', hint=_HINT
        ) from None
    if not region.config.get('auth', {}).get('auth_url'):
        raise errors.ConfigError('no cloud is configured', hint=_HINT)
    return openstack.connection.Connection(config=region)


def _from_options(conf: cfg.ConfigOpts) -> openstack.connection.Connection:
    try:
        auth = loading.load_auth_from_conf_options(conf, GROUP)
    except (ks.AuthPluginException, cfg.Error) as exc:
        raise errors.ConfigError(
            f'[cloud] cannot be used to log in: {_harmless(exc)}',
            hint='see keystoneauth\'s documentation of auth_type') from None
    options = conf[GROUP]
    session = loading.session.Session().load_from_options(
        auth=auth, insecure=options.insecure, cacert=options.cafile,
        cert=options.certfile, key=options.keyfile,
        timeout=options.http_timeout)
    return openstack.connection.Connection(
        session=session, region_name=options.region_name,
        interface=options.interface)


def _tls_opts() -> list[cfg.Opt]:
    wanted = ('cafile', 'certfile', 'keyfile', 'insecure')
    return [o for o in loading.get_session_conf_options()
            if o.dest in wanted]


def _harmless(exc: Exception) -> str:
    """The first line, which names options and files, never values."""
    lines = str(exc).strip().splitlines()
    return lines[0] if lines else type(exc).__name__
