"""The configured targets and their stores."""

from __future__ import annotations

import os
import threading
from typing import Any

from oslo_config import cfg

from bakflow import errors, store


class Targets:
    """Opens the store of each configured target, once."""

    def __init__(self, conf: cfg.ConfigOpts, deployment: str) -> None:
        self._conf = conf
        self._deployment = deployment
        self._state = os.path.abspath(os.path.expanduser(conf.state_path))
        self._open: dict[str, store.Store] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """All targets."""
        return list(self._conf.enabled_targets)

    @property
    def default(self) -> str:
        """The target of a backup that names none."""
        return self.known(self._conf.default_target or self.names[0])

    def known(self, name: str) -> str:
        """The name, if it is that of a target.

        :raises NotFound: it is not.
        """
        if name not in self.names:
            raise errors.NotFound(
                f'there is no target {name!r}',
                hint=f'enabled_targets has: {", ".join(self.names)}')
        return name

    def path(self, name: str) -> str:
        """The folder of a filesystem target."""
        path = self._conf[self.known(name)].path
        return os.path.abspath(os.path.expanduser(path)) if path else (
            os.path.join(self._state, 'targets', name))

    def key_file(self, name: str) -> str:
        """The file of its key."""
        configured = self._conf[self.known(name)].key_file
        return (os.path.abspath(os.path.expanduser(configured))
                if configured else
                os.path.join(self._state, 'keys', f'{name}.key'))

    def backend(self, name: str) -> store.FilesystemBackend:
        """The target's storage, whether a store is in it or not."""
        return store.FilesystemBackend(self.path(name))

    def open(self, name: str) -> store.Store:
        """The store of a target; made on first use.

        :raises NotFound: no such target.
        :raises StoreError: it cannot be opened; see its classes.
        :raises ConfigError: the key file is not as it must be.
        """
        with self._lock:
            if name not in self._open:
                self._open[name] = store.Store.create(
                    self.backend(name), self._key(name),
                    deployment=self._deployment)
            return self._open[name]

    def exists(self, name: str) -> bool:
        """Whether there is a store already."""
        return os.path.exists(os.path.join(self.path(name), 'bakflow.json'))

    def _key(self, name: str) -> store.KeyEncryptionKey:
        path = self.key_file(name)
        own = not self._conf[name].key_file
        if own:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        # A key made for a store that is there already would open nothing.
        return store.load_key_file(
            path, create=own and not self.exists(name))

    def describe(self, name: str) -> dict[str, Any]:
        """What ``target show`` tells; a failure is told as its state."""
        found: dict[str, Any] = {
            'name': self.known(name), 'driver': self._conf[name].driver,
            'location': self.path(name), 'key_file': self.key_file(name),
            'state': 'new', 'store_id': None, 'deployment': None,
            'objects': 0, 'bytes': 0}
        if not self.exists(name):
            return found
        try:
            opened = self.open(name)
            usage = opened.usage()
        except errors.BakflowError as exc:
            found['state'] = str(exc)
            return found
        count, size = usage.get('total', (0, 0))
        found.update(state='ok', store_id=opened.id, objects=count,
                     bytes=size, deployment=opened.deployment)
        return found

    def check(self, name: str) -> dict[str, Any]:
        """Try each thing that a backup and a restore need."""
        checks = []
        facts: dict[str, str] = {}
        what = 'storage: put, get, list, delete'
        try:
            facts = self.backend(self.known(name)).check()
            checks.append({'check': what, 'result': 'ok'})
        except errors.StoreError as exc:
            checks.append({'check': what, 'result': str(exc)})
        try:
            self.open(name)
            checks.append({'check': 'store and key', 'result': 'ok'})
        except errors.BakflowError as exc:
            checks.append({'check': 'store and key', 'result': str(exc)})
        return {'target': name, 'checks': checks, 'facts': facts,
                'ok': all(c['result'] == 'ok' for c in checks)}
