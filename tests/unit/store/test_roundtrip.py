"""What is stored comes back, whatever it is and whatever was there before."""

import os
import random
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from storekit import (
    KIB,
    MIB,
    BytesSource,
    Memory,
    Wrapped,
    make_house,
    mixed,
)

from bakflow import errors
from bakflow.store import FileSource, Store, buffers

SIZES = [0, 1, 4095, 16 * KIB, 16 * KIB + 1, 4 * MIB - 1, 4 * MIB,
         8 * MIB, 8 * MIB + 5, 21 * MIB + 12345]


@pytest.mark.parametrize('size', SIZES)
def test_any_size(house, size):
    data = mixed(size, size)
    head = house.backup('b1', data, document={'name': 'vol \u00e4', 'n': [1]})
    assert house.content('b1') == data
    assert head == house.domain.head('b1')
    assert head.document == {'name': 'vol \u00e4', 'n': [1]}
    assert head.sizes == (size,)
    assert not house.domain.verify('b1').damages


@pytest.mark.parametrize('data', [
    bytes(9 * MIB), b'\xff' * (9 * MIB), random.Random(3).randbytes(9 * MIB),
    bytes(4 * MIB) + b'x' + bytes(5 * MIB)],
    ids=['zeros', 'ones', 'random', 'one byte'])
def test_kinds_of_bytes(house, data):
    house.backup('b1', data)
    assert house.content('b1') == data


def test_zeros_cost_nothing(house):
    head = house.backup('b1', bytes(40 * MIB))
    assert head.stored_bytes == 0
    assert head.new_bytes == 0
    assert not [o for o in house.objects() if '/p/' in o or '/m/' in o]


def test_repeats_cost_one_chunk(house):
    head = house.backup('b1', random.Random(1).randbytes(16 * KIB) * 1000)
    assert head.new_bytes <= 8 * 16 * KIB      # workers may meet it at once


def test_unchanged_backup_shares_all(house):
    data = mixed(21 * MIB + 777)
    one = house.backup('b1', data)
    before = set(house.objects())
    two = house.backup('b2', data, parent='b1')
    assert two.new_bytes == two.stored_bytes == 0
    assert two.digest == one.digest
    assert len(set(house.objects()) - before) == 1       # the head alone


def test_increment_costs_what_changed(house):
    data = bytearray(random.Random(2).randbytes(30 * MIB))
    house.backup('b1', bytes(data))
    for at in (5, 9 * MIB, 29 * MIB):
        data[at:at + 100] = bytes(range(100))
    head = house.backup('b2', bytes(data), parent='b1')
    assert head.new_bytes == 3 * 16 * KIB
    assert head.parent == 'b1'
    assert house.content('b2') == data


@pytest.mark.parametrize('size', [3 * MIB + 100, 12 * MIB, 33 * MIB])
def test_grown_or_shrunk_keeps_its_history(house, size):
    data = random.Random(4).randbytes(12 * MIB + 17)
    house.backup('b1', data)
    other = (data + random.Random(5).randbytes(40 * MIB))[:size]
    head = house.backup('b2', other, parent='b1')
    assert house.content('b2') == other
    assert head.new_bytes <= max(0, size - len(data)) + 2 * 16 * KIB


def test_several_disks(house):
    disks = [mixed(5 * MIB, 1), bytes(3 * MIB), mixed(9 * MIB, 2), b'']
    house.backup('b1', *disks)
    for index, disk in enumerate(disks):
        assert house.content('b1', index) == disk


def test_holes_are_not_read(house, tmp_path):
    path = tmp_path / 'disk'
    with open(path, 'wb') as file:
        file.truncate(30 * MIB + 5)
        file.seek(10 * MIB)
        file.write(b'data' * 1000)
    with open(path, 'rb') as file:
        session = house.domain.start('f.1', backup_id='b1',
                                     sizes=[30 * MIB + 5])
        result = session.write_disk(0, FileSource(file.fileno()),
                                    observe=lambda _: None)
        session.finish({})
    assert result.read < MIB
    assert house.content('b1') == path.read_bytes()


def test_holes_within_segments_are_zeros(house):
    data = random.Random(6).randbytes(9 * MIB)
    extents = [(0, 5000, True), (5000, 70000, False),
               (75000, 6 * MIB, True), (75000 + 6 * MIB, 16 * KIB, False)]
    end = extents[-1][0] + extents[-1][1]
    extents.append((end, len(data) - end, True))
    expected = bytearray(data)
    for offset, length, has_data in extents:
        if not has_data:
            expected[offset:offset + length] = bytes(length)
    session = house.domain.start('f.1', backup_id='b1', sizes=[len(data)])
    session.write_disk(0, BytesSource(data, extents), observe=lambda _: None)
    session.finish({})
    assert house.content('b1') == expected


def test_stream_gives_runs_in_order(house):
    data = mixed(20 * MIB + 100, 7)
    house.backup('b1', data)
    reader = house.domain.reader('b1')
    for start, end in [(0, None), (123, 456), (4 * MIB - 5, 4 * MIB + 5),
                       (100 * KIB, 19 * MIB + 1), (20 * MIB, None)]:
        stop = len(data) if end is None else end
        out, last = bytearray(stop - start), start
        for offset, view in reader.stream(0, start, end):
            assert last <= offset
            assert offset + len(view) <= stop
            out[offset - start:offset - start + len(view)] = view
            last = offset + len(view)
        assert out == data[start:stop]


