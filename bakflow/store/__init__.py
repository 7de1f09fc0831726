"""The store: backups as immutable sealed objects, usable as a library.

Knows neither cloud nor SQL. The format is written down in
doc/store-format.rst; it survives a crash at any point, since a backup is
there exactly when its head is, and the head is written last.
"""

from bakflow.store import buffers
from bakflow.store.backends import Backend, FilesystemBackend, ObjectInfo
from bakflow.store.collecting import CollectReport
from bakflow.store.domain import Domain
from bakflow.store.keys import KeyEncryptionKey, load_key_file
from bakflow.store.layout import Params
from bakflow.store.model import DiskResult, Head, Progress
from bakflow.store.reading import Reader
from bakflow.store.session import Session
from bakflow.store.source import FileSource, Source
from bakflow.store.store import Store
from bakflow.store.verifying import Damage, VerifyReport

__all__ = [
    'Backend', 'CollectReport', 'Damage', 'DiskResult', 'Domain',
    'FileSource', 'FilesystemBackend', 'Head', 'KeyEncryptionKey',
    'ObjectInfo', 'Params', 'Progress', 'Reader', 'Session', 'Source',
    'Store', 'VerifyReport', 'buffers', 'load_key_file',
]
