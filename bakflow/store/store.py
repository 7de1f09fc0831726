"""A store: the marker, the domains in it, and the collector over them.

The marker is plain JSON, so that anybody can see what lies there and whose
it is; it also holds the store's secret, sealed with the key-encryption key
and bound to every other word of the marker.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from typing import Any

import blake3

from bakflow import errors
from bakflow.store import collecting, layout, sealing
from bakflow.store.backends.base import (
    Backend,
    ObjectExists,
    ObjectMissing,
)
from bakflow.store.collecting import CollectReport
from bakflow.store.domain import Domain
from bakflow.store.keys import KeyEncryptionKey
from bakflow.store.layout import MARKER, Params
from bakflow.store.space import Space

_KINDS = {'p': 'packs', 'm': 'pages', 'b': 'heads', 's': 'sessions'}
_DOMAIN_KEY = b'K'
_MARKER_KEY = b'R'
_TEMP_AGE = 3600.0


class Store:
    """A store that is open. Make one with :meth:`create` or :meth:`open`.

    ``id`` names it; ``deployment`` is the bakflow that owns it.
    """

    def __init__(self, backend: Backend, kek: KeyEncryptionKey,
                 marker: dict[str, Any], secret: bytes,
                 params: Params) -> None:
        self.backend = backend
        self.id = str(marker['store'])
        self.deployment = str(marker['deployment'])
        self._params = params
        self._name_key = sealing.derive(secret, 'domain name')
        self._sealer = sealing.Sealer(kek.derive('domain key'),
                                      self.id.encode())
        self._domains: dict[str, Domain] = {}

    @classmethod
    def create(cls, backend: Backend, kek: KeyEncryptionKey, *,
               deployment: str, params: Params | None = None) -> Store:
        """Make a store, or open the one that is there.

        :raises StoreForeign: it belongs to another deployment.
        :raises StoreCorrupt: there are objects of a store without a marker.
        """
        # Asked for first: where there are keys, there was a marker before.
        keys = next(iter(backend.list('k/')), None)
        try:
            backend.stat(MARKER)
        except ObjectMissing:
            if keys is not None:
                raise sealing.missing(MARKER) from None
            # Another process may be quicker: then its store is opened.
            with contextlib.suppress(ObjectExists):
                backend.put(MARKER, _new_marker(kek, deployment))
        return cls.open(backend, kek, deployment=deployment, params=params)

    @classmethod
    def open(cls, backend: Backend, kek: KeyEncryptionKey, *,
             deployment: str | None, params: Params | None = None) -> Store:
        """Open a store.

        :param deployment: who we are; None opens anybody's, to read it.
        :param params: sizes for domains that are made; for tests.
        :raises NotAStore: there is no marker.
        :raises StoreTooNew: its format is newer than this program.
        :raises StoreKeyWrong: the key is another.
        :raises StoreForeign: it belongs to another deployment.
        :raises StoreCorrupt: the marker is damaged.
        """
        try:
            raw = backend.get(MARKER)
        except ObjectMissing:
            raise errors.NotAStore(
                f'there is no store: {MARKER} is missing',
                hint='Is the target mounted, is its path right?') from None
        marker = _parse_marker(raw)
        secret = _marker_secret(marker, kek)
        store = cls(backend, kek, marker, secret, params or Params())
        if deployment is not None and deployment != store.deployment:
            raise errors.StoreForeign(
                f'store {store.id} belongs to deployment '
                f'{store.deployment}, not to {deployment}',
                hint='Two deployments must not share a store: give each '
                     'its own path.')
        return store

    # -- domains ----------------------------------------------------------

    def domain(self, project_id: str) -> Domain:
        """The domain of a project; its key is made on first use."""
        if project_id not in self._domains:
            name = blake3.blake3(project_id.encode(),
                                 key=self._name_key).hexdigest(16)
            key = layout.key_name(name)
            try:
                self.backend.stat(key)
            except ObjectMissing:
                self._make_domain(name, project_id)
            self._domains[project_id] = self._open_domain(name)
        return self._domains[project_id]

    def domains(self) -> Iterator[Domain]:
        """All domains that are there.

        :raises StoreCorrupt: the key of one does not open; raised after
            all others were given.
        """
        error: errors.StoreCorrupt | None = None
        for name in self._domain_names():
            try:
                domain = self._open_domain(name)
            except errors.StoreCorrupt as exc:
                error = error or exc
                continue
            yield domain
        if error is not None:
            raise error

    def _domain_names(self) -> list[str]:
        names = (item.name.split('/') for item in self.backend.list('k/'))
        return sorted(n[1] for n in names if len(n) == 3 and n[2] == '0')

    def _make_domain(self, name: str, project_id: str) -> None:
        if next(iter(self.backend.list(f'd/{name}/')), None) is not None:
            raise sealing.missing(layout.key_name(name))
        p = self._params
        body = layout.dump_json({
            'project': project_id, 'master': secrets.token_bytes(32).hex(),
            'chunk': layout.CHUNK, 'segment': layout.SEGMENT,
            'ids': 'blake3-keyed-128', 'cipher': 'aes-256-gcm',
            'frame': p.frame, 'pack': p.pack, 'slots': p.slots,
            'page': p.page, 'level': p.level})
        key = layout.key_name(name)
        try:
            self.backend.put(key, self._sealer.seal(_DOMAIN_KEY, key, body))
        except ObjectExists:
            return      # another process was quicker: its key counts

    def _open_domain(self, name: str) -> Domain:
        key = layout.key_name(name)
        try:
            raw = self.backend.get(key)
        except ObjectMissing:
            raise sealing.missing(key) from None
        data = layout.load_json(
            self._sealer.open(_DOMAIN_KEY, key, raw), key)
        master, params = _domain_data(data, key)
        return Domain(Space(self.backend, self.id, name, master, params),
                      str(data['project']))

    # -- all of it --------------------------------------------------------

    def usage(self) -> dict[str, tuple[int, int]]:
        """Count and bytes of objects: ``total`` and by kind."""
        out = {'total': (0, 0)}
        for name, size in self.backend.list(''):
            parts = name.split('/')
            kind = 'other'
            if parts[0] == 'd' and len(parts) > 3:
                kind = _KINDS.get(parts[2], kind)
            elif parts[0] == 'k' or name == MARKER:
                kind = 'keys'
            for key in ('total', kind):
                count, used = out.get(key, (0, 0))
                out[key] = count + 1, used + size
        return out

    def collect(self, *, live_sessions: Callable[[], Collection[str]],
                known_heads: Callable[[], Collection[tuple[str, str]]]
                | None = None,
                observe: Callable[[CollectReport], None] = lambda _: None,
                temp_age: float = _TEMP_AGE) -> CollectReport:
        """Remove what no backup and no living session needs.

        Never blocks a writer or a reader; may be killed anywhere.

        :param live_sessions: names of all sessions that may still write or
            be taken over, or ``'<flow id>.'`` for all of a flow. Asked for
            once in each domain, after its objects were listed.
        :param known_heads: (project id, backup id) of the backups that the
            catalogue knows. If one of them is not listed, nothing is
            removed from its domain.
        :param temp_age: seconds after which a temporary file that nobody
            holds open is removed.
        """
        report = CollectReport()
        report.temporaries = self.backend.sweep(temp_age)
        for name in self._domain_names():
            report.domains += 1
            try:
                domain = self._open_domain(name)
            except errors.StoreCorrupt as exc:
                report.blocked[name] = exc.message
                report.damaged.append(exc.message)
                continue

            def known(project: str = domain.project_id) -> set[str]:
                pairs = known_heads() if known_heads is not None else ()
                return {backup for owner, backup in pairs
                        if owner == project}

            collecting.Pass(domain.space, report, observe).run(
                live_sessions, known)
        return report


def _new_marker(kek: KeyEncryptionKey, deployment: str) -> bytes:
    marker: dict[str, Any] = {
        'what': 'a store of bakflow', 'format': layout.FORMAT,
        'store': str(uuid.uuid4()), 'deployment': deployment,
        'created': int(time.time()), 'key': kek.fingerprint}
    sealed = _marker_sealer(kek, marker).seal(
        _MARKER_KEY, MARKER, secrets.token_bytes(32))
    marker['secret'] = base64.b64encode(sealed).decode()
    return _marker_bytes(marker)


def _marker_bytes(marker: dict[str, Any]) -> bytes:
    text = layout.dump_json(marker).decode()
    return (text.replace(',"', ',\n "') + '\n').encode()


def _marker_sealer(kek: KeyEncryptionKey,
                   marker: dict[str, Any]) -> sealing.Sealer:
    plain = {k: v for k, v in marker.items() if k != 'secret'}
    return sealing.Sealer(kek.derive('marker'), layout.dump_json(plain))


def _parse_marker(raw: bytes) -> dict[str, Any]:
    marker = layout.load_json(raw, MARKER)
    version = marker.get('format')
    if type(version) is int and version > layout.FORMAT:
        raise errors.StoreTooNew(
            f'the store has format {version}, this program knows '
            f'{layout.FORMAT}', hint='Use a newer bakflow.')
    if version != layout.FORMAT or _marker_bytes(marker) != raw or not all(
            isinstance(marker.get(key), str)
            for key in ('store', 'deployment', 'key', 'secret')):
        raise sealing.corrupt(MARKER, 'it is no marker of a store')
    return marker


def _marker_secret(marker: dict[str, Any], kek: KeyEncryptionKey) -> bytes:
    try:
        sealed = base64.b64decode(marker['secret'], validate=True)
        if base64.b64encode(sealed).decode() != marker['secret']:
            raise sealing.corrupt(MARKER, 'its secret has stray bits')
        return _marker_sealer(kek, marker).open(_MARKER_KEY, MARKER, sealed)
    except ValueError as exc:
        raise sealing.corrupt(MARKER, 'its secret is no Base64') from exc
    except errors.StoreCorrupt:
        if marker['key'] == kek.fingerprint:
            raise
    raise errors.StoreKeyWrong(
        f'store {marker["store"]} was made with key {marker["key"]}, not '
        f'with {kek.fingerprint} ({MARKER})',
        hint='Give the target the key file that its store was made with.')


def _domain_data(data: dict[str, Any], name: str) -> tuple[bytes, Params]:
    fixed = {'chunk': layout.CHUNK, 'segment': layout.SEGMENT,
             'ids': 'blake3-keyed-128', 'cipher': 'aes-256-gcm'}
    for key, value in fixed.items():
        if data.get(key) != value:
            raise errors.StoreTooNew(
                f'{name} asks for {key} {data.get(key)!r}, which this '
                f'program does not know', hint='Use a newer bakflow.')
    try:
        master = bytes.fromhex(data['master'])
        params = Params(*(int(data[key]) for key in (
            'frame', 'pack', 'slots', 'page', 'level')))
    except (KeyError, TypeError, ValueError, OverflowError) as exc:
        raise sealing.corrupt(name, f'it is no key: {exc}') from exc
    if len(master) != 32 or not isinstance(data.get('project'), str):
        raise sealing.corrupt(name, 'it is no key')
    return master, params