def test_extents_hold_all_data(house):
    data = mixed(20 * MIB + 100, 8)
    house.backup('b1', data)
    rest = bytearray(data)
    last = -1
    for offset, length in house.domain.reader('b1').extents(0):
        assert offset > last
        assert length > 0
        assert offset + length <= len(data)
        rest[offset:offset + length] = bytes(length)
        last = offset + length
    assert not any(rest)


def test_stream_closed_early_leaves_nothing(house):
    house.backup('b1', mixed(20 * MIB, 9))
    stream = house.domain.reader('b1').stream(0)
    next(stream)
    stream.close()
    assert buffers.default.used == 0


@pytest.mark.parametrize('old', [None, b'', b'\xaa' * (3 * MIB),
                                 b'\xaa' * (30 * MIB)])
def test_restore_file(house, tmp_path, old):
    data = mixed(20 * MIB + 100, 10)
    house.backup('b1', data)
    path = tmp_path / 'out'
    if old is not None:
        path.write_bytes(old)
    seen = []
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        house.domain.reader('b1').restore_file(0, fd, observe=seen.append)
    finally:
        os.close(fd)
    assert path.read_bytes() == data
    assert seen[-1].position == seen[-1].durable == seen[-1].total
    if not old:
        assert path.stat().st_blocks * 512 < len(data)


def test_restore_goes_on_where_it_was(house, tmp_path):
    data = mixed(20 * MIB, 11)
    house.backup('b1', data)
    path = tmp_path / 'out'
    path.write_bytes(data[:8 * MIB] + b'\xaa' * MIB)
    fd = os.open(path, os.O_RDWR)
    try:
        house.domain.reader('b1').restore_file(0, fd, start=8 * MIB)
    finally:
        os.close(fd)
    assert path.read_bytes() == data


def test_names_are_checked(house):
    with pytest.raises(errors.InvalidRequest):
        house.domain.start('../x.1', backup_id='b', sizes=[1])
    with pytest.raises(errors.InvalidRequest):
        house.domain.start('f.1', backup_id='a/b', sizes=[1])
    with pytest.raises(errors.NotFound):
        house.domain.head('nothing')
    with pytest.raises(errors.InvalidRequest):
        house.domain.start('f.2', backup_id='b', sizes=[1], adopt=['g.1'])


STEP = 16 * KIB
PATTERN = random.Random(99).randbytes(64 * STEP)


@st.composite
def changes(draw):
    """A disk of up to 20 MiB, changed a few times."""
    out = [bytearray(draw(st.integers(0, 20 * MIB)))]
    for _ in range(draw(st.integers(1, 4))):
        disk = bytearray(out[-1])
        for _ in range(draw(st.integers(0, 6))):
            kind = draw(st.sampled_from(
                ['write', 'zero', 'grow', 'shrink', 'copy']))
            at = draw(st.integers(0, len(disk)))
            length = draw(st.integers(0, 700 * KIB))
            if kind == 'write':
                end = min(len(disk), at + length)
                disk[at:end] = PATTERN[:end - at]
            elif kind == 'zero':
                end = min(len(disk), at + length)
                disk[at:end] = bytes(end - at)
            elif kind == 'grow':
                disk += PATTERN[:length]
            elif kind == 'shrink':
                del disk[at:]
            else:
                end = min(len(disk), at + length)
                source = draw(st.integers(0, len(disk)))
                part = disk[source:source + end - at]
                disk[at:at + len(part)] = part
        out.append(disk)
    return [bytes(disk) for disk in out]


@settings(max_examples=25, deadline=None,
          suppress_health_check=[HealthCheck.data_too_large,
                                 HealthCheck.too_slow])
@given(disks=changes(), data=st.data())
def test_chains_in_any_order(disks, data):
    house = make_house(None, backend=Memory())
    for number, disk in enumerate(disks):
        parent = data.draw(st.sampled_from(
            [None, *(f'b{n}' for n in range(number))]), label='parent')
        house.backup(f'b{number}', disk, parent=parent)
    left = {f'b{n}' for n in range(len(disks))}
    for number in data.draw(st.permutations(range(len(disks)))):
        assert set(house.domain.heads()) == left
        for name in left:
            assert house.content(name) == disks[int(name[1:])]
            assert not house.domain.verify(name).damages
        house.domain.delete(f'b{number}')
        left.discard(f'b{number}')
        assert not house.collect().blocked
    assert all(o == 'bakflow.json' or o.startswith('k/')
               for o in house.objects())


def test_a_reader_that_fails_ends(house):
    """An error of a thread reaches the caller, of whatever kind it is."""
    house.backup('b1', mixed(20 * MIB, 12, zeros=0))

    class Failing(Wrapped):
        def readinto(self, name, start, view):
            raise TimeoutError('no answer')

    store = Store.open(Failing(house.backend), house.kek, deployment='dep-1')
    reader = store.domain('project-1').reader('b1')
    with pytest.raises(TimeoutError, match='no answer'):
        reader.read(0, 0, 9 * MIB)
    assert buffers.default.used == 0


def test_observers_of_reading_can_stop_it(house, tmp_path):
    house.backup('b1', mixed(20 * MIB, 13, zeros=0))

    def observe(progress):
        if progress.position:
            raise errors.Interrupted('stop')

    with pytest.raises(errors.Interrupted):
        house.domain.verify('b1', observe=observe)
    fd = os.open(tmp_path / 'out', os.O_RDWR | os.O_CREAT, 0o600)
    try:
        reader = house.domain.reader('b1')
        with pytest.raises(errors.Interrupted):
            reader.restore_file(0, fd, observe=observe)
    finally:
        os.close(fd)
    assert buffers.default.used == 0
    assert not [t for t in threading.enumerate()
                if t.name.startswith('bakflow')]
