"""Keys: the key-encryption key in a file, and what is derived from it.

The key-encryption key (KEK) opens the marker's secret and the master key of
each domain, nothing else. Who loses it loses every backup of the store; there
is no second way in.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat

from bakflow import errors
from bakflow.store import sealing

_HEADER = 'bakflow-key-1'
_SIZE = 32
_LINE = re.compile(r'[0-9a-f]{64}')


class KeyEncryptionKey:
    """32 secret bytes. Never shown: not by ``repr``, not in an error."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != _SIZE:
            raise errors.ConfigError(f'a key has {_SIZE} bytes')
        self._secret = bytes(secret)

    @classmethod
    def generate(cls) -> KeyEncryptionKey:
        """A new random key."""
        return cls(secrets.token_bytes(_SIZE))

    @property
    def fingerprint(self) -> str:
        """What may be shown of the key: it tells keys apart, no more."""
        return sealing.derive(self._secret, 'kek fingerprint')[:8].hex()

    def derive(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose."""
        return sealing.derive(self._secret, 'kek ' + purpose)

    def __repr__(self) -> str:
        return f'<KeyEncryptionKey {self.fingerprint}>'


def load_key_file(path: str | os.PathLike[str],
                  create: bool = False) -> KeyEncryptionKey:
    """The key in a file of two lines: ``bakflow-key-1`` and 64 hex digits.

    With ``create`` a missing file is made, mode 0600, with a new key. Any
    number of processes may do so at once: all get the same key, and none
    ever sees a half-written file.

    :raises ConfigError: missing, no key file, or readable by others than
        its owner.
    """
    path = os.fspath(path)
    if create and not os.path.lexists(path):
        _create(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise errors.ConfigError(
            f'cannot read the key file {path}: {exc.strerror}',
            hint='Without its key no backup of a store can be read. Put '
                 'the file back from where you keep a copy.') from exc
    with os.fdopen(fd, 'rb') as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode) or mode & 0o077:
            raise errors.ConfigError(
                f'the key file {path} can be read by others',
                hint=f'chmod 600 {path}')
        return _parse(path, file.read(4096))


def _parse(path: str, raw: bytes) -> KeyEncryptionKey:
    lines = raw.decode('ascii', 'replace').split()
    if len(lines) != 2 or lines[0] != _HEADER or not _LINE.fullmatch(
            lines[1]):
        raise errors.ConfigError(f'{path} is no key file of bakflow')
    return KeyEncryptionKey(bytes.fromhex(lines[1]))


def _create(path: str) -> None:
    folder = os.path.dirname(path) or '.'
    temp = f'{path}.{secrets.token_hex(8)}.tmp'
    text = f'{_HEADER}\n{secrets.token_bytes(_SIZE).hex()}\n'
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(fd, 'w') as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            # A link, not a rename: the first of several writers wins.
            with contextlib.suppress(FileExistsError):
                os.link(temp, path)
        finally:
            os.unlink(temp)
        folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder_fd)
        finally:
            os.close(folder_fd)
    except OSError as exc:
        raise errors.ConfigError(
            f'cannot make the key file {path}: {exc.strerror}') from exc
