"""Stopped, killed, out of room: what was durable is not read again."""

import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from storekit import (
    KIB,
    MIB,
    BytesSource,
    Small,
    Wrapped,
    make_house,
    mixed,
)

from bakflow import errors
from bakflow.store import Store, buffers, layout, writing

HERE = Path(__file__).parent


def quiet(_):
    """An observer that wants nothing."""


class StopAt:
    """Raises once so many bytes are durable (or worked on)."""

    def __init__(self, error, position=0, durable=0):
        self.error = error
        self.position = position
        self.durable = durable

    def __call__(self, progress):
        if (progress.position >= self.position
                and progress.durable >= self.durable):
            raise self.error


class SlowSource(BytesSource):
    """Gives the observer time to say stop."""

    def readinto(self, offset, view):
        time.sleep(0.01)
        super().readinto(offset, view)


@pytest.fixture(autouse=True)
def nothing_left_behind(monkeypatch):
    """No thread and no buffer outlives a test, whatever happened in it."""
    monkeypatch.setattr(writing, '_CHECKPOINT_EVERY', 0.0)
    monkeypatch.setattr(writing, '_CHECKPOINT_SHARE', 0)
    yield
    assert buffers.default.used == 0
    assert [t.name for t in threading.enumerate()
            if t.name.startswith('bakflow')] == []


def resume(house, data, adopt, epoch, parent=None):
    """Finish the flow with a new session; what it read, and its head."""
    session = house.domain.start(f'f.{epoch}', backup_id='b1',
                                 sizes=[len(data)], adopt=adopt,
                                 parent=parent)
    source = BytesSource(data)
    result = session.write_disk(0, source, observe=quiet)
    head = session.finish({})
    assert house.content('b1') == data
    assert not house.domain.verify('b1').damages
    assert not house.domain.space.packs_of('nothing.1')
    return source, result, head


def test_interrupted_makes_durable_what_was_read(house):
    data = mixed(60 * MIB, 1, zeros=0.1)
    session = house.domain.start('f.1', backup_id='b1', sizes=[len(data)])
    source = SlowSource(data)
    begin = time.monotonic()
    with pytest.raises(errors.Interrupted):
        session.write_disk(0, source, observe=StopAt(
            errors.Interrupted('stop'), position=20 * MIB))
    assert time.monotonic() - begin < 10
    read_to = max(offset + length for offset, length in source.reads)
    assert read_to < len(data)
    second, result, head = resume(house, data, ['f.1'], 2)
    assert result.resumed_at == read_to
    assert min(offset for offset, _ in second.reads) == read_to
    assert head.read_bytes == len(data)
    plain = make_house(house.path.parent / 'plain').backup('b1', data)
    assert head.digest != ''
    assert head.skipped_bytes == plain.skipped_bytes
    assert house.collect().removed == 0     # nothing was stored for nothing


@pytest.mark.parametrize('error', [
    errors.LeaseLost('gone'), errors.Cancelled('no'), ValueError('bug')])
def test_other_errors_stop_at_once_and_write_nothing(house, error):
    data = mixed(60 * MIB, 2, zeros=0.1)
    session = house.domain.start('f.1', backup_id='b1', sizes=[len(data)])
    seen = []

    def observe(progress):
        if progress.position >= 16 * MIB:
            seen.append(set(house.objects()))
            raise error

    with pytest.raises(type(error)):
        session.write_disk(0, SlowSource(data), observe=observe)
    after = set(house.objects()) - seen[0]
    # A put that was under way may end; no checkpoint, nothing after it.
    assert len(after) <= 1
    assert not [o for o in after if '/s/' in o]


