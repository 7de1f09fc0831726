"""What the store needs of the place where its objects lie.

Any backend must keep these promises, the store relies on each of them:

- ``put`` is atomic: an object is there whole or not at all, to every reader.
- ``put`` is durable: when it returns, no crash or loss of power undoes it.
- after ``put`` returned, ``get`` and ``stat`` on any host find the object.
- ``put`` onto a name that is taken changes nothing and raises
  :class:`ObjectExists`.
- ``list`` may lag behind (Swift's does); the collector is built for that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

from bakflow import errors

Buffer = bytes | bytearray | memoryview


class ObjectExists(errors.StoreError):
    """There is an object of this name already; nothing was changed."""

    code = 'store-object-exists'


class ObjectMissing(errors.StoreError):
    """There is no object of this name."""

    code = 'store-object-missing'


class ObjectInfo(NamedTuple):
    """Name and size, in bytes, of an object."""

    name: str
    size: int


@runtime_checkable
class Backend(Protocol):
    """Keeps immutable objects by name.

    Every method raises ``StoreUnavailable`` when the place does not answer
    for the moment, ``StoreFull`` and ``StoreNotWritable`` when it refuses to
    be written. Methods are called from several threads at once.
    """

    def put(self, name: str, data: Buffer) -> None:
        """Put an object where none is, atomically and durably.

        :raises ObjectExists: there is one; it was not touched.
        """

    def get(self, name: str, start: int = 0,
            length: int | None = None) -> bytes:
        """Bytes of an object; fewer than asked for when it ends before.

        A negative ``start`` counts from the end: the last bytes.

        :raises ObjectMissing: there is none.
        """

    def readinto(self, name: str, start: int, view: memoryview) -> int:
        """Fill ``view`` from ``start`` on; the count of bytes there were.

        :raises ObjectMissing: there is none.
        """

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects whose names begin with ``prefix``, in any order."""

    def stat(self, name: str) -> ObjectInfo:
        """Name and size.

        :raises ObjectMissing: there is none.
        """

    def delete(self, name: str) -> None:
        """Remove an object durably; a missing one is no error."""

    def sweep(self, age: float) -> int:
        """Remove what writers that died left half-written.

        :param age: seconds for which it must not have been touched.
        :returns: how many such things were removed.
        """

    def check(self) -> dict[str, str]:
        """Try each thing that a backup and a restore need.

        :returns: what was found, in words, for ``target check``.
        :raises StoreError: what failed.
        """
