"""Sealing: no object is read that was not written for its very place.

A small object is ``magic, kind, salt, AES-256-GCM(zstd(body))``. Its key is
made from the salt, so it is used once and the nonce can be nothing; the
additional data are the store's id and the object's name, so an object that
was moved, swapped or taken from another store does not open.
"""

from __future__ import annotations

import os
import struct
from typing import Any

import blake3
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bakflow import errors
from bakflow.store import layout

MAGIC = b'BKF1'
SALT = 32
TAG = 16
#: What a sealed object may hold at most, unpacked, in bytes: a page of
#: 64 GiB in which no two chunks are neighbours has less than 64 MiB.
MAX_BODY = 128 * layout.MIB
_NONCE = bytes(12)
_LENGTH = struct.Struct('<I')


def derive(secret: bytes, purpose: str) -> bytes:
    """A key of 32 bytes for one purpose (BLAKE3's key derivation)."""
    return blake3.blake3(
        secret, derive_key_context=f'bakflow store 1 {purpose}').digest()


def corrupt(name: str, why: str) -> errors.StoreCorrupt:
    """The error for an object that is not what its name says."""
    return errors.StoreCorrupt(
        f'{name} is damaged: {why}', resource=f'object {name}',
        hint='Run a verify to see what is hit; other backups that do not '
             'use this object are not touched.')


def missing(name: str) -> errors.StoreCorrupt:
    """The error for an object that must be there and is not."""
    return errors.StoreCorrupt(
        f'{name} is missing', resource=f'object {name}',
        hint='Run a verify to see what is hit; other backups that do not '
             'use this object are not touched.')


class Sealer:
    """Seals and opens the small objects of one domain (or the marker).

    :param key: 32 bytes, from :func:`derive`.
    :param place: what the object is bound to besides its name.
    """

    def __init__(self, key: bytes, place: bytes) -> None:
        self._key = key
        self._place = place

    def _cipher(self, salt: bytes) -> AESGCM:
        return AESGCM(blake3.blake3(salt, key=self._key).digest())

    def _bound(self, kind: bytes, name: str) -> bytes:
        return b'\0'.join((MAGIC, kind, self._place, name.encode()))

    def seal(self, kind: bytes, name: str, body: bytes) -> bytes:
        """The object to put under ``name``. ``kind`` is one byte."""
        salt = os.urandom(SALT)
        packed = zstandard.ZstdCompressor(level=3).compress(body)
        return b''.join((MAGIC, kind, salt, self._cipher(salt).encrypt(
            _NONCE, packed, self._bound(kind, name))))

    def open(self, kind: bytes, name: str, raw: bytes) -> bytes:
        """The body that was sealed.

        :raises StoreCorrupt: not one byte may differ, nor the name.
        """
        start = len(MAGIC) + 1
        if raw[:start] != MAGIC + kind or len(raw) < start + SALT + TAG:
            raise corrupt(name, 'it does not begin as it must')
        salt = raw[start:start + SALT]
        try:
            packed = self._cipher(salt).decrypt(
                _NONCE, raw[start + SALT:], self._bound(kind, name))
        except InvalidTag:
            raise corrupt(name, 'it does not authenticate') from None
        return unpack(packed, MAX_BODY, name)


def unpack(packed: bytes | memoryview, limit: int, name: str,
           zstd: zstandard.ZstdDecompressor | None = None) -> bytes:
    """What zstd packed, if it is at most ``limit`` bytes.

    :param zstd: a decompressor of this thread, to use again and again.
    :raises StoreCorrupt: it is more, or no such thing.
    """
    try:
        size = zstandard.frame_content_size(packed)
        if not 0 <= size <= limit:
            raise corrupt(name, f'it says that it unpacks to {size} bytes')
        zstd = zstd or zstandard.ZstdDecompressor()
        return zstd.decompress(packed, max_output_size=limit)
    except zstandard.ZstdError as exc:
        raise corrupt(name, f'it does not unpack: {exc}') from None


def pair(data: dict[str, Any], blob: bytes) -> bytes:
    """JSON and bytes in one body."""
    head = layout.dump_json(data)
    return b''.join((_LENGTH.pack(len(head)), head, blob))


def unpair(body: bytes, name: str) -> tuple[dict[str, Any], bytes]:
    """What :func:`pair` joined.

    :raises StoreCorrupt: the lengths make no sense, or there is no JSON.
    """
    if len(body) < _LENGTH.size:
        raise corrupt(name, 'it is too short')
    size = _LENGTH.unpack_from(body)[0]
    end = _LENGTH.size + size
    if end > len(body):
        raise corrupt(name, 'its JSON is longer than itself')
    return layout.load_json(body[_LENGTH.size:end], name), body[end:]