def test_hanging_source_is_cancelled(house):
    class Hanging(BytesSource):
        def __init__(self, data):
            super().__init__(data)
            self.wake = threading.Event()

        def readinto(self, offset, view):
            if offset >= 8 * MIB:
                self.wake.wait()
                raise OSError('connection closed')
            super().readinto(offset, view)

        def cancel(self):
            self.wake.set()

    data = mixed(30 * MIB, 3, zeros=0)
    session = house.domain.start('f.1', backup_id='b1', sizes=[len(data)])
    calls = []

    def observe(progress):
        calls.append(time.monotonic())
        if progress.position >= 8 * MIB and len(calls) > 8:
            raise errors.Interrupted('stop')

    begin = time.monotonic()
    with pytest.raises(errors.Interrupted):
        session.write_disk(0, Hanging(data), observe=observe)
    assert time.monotonic() - begin < 15
    assert max(b - a for a, b in zip(calls, calls[1:],
                                     strict=False)) < 2
    _, result, _ = resume(house, data, ['f.1'], 2)
    assert result.resumed_at == 8 * MIB


def test_source_that_fails_is_the_first_cause(house):
    class Failing(BytesSource):
        def readinto(self, offset, view):
            if offset >= 16 * MIB:
                raise errors.CloudUnavailable('the image service is away')
            super().readinto(offset, view)

    data = mixed(30 * MIB, 4, zeros=0)
    session = house.domain.start('f.1', backup_id='b1', sizes=[len(data)])
    with pytest.raises(errors.CloudUnavailable, match='away'):
        session.write_disk(0, Failing(data), observe=quiet)
    source, result, _ = resume(house, data, ['f.1'], 2)
    assert result.resumed_at == 16 * MIB
    assert min(o for o, _ in source.reads) == 16 * MIB


def test_target_full_then_room_is_made(house, tmp_path, caplog):
    data = random.Random(5).randbytes(60 * MIB)
    small = make_house(tmp_path / 's', backend=Small(house.backend.__class__(
        tmp_path / 's'), 40 * MIB))
    session = small.domain.start('f.1', backup_id='b1', sizes=[len(data)])
    with caplog.at_level(logging.WARNING), \
            pytest.raises(errors.StoreFull):
        session.write_disk(0, SlowSource(data), observe=quiet)
    small.backend.room = 100 * MIB
    source, result, _ = resume(small, data, ['f.1'], 2)
    # At most four segments and three packs are on their way at a time.
    assert result.resumed_at >= 12 * MIB
    assert min(o for o, _ in source.reads) == result.resumed_at


def test_full_even_for_checkpoints(house, tmp_path):
    """The last checkpoint that was written is the one that counts."""
    class Full(Small):
        def put(self, name, data):
            if self.room < 2 * MIB and '/s/' in name:
                raise errors.StoreFull('no space left')
            super().put(name, data)

    data = random.Random(6).randbytes(60 * MIB)
    small = make_house(tmp_path / 's', backend=Full(house.backend.__class__(
        tmp_path / 's'), 40 * MIB))
    session = small.domain.start('f.1', backup_id='b1', sizes=[len(data)])
    with pytest.raises(errors.StoreFull):
        session.write_disk(0, SlowSource(data), observe=quiet)
    small.backend.room = 100 * MIB
    _, result, _ = resume(small, data, ['f.1'], 2)
    assert result.resumed_at > 0


def test_no_room_for_a_page(house):
    """The frontier stops in the middle of a step: it is not written down."""
    class NoPages(Wrapped):
        def put(self, name, data):
            if '/m/' in name:
                raise errors.StoreFull('no space left')
            super().put(name, data)

    data = mixed(30 * MIB, 15, zeros=0.1)
    store = Store.open(NoPages(house.backend), house.kek, deployment='dep-1')
    session = store.domain('project-1').start('f.1', backup_id='b1',
                                              sizes=[len(data)])
    with pytest.raises(errors.StoreFull):
        session.write_disk(0, SlowSource(data), observe=quiet)
    _, result, _ = resume(house, data, ['f.1'], 2)
    assert result.resumed_at < 8 * MIB


