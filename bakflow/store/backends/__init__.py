"""Places where a store's objects can lie."""

from bakflow.store.backends.base import (
    Backend,
    ObjectExists,
    ObjectInfo,
    ObjectMissing,
)
from bakflow.store.backends.filesystem import FilesystemBackend

__all__ = ['Backend', 'FilesystemBackend', 'ObjectExists', 'ObjectInfo',
           'ObjectMissing']
