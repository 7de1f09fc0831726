"""The collector frees what is needless and nothing else, whoever writes."""

import os
import random
import threading
import time

import pytest
from storekit import MIB, BytesSource, Wrapped, make_house, mixed

from bakflow import errors
from bakflow.store import Store, collecting, layout


def quiet(_):
    """An observer that wants nothing."""


def rand(seed, size=9 * MIB):
    return random.Random(seed).randbytes(size)


def other(house, backend):
    """The same store through another backend."""
    return Store.open(backend, house.kek, deployment='dep-1').domain(
        'project-1')


def is_empty(house):
    return all(o == 'bakflow.json' or o.startswith('k/')
               for o in house.objects())


class At(Wrapped):
    """Runs something, once, before the first matching call."""

    def __init__(self, inner, call, part, action):
        super().__init__(inner)
        self.call, self.part, self.action = call, part, action

    def _hit(self, call, name):
        if self.action and call == self.call and self.part in name:
            action, self.action = self.action, None
            action()

    def put(self, name, data):
        self._hit('put', name)
        return super().put(name, data)

    def list(self, prefix):
        self._hit('list', prefix)
        return super().list(prefix)

    def stat(self, name):
        self._hit('stat', name)
        return super().stat(name)

    def delete(self, name):
        self._hit('delete', name)
        return super().delete(name)


def test_nothing_to_do(house):
    house.backup('b1', rand(1))
    before = house.objects()
    report = house.collect()
    assert (report.removed, report.blocked, report.heads) == (0, {}, 1)
    assert house.objects() == before


def test_shared_chunks_stay(house):
    data = rand(2)
    house.backup('b1', data)
    house.backup('b2', data[:8 * MIB] + rand(3, MIB), parent='b1')
    house.domain.delete('b1')
    report = house.collect()
    assert report.removed > 0
    assert house.content('b2') == data[:8 * MIB] + rand(3, MIB)


def test_deleting_a_missing_backup_is_no_error(house):
    house.domain.delete('nothing')


def test_running_session_is_kept(house):
    data = rand(4, 20 * MIB)
    session = house.domain.start('f.1', backup_id='b1', sizes=[len(data)])
    collected = []

    def observe(progress):
        if progress.stored > 4 * MIB and not collected:
            collected.append(house.collect(live=['f.1']))

    session.write_disk(0, BytesSource(data), observe=observe)
    house.collect(live=['f.'])
    session.finish({})
    assert collected[0].removed == 0
    assert collected[0].sessions == 1
    assert house.content('b1') == data


def test_collector_and_writers_at_once(house):
    """Chains written while the collector runs without a pause."""
    living, lock, stop = set(), threading.Lock(), threading.Event()
    failures = []

    def alive():
        with lock:
            return set(living)

    def collect():
        while not stop.is_set():
            report = house.store.collect(live_sessions=alive, temp_age=3600)
            failures.extend(report.blocked.items())

    def write(writer):
        rng = random.Random(writer)
        disk = bytearray(rng.randbytes(9 * MIB))
        parent = None
        for number in range(5):
            name, flow = f'w{writer}-{number}', f'w{writer}x{number}'
            with lock:
                living.add(f'{flow}.1')
            session = house.domain.start(
                f'{flow}.1', backup_id=name, sizes=[len(disk)],
                parent=parent)
            if parent:
                house.domain.delete(parent)     # while we build upon it
            session.write_disk(0, BytesSource(bytes(disk)), observe=quiet)
            session.finish({})
            with lock:
                living.discard(f'{flow}.1')
            if house.content(name) != disk:
                failures.append(name)
            parent = name
            at = rng.randrange(8 * MIB)
            disk[at:at + 100000] = rng.randbytes(100000)
        house.domain.delete(parent)

    collector = threading.Thread(target=collect)
    writers = [threading.Thread(target=write, args=(n,)) for n in range(2)]
    for thread in [collector, *writers]:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    collector.join()
    assert failures == []
    house.collect()
    assert is_empty(house)


def test_dead_session_goes_and_its_base_too(house):
    data = rand(5)
    house.backup('b0', data)
    session = house.domain.start('f.1', backup_id='b1', sizes=[len(data)],
                                 parent='b0')
    session.write_disk(0, BytesSource(data), observe=quiet)
    house.domain.delete('b0')
    assert house.collect(live=['f.1']).removed == 0     # pinned
    report = house.collect()
    assert report.fenced == ['f.1']
    assert is_empty(house)
    with pytest.raises(errors.StoreError):
        session.finish({})
    assert is_empty(house)