def test_first_cause_wins(house):
    """The source fails, and then the store too: the source is named."""
    class Full(Wrapped):
        full = False

        def put(self, name, data):
            if self.full and '/p/' in name:
                time.sleep(0.5)
                raise errors.StoreFull('no space left')
            super().put(name, data)

    class Failing(BytesSource):
        def readinto(self, offset, view):
            if offset >= 8 * MIB:
                backend.full = True
                raise errors.CloudUnavailable('the image service is away')
            super().readinto(offset, view)

    backend = Full(house.backend)
    data = random.Random(16).randbytes(9 * MIB)
    store = Store.open(backend, house.kek, deployment='dep-1')
    session = store.domain('project-1').start('f.1', backup_id='b1',
                                              sizes=[len(data)])
    with pytest.raises(errors.CloudUnavailable):
        session.write_disk(0, Failing(data), observe=quiet)
    resume(house, data, ['f.1'], 2)


def test_many_short_sessions_make_one_backup(house):
    """Stop after each few segments, again and again, with a parent."""
    old = mixed(40 * MIB, 7, zeros=0.2)
    house.backup('b0', old)
    data = bytearray(old)
    for at in range(0, len(data), 3 * MIB):
        data[at:at + 5000] = random.Random(at).randbytes(5000)
    data = bytes(data)
    adopt, epoch, reads = [], 0, []
    while True:
        epoch += 1
        session = house.domain.start(
            f'f.{epoch}', backup_id='b1', sizes=[len(data)], adopt=adopt,
            parent='b0')
        source = SlowSource(data)
        try:
            session.write_disk(0, source, observe=StopAt(
                errors.Interrupted('stop'),
                position=session._states[0].position + 4 * MIB))
        except errors.Interrupted:
            adopt = [*adopt, session.name]
            continue
        finally:
            reads += source.reads
        head = session.finish({})
        break
    assert epoch > 3
    assert house.content('b1') == data
    assert not house.domain.verify('b1').damages
    assert sum(length for _, length in reads) == len(data)  # each byte once
    assert head.parent == 'b0'
    assert head.new_bytes <= 15 * 2 * 16 * KIB
    house.domain.delete('b0')
    house.collect()
    assert house.content('b1') == data


def test_successor_of_a_session_that_was_never_begun(house):
    data = mixed(9 * MIB, 8)
    source, result, _ = resume(house, data, ['f.1', 'f.2'], 3)
    assert result.resumed_at == 0


def test_session_is_started_once(house):
    house.domain.start('f.1', backup_id='b1', sizes=[MIB])
    with pytest.raises(errors.Conflict):
        house.domain.start('f.1', backup_id='b1', sizes=[MIB])


def test_thawed_predecessor_cannot_commit(house):
    """Its session object is gone: no head of it stays."""
    data = mixed(9 * MIB, 9)
    old = house.domain.start('f.1', backup_id='b1', sizes=[len(data)])
    old.write_disk(0, BytesSource(data), observe=quiet)
    source, result, head = resume(house, data, ['f.1'], 2)
    assert result.resumed_at == len(data)
    assert source.reads == []
    with pytest.raises(errors.LeaseLost):
        old.finish({})
    assert house.domain.head('b1') == head


class Thaw(Wrapped):
    """Runs something when an object is put, before or after it is."""

    def __init__(self, inner, part, before=None, after=None):
        super().__init__(inner)
        self.part, self.before, self.after = part, before, after

    def put(self, name, data):
        hit = self.part in name
        if hit and self.before:
            action, self.before = self.before, None
            action()
        super().put(name, data)
        if hit and self.after:
            action, self.after = self.after, None
            action()


@pytest.mark.parametrize('when', ['before', 'after'])
def test_writer_fenced_while_it_puts_its_head(house, when):
    """Between its two looks a successor takes over: only one head stays."""
    data = mixed(9 * MIB, 10)
    heads = []

    def successor():
        heads.append(resume(house, data, ['f.1'], 2)[2])

    store = Store.open(Thaw(house.backend, '/b/', **{when: successor}),
                       house.kek, deployment='dep-1')
    old = store.domain('project-1').start('f.1', backup_id='b1',
                                          sizes=[len(data)])
    old.write_disk(0, BytesSource(data), observe=quiet)
    with pytest.raises(errors.LeaseLost):
        old.finish({})
    assert house.domain.head('b1') == heads[0]
    assert len([o for o in house.objects() if '/b/' in o]) == 1
    house.collect()
    assert house.content('b1') == data


