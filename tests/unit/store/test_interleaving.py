"""At each single storage call of one party, another does all of its work.

No sampling: every scenario is run once for each call that there is, so each
place where a writer can stall, or a collector can be met, is tried.
"""

import itertools
import random
import threading

import pytest
from storekit import (
    KIB,
    MIB,
    BytesSource,
    Memory,
    Params,
    Wrapped,
    make_house,
)

from bakflow import errors
from bakflow.store import Store

#: Two pages and two packs.
SIZES = Params(frame=256 * KIB, pack=MIB, slots=200, page=4 * MIB)
OLD = bytes(3 * MIB) + random.Random(1).randbytes(MIB + 100 * KIB)
NEW = OLD[:3 * MIB + 900 * KIB] + random.Random(2).randbytes(MIB)


def quiet(_):
    """An observer that wants nothing."""


class Inject(Wrapped):
    """Runs ``action`` before the ``turn``-th call, once."""

    def __init__(self, inner, turn, action):
        super().__init__(inner)
        self.turn, self.action = turn, action
        self.lock = threading.Lock()
        self.calls = 0
        self.done = False

    def _count(self):
        with self.lock:
            self.calls += 1
            hit = self.calls == self.turn
        if hit:
            self.done = True
            self.action()

    def put(self, name, data):
        self._count()
        return super().put(name, data)

    def get(self, name, start=0, length=None):
        self._count()
        return super().get(name, start, length)

    def list(self, prefix):
        self._count()
        return super().list(prefix)

    def stat(self, name):
        self._count()
        return super().stat(name)

    def delete(self, name):
        self._count()
        return super().delete(name)


def write(domain, session='f.1', adopt=(), parent='b0'):
    """All that a flow does to the store."""
    writing = domain.start(session, backup_id='b1', sizes=[len(NEW)],
                           adopt=adopt, parent=parent)
    writing.write_disk(0, BytesSource(NEW), observe=quiet)
    return writing.finish({})


def each_turn():
    """A new house for each turn, with the parent in it."""
    begin = make_house(None, backend=Memory(), params=SIZES)
    begin.backup('b0', OLD)
    for turn in itertools.count(1):
        backend = Memory()
        backend.objects.update(begin.backend.objects)
        yield turn, make_house(None, backend=backend)


def through(house, backend):
    """The house's domain through another backend."""
    return Store.open(backend, house.kek, deployment='dep-1').domain(
        'project-1')


def check(house):
    """The backup is whole, and stays so; nothing is left after it."""
    assert house.content('b1') == NEW
    assert not house.domain.verify('b1').damages
    house.collect()
    assert house.content('b1') == NEW
    for name in house.domain.heads():
        house.domain.delete(name)
    house.collect()
    assert all(o == 'bakflow.json' or o.startswith('k/')
               for o in house.objects())


@pytest.mark.parametrize('alive', [True, False])
def test_collector_at_each_call_of_a_writer(alive):
    """Its parent is deleted, too. A living writer is never disturbed."""
    for turn, house in each_turn():
        def collect(house=house):
            house.domain.delete('b0')
            report = house.collect(live=['f.1'] if alive else [])
            assert not report.blocked

        backend = Inject(house.backend, turn, collect)
        try:
            write(through(house, backend))
        except errors.BakflowError:
            assert not alive
            assert house.domain.heads() == []
            write(house.domain, 'f.2', ['f.1'])
        check(house)
        if not backend.done:
            assert turn > 20
            return


def test_successor_at_each_call_of_a_writer():
    """The writer was thought dead and is not: one backup, and whole."""
    for turn, house in each_turn():
        heads = []

        def succeed(house=house, heads=heads):
            heads.append(write(house.domain, 'f.2', ['f.1']))
            house.domain.delete('b0')

        backend = Inject(house.backend, turn, succeed)
        try:
            heads.append(write(through(house, backend)))
        except errors.BakflowError:
            assert heads        # the successor did commit
        assert house.domain.heads() in (['b1'], ['b0', 'b1'])
        house.collect()
        check(house)
        if not backend.done:
            return


def test_abort_at_each_call_of_a_writer():
    """Reverted while it still runs: a whole backup or none."""
    for turn, house in each_turn():
        refused = []

        def abort(house=house, refused=refused):
            try:
                house.domain.abort('f.')
            except errors.Conflict:
                refused.append(1)

        backend = Inject(house.backend, turn, abort)
        try:
            write(through(house, backend))
        except errors.BakflowError:
            if 'b1' in house.domain.heads():
                assert refused      # the head was there: it counts
            else:
                assert house.content('b0') == OLD
                house.domain.abort('f.')
                write(house.domain, 'f.2')
        check(house)
        if not backend.done:
            return


@pytest.mark.parametrize('what', ['finish', 'successor', 'whole'])
def test_writer_at_each_call_of_a_collector(what):
    """The collector takes the writer for dead, and it is not."""
    for turn, house in each_turn():
        session = None
        if what != 'whole':
            session = house.domain.start('f.1', backup_id='b1',
                                         sizes=[len(NEW)], parent='b0')
            session.write_disk(0, BytesSource(NEW), observe=quiet)
        if what == 'finish':
            house.domain.delete('b0')
        lost = []

        def act(house=house, session=session, lost=lost):
            try:
                if what == 'finish':
                    session.finish({})
                elif what == 'successor':
                    write(house.domain, 'f.2', ['f.1'])
                else:
                    write(house.domain)
                    house.domain.delete('b0')
            except errors.BakflowError:
                lost.append(1)

        backend = Inject(house.backend, 0, act)
        store = Store.open(backend, house.kek, deployment='dep-1')
        backend.turn = backend.calls + turn
        store.collect(live_sessions=lambda: [])
        if lost:
            assert what == 'finish'     # it was fenced, and knows
            assert 'b1' not in house.domain.heads()
            write(house.domain, 'f.2', ['f.1'])
        elif not backend.done:
            act()
            if lost:
                write(house.domain, 'f.2', ['f.1'])
        check(house)
        if not backend.done:
            return


def test_two_collectors_at_once():
    for turn, house in each_turn():
        write(house.domain)
        house.domain.delete('b0')
        backend = Inject(house.backend, turn, house.collect)
        Store.open(backend, house.kek, deployment='dep-1').collect(
            live_sessions=lambda: [])
        check(house)
        if not backend.done:
            return


def test_reader_while_its_neighbours_go():
    for turn, house in each_turn():
        write(house.domain)

        def act(house=house):
            house.domain.delete('b0')
            house.collect()

        backend = Inject(house.backend, turn, act)
        reader = through(house, backend).reader('b1')
        assert reader.read(0, 0, len(NEW)) == NEW
        check(house)
        if not backend.done:
            return