def test_stalled_writer_wakes_before_its_head(house):
    """It is fenced between its look at its session and its head."""
    data = rand(6)
    domain = other(house, At(house.backend, 'put', '/b/', house.collect))
    session = domain.start('f.1', backup_id='b1', sizes=[len(data)])
    session.write_disk(0, BytesSource(data), observe=quiet)
    with pytest.raises(errors.LeaseLost):
        session.finish({})
    assert house.domain.heads() == []
    house.collect()
    assert is_empty(house)


@pytest.mark.parametrize('call', [('list', '/s/'), ('list', '/b/'),
                                  ('delete', '/s/')])
def test_head_that_comes_while_the_collector_runs_is_honoured(house, call):
    """Committed at any moment of a collection that took it for dead."""
    data = rand(7)
    session = house.domain.start('f.1', backup_id='b1', sizes=[len(data)])
    session.write_disk(0, BytesSource(data), observe=quiet)
    backend = At(house.backend, *call, lambda: session.finish({}))
    Store.open(backend, house.kek, deployment='dep-1').collect(
        live_sessions=lambda: [])
    assert backend.action is None
    assert house.content('b1') == data
    assert not house.domain.verify('b1').damages


@pytest.mark.parametrize('call', [
    ('list', '/b/'), ('list', '/s/'), ('delete', '/s/'), ('delete', '/p/')])
def test_successor_that_takes_over_while_the_collector_runs(house, call):
    """It gets all of the fenced session, or begins anew; never a part."""
    data = rand(8)
    session = house.domain.start('f.1', backup_id='b1', sizes=[len(data)])
    session.write_disk(0, BytesSource(data), observe=quiet)
    results = []

    def take_over():
        second = house.domain.start('f.2', backup_id='b1',
                                    sizes=[len(data)], adopt=['f.1'])
        results.append(second.write_disk(0, BytesSource(data),
                                         observe=quiet))
        results.append(second)

    backend = At(house.backend, *call, take_over)
    Store.open(backend, house.kek, deployment='dep-1').collect(
        live_sessions=lambda: [])
    assert backend.action is None
    results[1].finish({})
    assert house.content('b1') == data
    house.collect()
    assert house.content('b1') == data


def test_parent_deleted_while_a_session_begins(house):
    data = rand(9)
    house.backup('b0', data)

    def delete():
        house.domain.delete('b0')
        house.collect()

    for number, call in enumerate([('put', '/s/'), ('stat', '/b/')]):
        domain = other(house, At(house.backend, *call, delete))
        session = domain.start(f'f{number}.1', backup_id=f'b{number + 1}',
                               sizes=[len(data)], parent='b0')
        result = session.write_disk(0, BytesSource(data), observe=quiet)
        session.finish({})
        assert result.new > 0       # nothing of the parent could be used
        assert session.parent is None
        assert house.content(f'b{number + 1}') == data
        house.backup('b0', data)


def test_known_head_that_is_not_listed_blocks(house):
    """A listing that lags must not cost a backup."""
    data = rand(10)
    house.backup('b1', data)

    class Lagging(Wrapped):
        def list(self, prefix):
            return (o for o in super().list(prefix) if '/b/' not in o.name)

    store = Store.open(Lagging(house.backend), house.kek, deployment='dep-1')
    report = store.collect(
        live_sessions=lambda: [],
        known_heads=lambda: [('project-1', 'b1'), ('project-2', 'b9')])
    assert report.removed == 0
    assert 'b1' in report.blocked[house.domain.name]
    assert house.collect(known=lambda: [('project-1', 'b1')]).blocked == {}
    assert house.content('b1') == data


def test_killed_anywhere_then_again(house):
    """A collection that stops after any removal can be run again."""
    class Dying(Wrapped):
        left = 0

        def delete(self, name):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            super().delete(name)

    keep = rand(11)
    house.backup('keep', keep)
    dying = Dying(house.backend)
    store = Store.open(dying, house.kek, deployment='dep-1')
    for left in range(0, 12, 3):
        house.backup(f'x{left}', rand(left), flow=f'x{left}')
        session = house.domain.start(f'y{left}.1', backup_id='y',
                                     sizes=[9 * MIB], parent='keep')
        session.write_disk(0, BytesSource(rand(left + 1)), observe=quiet)
        house.domain.delete(f'x{left}')
        dying.left = left
        with pytest.raises(KeyboardInterrupt):
            store.collect(live_sessions=lambda: [])
        assert house.content('keep') == keep
    house.collect()
    house.domain.delete('keep')
    house.collect()
    assert is_empty(house)