def test_writer_that_loses_its_lease_stops_at_the_next_checkpoint(house):
    data = mixed(60 * MIB, 11, zeros=0)
    session = house.domain.start('f.1', backup_id='b1', sizes=[len(data)])

    def observe(progress):
        if progress.position >= 8 * MIB:
            house.backend.delete(layout.session_name(
                house.domain.name, 'f.1'))

    with pytest.raises(errors.LeaseLost):
        session.write_disk(0, SlowSource(data), observe=observe)


def test_crash_after_the_head_was_put(house):
    """The next session commits what is there, and reads nothing."""
    class Crash(Exception):
        pass

    data = mixed(9 * MIB, 12)

    def crash():
        raise Crash

    store = Store.open(Thaw(house.backend, '/b/', after=crash), house.kek,
                       deployment='dep-1')
    session = store.domain('project-1').start('f.1', backup_id='b1',
                                              sizes=[len(data)])
    session.write_disk(0, BytesSource(data), observe=quiet)
    with pytest.raises(Crash):
        session.finish({'name': 'v'})
    source, _, head = resume(house, data, ['f.1'], 2)
    assert source.reads == []
    assert head.session == 'f.2'
    assert len([o for o in house.objects() if '/b/' in o]) == 1


def test_crash_after_the_commit_was_cleaned_up(house):
    """The catalogue did not hear of the commit; the store still knows."""
    data = mixed(9 * MIB, 13)
    house.backup('b1', data, flow='f')
    source, _, head = resume(house, data, ['f.1'], 2)
    assert source.reads == []
    assert house.domain.heads() == ['b1']
    assert head.read_bytes == len(data)


def test_finish_again_after_an_error(house):
    class Once(Wrapped):
        failed = False

        def get(self, name, start=0, length=None):
            if '/b/' in name and not self.failed:
                self.failed = True
                raise errors.StoreUnavailable('no answer')
            return super().get(name, start, length)

    data = mixed(5 * MIB, 14)
    store = Store.open(Once(house.backend), house.kek, deployment='dep-1')
    session = store.domain('project-1').start('f.1', backup_id='b1',
                                              sizes=[len(data)])
    session.write_disk(0, BytesSource(data), observe=quiet)
    with pytest.raises(errors.StoreUnavailable):
        session.finish({'a': 1})
    head = session.finish({'a': 1})
    assert session.finish({'a': 1}) == head
    assert house.content('b1') == data


def test_incomplete_disk_is_no_backup(house):
    session = house.domain.start('f.1', backup_id='b1', sizes=[MIB, MIB])
    session.write_disk(0, BytesSource(bytes(MIB)), observe=quiet)
    with pytest.raises(errors.Conflict, match='disk 1'):
        session.finish({})
    with pytest.raises(errors.Conflict):
        session.write_disk(1, BytesSource(bytes(5)), observe=quiet)
    assert house.domain.heads() == []


def test_disks_in_parallel_and_resumed(house):
    disks = [mixed(30 * MIB, n, zeros=0.1) for n in range(3)]
    sizes = [len(d) for d in disks]
    session = house.domain.start('f.1', backup_id='b1', sizes=sizes)
    stops = [quiet, StopAt(errors.Interrupted('stop'), position=8 * MIB),
             StopAt(errors.Interrupted('stop'), position=16 * MIB)]
    ended = []

    def write(index):
        try:
            session.write_disk(index, SlowSource(disks[index]),
                               observe=stops[index])
        except errors.Interrupted:
            ended.append(index)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == [1, 2]
    second = house.domain.start('f.2', backup_id='b1', sizes=sizes,
                                adopt=['f.1'])
    for index, disk in enumerate(disks):
        result = second.write_disk(index, BytesSource(disk), observe=quiet)
        assert result.resumed_at >= (30, 8, 16)[index] * MIB
    second.finish({})
    for index, disk in enumerate(disks):
        assert house.content('b1', index) == disk
    assert not house.domain.verify('b1').damages


