"""The real command line before an API that only remembers and answers."""

from __future__ import annotations

import contextlib
import io
from types import SimpleNamespace
from typing import Any

from bakflow import errors
from bakflow.cli import app, connection

FLOW = '11111111-0000-0000-0000-000000000001'
BACKUP = '22222222-0000-0000-0000-000000000001'
RESTORE = '33333333-0000-0000-0000-000000000001'
MIB = 1 << 20

NAMES = ('open', 'snapshot', 'volume', 'image', 'upload', 'commit',
         'cleanup')


def steps(*states: str, error: dict | None = None) -> list[dict[str, Any]]:
    """The steps of a backup; what is not told is PENDING."""
    told = list(states) + ['PENDING'] * (len(NAMES) - len(states))
    return [{'name': name, 'state': state, 'started_at': None,
             'finished_at': None,
             'seconds': 1.25 if state == 'SUCCESS' else None,
             'error': error if state == 'FAILURE' else None,
             'after': [NAMES[i - 1]] if i else []}
            for i, (name, state) in enumerate(zip(NAMES, told, strict=True))]


def flow(**values: Any) -> dict[str, Any]:
    """A flow as the API answers it."""
    return {'id': FLOW, 'kind': 'volume-backup', 'owner_id': BACKUP,
            'project_id': 'p1', 'status': 'done', 'direction': 'forward',
            'attempts': 0, 'run_after': None, 'waits_for': None,
            'resumable': False, 'error': None, 'progress': None,
            'committed': False, 'report': None,
            'created_at': '2026-01-02T03:04:05Z',
            'started_at': '2026-01-02T03:04:06Z', 'finished_at': None,
            'steps': steps(), 'temporaries': [], 'owner': 'host:1',
            'lease_seconds_left': None, **values}


def backup(**values: Any) -> dict[str, Any]:
    """A backup as the API answers it."""
    return {'id': BACKUP, 'name': 'nightly', 'project_id': 'p1',
            'status': 'available', 'target': 'local',
            'volume_id': '44444444-0000-0000-0000-000000000001',
            'volume_name': 'web', 'size_bytes': 1024 * MIB,
            'read_bytes': 1000 * MIB, 'skipped_bytes': 24 * MIB,
            'new_bytes': 100 * MIB, 'stored_bytes': 60 * MIB + 1,
            'shared_bytes': 900 * MIB, 'parent_id': None,
            'consistency': 'crash', 'document': {'type': 'nfs'},
            'error': None, 'damages': None, 'verified_at': None,
            'flow_id': FLOW, 'created_at': '2026-01-02T03:04:05Z',
            'finished_at': '2026-01-02T03:05:05Z', **values}


def restore(**values: Any) -> dict[str, Any]:
    """A restore as the API answers it."""
    return {'id': RESTORE, 'backup_id': BACKUP, 'status': 'done',
            'destination': {'kind': 'new-volume', 'name': 'back'},
            'result': {'volume_id': 'v-new'}, 'size_bytes': 1024 * MIB,
            'bytes_done': 1024 * MIB, 'error': None, 'flow_id': FLOW,
            'created_at': '2026-01-02T03:04:05Z', 'finished_at': None,
            **values}


class FakeApi:
    """Answers each method with what a test put there, in turn.

    The last answer stays; an exception is raised. ``calls`` remembers.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple, dict]] = []
        self.answers: dict[str, list[Any]] = {
            'create_backup': [backup(status='queued')],
            'show_backup': [backup()], 'list_backups': [[backup()]],
            'delete_backup': [backup()], 'verify_backup': [backup()],
            'create_restore': [restore(status='queued')],
            'show_restore': [restore()], 'list_restores': [[restore()]],
            'show_flow': [flow()], 'list_flows': [[flow()]]}

    def __getattr__(self, method: str) -> Any:
        if method.startswith('_'):
            raise AttributeError(method)

        def answer(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((method, args, kwargs))
            told = self.answers[method]
            found = told.pop(0) if len(told) > 1 else told[0]
            if callable(found):
                found = found(*args, **kwargs)
            if isinstance(found, Exception):
                raise found
            return found
        return answer

    def called(self, method: str) -> list[tuple[tuple, dict]]:
        """The arguments of each call of a method."""
        return [(a, k) for name, a, k in self.calls if name == method]


class FakeEmbedded:
    """Knows that it was told to stop."""

    def __init__(self) -> None:
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True


class Stream(io.StringIO):
    """A stream that may pass for a terminal."""

    def __init__(self, tty: bool = False, encoding: str = 'utf-8') -> None:
        super().__init__()
        self._tty = tty
        self._encoding = encoding

    @property
    def encoding(self) -> str:      # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._tty


class App(app.BakflowApp):
    """The application, with the fake API instead of a connection."""

    world: Any

    @property
    def settings(self) -> Any:
        return SimpleNamespace(remote=self.world.remote, conf=None)

    @contextlib.contextmanager
    def connect(self) -> Any:
        self.world.connected += 1
        yield connection.Client(
            self.world.api,
            None if self.world.remote else self.world.embedded)


class World:
    """Runs command lines."""

    def __init__(self) -> None:
        self.api = FakeApi()
        self.embedded = FakeEmbedded()
        self.remote = False
        self.connected = 0
        self.tty = False
        self.encoding = 'utf-8'
        self.out = self.err = ''

    def run(self, *argv: str) -> int:
        """The exit code; what was written is in ``out`` and ``err``."""
        out = Stream(self.tty, self.encoding)
        err = Stream(self.tty, self.encoding)
        made = App(stdout=out, stderr=err)
        made.world = self
        try:
            code = made.run(list(argv))
        except SystemExit as exc:
            code = int(exc.code or 0)
        self.out, self.err = out.getvalue(), err.getvalue()
        return code


def told(**values: Any) -> dict[str, Any]:
    """An error as rows and RPC carry it."""
    return errors.QuotaReached(
        'the quota of volumes is used up', hint='ask for more',
        resource='volume 123', request_id='req-42').to_dict() | values