def test_abort_leaves_other_flows_alone(house):
    data = rand(12)
    house.backup('b0', data)
    mine = house.domain.start('f.1', backup_id='b1', sizes=[9 * MIB],
                              parent='b0')
    mine.write_disk(0, BytesSource(rand(13)), observe=quiet)
    theirs = house.domain.start('f2.1', backup_id='b2', sizes=[9 * MIB],
                                parent='b0')
    theirs.write_disk(0, BytesSource(rand(14)), observe=quiet)
    report = house.domain.abort('f.')
    assert report.fenced == ['f.1']
    assert not [o for o in house.objects() if '/f.1/' in o]
    theirs.finish({})
    assert house.content('b0') == data
    assert house.content('b2') == rand(14)
    assert house.domain.abort('f.').removed == 0        # again: no error
    with pytest.raises(errors.LeaseLost):
        mine.check()


def test_abort_refuses_a_committed_flow(house):
    house.backup('b1', rand(15), flow='f')
    before = house.objects()
    with pytest.raises(errors.Conflict, match='b1'):
        house.domain.abort('f.')
    assert house.objects() == before


def test_abort_keeps_what_became_the_base_of_another(house):
    """The flow's backup was deleted, but a later one shares its packs."""
    data = rand(16)
    house.backup('b1', data, flow='f')
    house.backup('b2', data, parent='b1')
    house.domain.delete('b1')
    house.domain.abort('f.')
    assert house.content('b2') == data


def test_abort_removes_a_head_that_was_never_whole(house):
    """Put late by a writer that was fenced and then died."""
    data = rand(17)
    session = house.domain.start('f.1', backup_id='b1', sizes=[len(data)])
    session.write_disk(0, BytesSource(data), observe=quiet)
    session.finish({})
    for name in house.objects():
        if '/p/' in name:
            house.backend.delete(name)
    house.domain.abort('f.')
    assert is_empty(house)


def test_objects_of_a_later_version_stay(house):
    house.backup('b1', rand(18))
    later = f'd/{house.domain.name}/i/f.1/index'
    house.backend.put(later, b'x')
    house.domain.delete('b1')
    house.collect()
    assert later in house.objects()


def test_temporary_files_of_dead_writers_go(house):
    incoming = house.path / 'incoming'
    incoming.mkdir(exist_ok=True)
    (incoming / 'dead').write_bytes(b'half')
    os.utime(incoming / 'dead', (time.time() - 7200,) * 2)
    (incoming / 'young').write_bytes(b'half')
    report = house.store.collect(live_sessions=lambda: [])
    assert report.temporaries == 1
    assert os.listdir(incoming) == ['young']


def test_projects_are_collected_apart(tmp_path):
    house = make_house(tmp_path / 's')
    one, two = (house.store.domain(p) for p in ('p1', 'p2'))
    for domain in (one, two):
        session = domain.start('f.1', backup_id='b1', sizes=[9 * MIB])
        session.write_disk(0, BytesSource(rand(1)), observe=quiet)
        session.finish({})
    stored = [o for o in house.objects() if '/p/' in o]
    assert len({o.split('/')[1] for o in stored}) == 2      # shared nothing
    one.delete('b1')
    assert house.collect().domains == 2
    assert one.heads() == []
    assert two.reader('b1').read(0, 0, 9 * MIB) == rand(1)


def test_planted_bug_without_the_second_look_is_found(house, monkeypatch):
    """That test_head_that_comes... can fail: a collector that looks once."""
    look = collecting._Marks.look
    calls = []

    def once(self):
        calls.append(1)
        if len(calls) == 1:
            look(self)

    monkeypatch.setattr(collecting._Marks, 'look', once)
    data = mixed(9 * MIB, 7, zeros=0)
    session = house.domain.start('f.1', backup_id='b1', sizes=[len(data)])
    session.write_disk(0, BytesSource(data), observe=quiet)
    backend = At(house.backend, 'delete', '/s/f.1/00000000',
                 lambda: session.finish({}))
    Store.open(backend, house.kek, deployment='dep-1').collect(
        live_sessions=lambda: [])
    assert layout.epoch_of('f.1') == 1
    assert house.domain.verify('b1').damages