def test_waiting_for_buffers_can_be_interrupted(house):
    calls = []

    def observe(progress):
        calls.append(progress)
        raise errors.Interrupted('stop')

    session = house.domain.start('f.1', backup_id='b1', sizes=[MIB])
    with buffers.default.take(buffers.default.limit):
        with pytest.raises(errors.Interrupted):
            session.write_disk(0, BytesSource(bytes(MIB)), observe=observe)
        assert buffers.default.used == buffers.default.limit
    assert calls[0].position == 0


CHILD = textwrap.dedent('''
    import sys
    sys.path[:0] = [{here!r}, {root!r}]
    from storekit import *
    from bakflow.store import writing
    writing._CHECKPOINT_EVERY = 0.0
    writing._CHECKPOINT_SHARE = 0
    import time

    class Slow(BytesSource):
        def readinto(self, offset, view):
            time.sleep(0.005)
            super().readinto(offset, view)

    house = make_house({path!r})
    data = mixed(80 * MIB, 21, zeros=0.1)
    session = house.domain.start('f.{epoch}', backup_id='b1',
                                 sizes=[len(data)], adopt={adopt!r})
    session.write_disk(0, Slow(data), observe=lambda p: print(
        p.durable, flush=True))
    session.finish({{}})
    print('committed', flush=True)
    time.sleep(60)
''')


def run_and_kill(path, epoch, adopt, until):
    """Write in a child; kill -9 it when so much is durable, or at the end.

    :returns: what was durable when it died.
    """
    code = CHILD.format(here=str(HERE), root=str(HERE.parents[2]),
                        path=str(path), epoch=epoch, adopt=adopt)
    with subprocess.Popen([sys.executable, '-c', code],
                          stdout=subprocess.PIPE, text=True) as child:
        durable = 0
        for line in child.stdout:
            if line.strip() == 'committed':
                break
            durable = int(line)
            if durable >= until:
                break
        os.kill(child.pid, signal.SIGKILL)
    return durable


def test_kill_9_then_resume(tmp_path):
    path = tmp_path / 's'
    adopt, last = [], 0
    for epoch, until in enumerate([8 * MIB, 30 * MIB, 55 * MIB], 1):
        durable = run_and_kill(path, epoch, adopt, until)
        assert durable >= max(until, last)
        adopt, last = [*adopt, f'f.{epoch}'], durable
    house = make_house(path)
    data = mixed(80 * MIB, 21, zeros=0.1)
    source, result, _ = resume(house, data, adopt, 9)
    assert result.resumed_at >= last
    assert min(o for o, _ in source.reads) == result.resumed_at
    house.collect()
    assert house.content('b1') == data
    assert not (path / 'incoming').exists() or not os.listdir(
        path / 'incoming')


def test_kill_9_then_abort(tmp_path):
    path = tmp_path / 's'
    run_and_kill(path, 1, [], 30 * MIB)
    house = make_house(path)
    assert [o for o in house.objects() if '/p/' in o]
    house.domain.abort('f.')
    assert all(o == 'bakflow.json' or o.startswith('k/')
               for o in house.objects())


class PowerLoss(Wrapped):
    """Loses all puts from the ``after``-th on, but says they are done."""

    def __init__(self, inner, after):
        super().__init__(inner)
        self.left = after

    def put(self, name, data):
        self.left -= 1
        if self.left < 0:
            raise errors.StoreUnavailable('the power is gone')
        super().put(name, data)


@pytest.mark.parametrize('after', range(1, 26, 2))
def test_power_lost_after_any_put(house, tmp_path, after):
    data = mixed(24 * MIB, 31, zeros=0.1)
    dying = Store.open(PowerLoss(house.backend, after), house.kek,
                       deployment='dep-1')
    committed = False
    house.store.domain('project-1')
    try:
        session = dying.domain('project-1').start(
            'f.1', backup_id='b1', sizes=[len(data)])
        session.write_disk(0, BytesSource(data), observe=quiet)
        session.finish({})
        committed = True
    except errors.StoreUnavailable:
        pass
    assert house.domain.heads() == (['b1'] if committed else [])
    if not committed:
        resume(house, data, ['f.1'], 2)
    house.collect()
    assert house.content('b1') == data
