"""Restoring to a file, a block device or standard output.

A file is made with mode 0600 where none was; a run that goes on continues
at the byte up to which the file was synced. A file that this flow made is
removed when the flow is given up; a block device keeps what was written.
Standard output (``-``) gets every byte, zeros included, and cannot be
gone on with.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from oslo_log import log as logging

from bakflow import errors, fault, store
from bakflow.tasks.base import Result, Step
from bakflow.tasks.context import StepContext
from bakflow.tasks.reading import Forward, Saved

LOG = logging.getLogger(__name__)

STDOUT = '-'

_PIECE = 1 << 20
_FILE, _WRITTEN, _BEGUN = 'file', 'written', 'stdout_begun'


class WriteFile(Step):
    """Writes the disk."""

    def run(self, ctx: StepContext) -> Result:
        """From the first byte, or where an earlier run was."""
        path = path_of(ctx)
        saved = Saved(ctx)
        if path == STDOUT:
            self._stream(ctx, saved)
        else:
            with _failures(path), _opened(ctx, path, saved.size) as fd:
                fault.point('write:opened')
                saved.reader.restore_file(
                    0, fd, start=int(ctx.records.notes().get(_WRITTEN, 0)),
                    observe=_Observer(ctx, self.name).observe)
        return {'path': path, 'size': saved.size}

    def undo(self, ctx: StepContext) -> None:
        """Remove a file that is certainly ours."""
        path, made = path_of(ctx), ctx.records.notes().get(_FILE)
        if path == STDOUT or made is None or made.get('device'):
            return
        try:
            found = os.lstat(path)
            if _is_ours(found, made):
                os.unlink(path)
            else:
                LOG.warning('%s is not the file that flow %s made: it stays',
                            path, ctx.flow_id)
        except FileNotFoundError:
            return
        except OSError as exc:
            LOG.warning('%s cannot be removed: %s', path, exc.strerror)
            ctx.records.note('file_left', f'{path}: {exc.strerror}')

    def _stream(self, ctx: StepContext, saved: Saved) -> None:
        if ctx.records.notes().get(_BEGUN):
            raise errors.Conflict(
                'a restore to standard output cannot be gone on with',
                hint='abandon the flow and restore again')
        ctx.records.note(_BEGUN, True)
        size = saved.size
        with _failures('standard output'), contextlib.closing(
                Forward(saved.reader, ctx.check)) as disk:
            for offset in range(0, size, _PIECE):
                ctx.check()
                fault.point('write:segment')
                _write_all(1, disk.read(offset, min(_PIECE, size - offset)))
                done = min(offset + _PIECE, size)
                ctx.records.progress(step=self.name, total=size,
                                     position=done, read=done)


class FinishFile(Step):
    """Announces it."""

    def run(self, ctx: StepContext) -> Result:
        """The file holds what was saved."""
        result = {'path': path_of(ctx)}
        ctx.records.restore_done(ctx.owner_id, result)
        return result


def path_of(ctx: StepContext) -> str:
    """Where to write."""
    return str(ctx.request['destination']['path'])


class _Observer:
    """Passes progress on, and remembers what would not be written again."""

    def __init__(self, ctx: StepContext, step: str) -> None:
        self._ctx = ctx
        self._step = step
        self._durable = 0

    def observe(self, p: store.Progress) -> None:
        """Called by the store."""
        self._ctx.check()
        fault.point('write:segment')
        if p.durable > self._durable:
            self._durable = p.durable
            self._ctx.records.note(_WRITTEN, p.durable)
        self._ctx.records.progress(
            step=self._step, total=p.total, position=p.position, read=p.read,
            skipped=p.skipped)


@contextlib.contextmanager
def _failures(name: str) -> Iterator[None]:
    """What the file system says, as an error that tells what to do."""
    try:
        yield
    except BrokenPipeError as exc:
        raise errors.Conflict(
            f'whoever read {name} has gone away', resource=name,
            hint='abandon the flow and restore again') from exc
    except OSError as exc:
        raise errors.Conflict(
            f'cannot write {name}: {exc.strerror or exc}', resource=name,
            hint='make it possible, then resume the flow') from exc


@contextlib.contextmanager
def _opened(ctx: StepContext, path: str, size: int) -> Iterator[int]:
    """A descriptor of the file to write.

    :raises Conflict: there is a file that this flow did not make, or the
        device is too small.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        found = None
    if found is not None and stat.S_ISBLK(found.st_mode):
        fd = _open_device(ctx, path, size)
    else:
        fd = _open_file(ctx, path, found)
    try:
        yield fd
    finally:
        os.close(fd)


def _open_device(ctx: StepContext, path: str, size: int) -> int:
    # O_EXCL: not while it is mounted or otherwise in use (open(2)).
    fd = os.open(path, os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC)
    room = os.lseek(fd, 0, os.SEEK_END)
    if room < size:
        os.close(fd)
        raise errors.Conflict(
            f'{path} has {room} bytes, the disk {size}', resource=path,
            hint='take a larger device')
    ctx.records.note(_FILE, {'device': True})
    return fd


def _open_file(ctx: StepContext, path: str,
               found: os.stat_result | None) -> int:
    made = ctx.records.notes().get(_FILE)
    flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    if found is not None:
        if made is None or not _is_ours(os.lstat(path), made):
            raise errors.Conflict(
                f'{path} exists already', resource=path,
                hint='give a path where nothing is')
        fd = os.open(path, flags)
    else:
        # The file has gone, or never was: nothing of it is written.
        ctx.records.note(_WRITTEN, 0)
        ctx.records.note(_FILE, {'inode': None})
        fault.point('write:intended')
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        fault.point('write:created')
    now = os.fstat(fd)
    ctx.records.note(_FILE, {'inode': [now.st_dev, now.st_ino]})
    return fd


def _is_ours(found: os.stat_result, made: dict[str, list[int] | None]
             ) -> bool:
    """Whether it is the file that was noted.

    A run that died between making it and noting which it is has left an
    empty one.
    """
    if not stat.S_ISREG(found.st_mode) or 'inode' not in made:
        return False
    if made['inode'] is None:
        return found.st_size == 0 and found.st_uid == os.geteuid()
    return [found.st_dev, found.st_ino] == made['inode']


def _write_all(fd: int, data: bytearray) -> None:
    with memoryview(data) as view:
        done = 0
        while done < len(view):
            done += os.write(fd, view[done:])
