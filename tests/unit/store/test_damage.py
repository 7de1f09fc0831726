"""Every wrong byte is found and named; what is whole can still be read."""

import dataclasses
import random
import shutil

import pytest
from storekit import KIB, MIB, SMALL, BytesSource, House, make_house, mixed

from bakflow import errors
from bakflow.store import (
    FilesystemBackend,
    KeyEncryptionKey,
    Store,
    layout,
    pages,
)
from bakflow.store.space import HEAD

KEK = KeyEncryptionKey(bytes(range(32)))


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """A store with one small object of each kind, made once."""
    house = make_house(tmp_path_factory.mktemp('small') / 'store')
    data = bytearray(300 * KIB)
    data[:40 * KIB] = b'some text, again and again. ' * 1462 + b'1234'
    data[200 * KIB:200 * KIB + 300] = random.Random(1).randbytes(300)
    house.backup('b1', bytes(data))
    return house, bytes(data)


def reopen(path):
    backend = FilesystemBackend(path)
    store = Store.open(backend, KEK, deployment='dep-1')
    return House(path, KEK, backend, store)


def object_of(house, kind):
    part = {'marker': 'bakflow.json', 'key': 'k/', 'head': '/b/',
            'page': '/m/', 'pack': '/p/'}[kind]
    return next(o for o in house.objects() if part in o or o == part)


@pytest.mark.parametrize('kind', ['marker', 'key', 'head', 'page', 'pack'])
def test_each_flipped_byte_is_found_and_named(small, tmp_path, kind):
    house, data = small
    shutil.copytree(house.path, tmp_path / 's')
    name = object_of(house, kind)
    path = tmp_path / 's' / name
    good = path.read_bytes()
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 1 << (at % 8)
        path.write_bytes(bad)
        with pytest.raises(errors.StoreError) as caught:
            reopen(tmp_path / 's').content('b1')
        assert name in str(caught.value), (at, caught.value)
        if kind not in ('marker', 'key'):
            assert isinstance(caught.value, errors.StoreCorrupt)
    path.write_bytes(good)
    assert reopen(tmp_path / 's').content('b1') == data


@pytest.mark.parametrize('kind', ['key', 'head', 'page', 'pack'])
def test_each_truncation_is_found(small, tmp_path, kind):
    house, _ = small
    shutil.copytree(house.path, tmp_path / 's')
    name = object_of(house, kind)
    path = tmp_path / 's' / name
    good = path.read_bytes()
    for length in range(0, len(good), max(1, len(good) // 60)):
        path.write_bytes(good[:length])
        with pytest.raises(errors.StoreError, match=name):
            reopen(tmp_path / 's').content('b1')
    path.unlink()
    with pytest.raises((errors.StoreCorrupt, errors.NotFound)):
        reopen(tmp_path / 's').content('b1')


@pytest.mark.parametrize('kind', ['head', 'page', 'pack'])
def test_verify_names_the_object_and_the_bytes(house, kind):
    data = mixed(20 * MIB, 3, zeros=0)
    house.backup('b1', data)
    name = object_of(house, kind)
    path = house.path / name
    raw = bytearray(path.read_bytes())
    raw[100] ^= 1
    path.write_bytes(raw)
    report = house.domain.verify('b1')
    assert {d.object for d in report.damages} == {name}
    if kind == 'head':
        return
    assert report.frames > 0
    # What is not named as damaged can be read, and is right.
    bad = [(d.offset, d.offset + d.length) for d in report.damages]
    reader = house.domain.reader('b1')
    at = 0
    for begin, end in sorted(bad):
        assert reader.read(0, at, begin - at) == data[at:begin]
        with pytest.raises(errors.StoreCorrupt, match=name) as caught:
            reader.read(0, begin, end - begin)
        assert 'disk 0' in str(caught.value)
        at = end
    assert reader.read(0, at, len(data)) == data[at:]


def test_verify_lists_every_damage(house):
    house.backup('b1', mixed(20 * MIB, 4, zeros=0))
    packs = [o for o in house.objects() if '/p/' in o]
    assert len(packs) > 3
    for name in packs[:3]:
        raw = bytearray((house.path / name).read_bytes())
        raw[len(raw) // 2] ^= 1
        (house.path / name).write_bytes(raw)
    (house.path / packs[3]).unlink()
    report = house.domain.verify('b1')
    assert {d.object for d in report.damages} == set(packs[:4])


def test_swapped_objects_do_not_open(house):
    """Each object is bound to its own place."""
    one = mixed(12 * MIB, 5, zeros=0)
    house.backup('b1', one)
    house.backup('b2', mixed(12 * MIB, 6, zeros=0))
    for part in ('/p/', '/m/', '/b/'):
        names = [o for o in house.objects() if part in o]
        first = next(n for n in names if 'flow-b1' in n)
        second = next(n for n in names if 'flow-b2' in n)
        paths = house.path / first, house.path / second
        raws = [p.read_bytes() for p in paths]
        paths[0].write_bytes(raws[1])
        paths[1].write_bytes(raws[0])
        with pytest.raises(errors.StoreCorrupt, match=first):
            house.content('b1')
        for path, raw in zip(paths, raws, strict=True):
            path.write_bytes(raw)
    assert house.content('b1') == one


def test_swapped_packs_of_one_session_do_not_open(house):
    house.backup('b1', mixed(12 * MIB, 7, zeros=0))
    names = [o for o in house.objects() if '/p/' in o][:2]
    paths = [house.path / n for n in names]
    raws = [p.read_bytes() for p in paths]
    paths[0].write_bytes(raws[1])
    paths[1].write_bytes(raws[0])
    assert {d.object for d in house.domain.verify('b1').damages} == set(names)


def test_object_of_another_store_does_not_open(house, tmp_path):
    data = mixed(5 * MIB, 8)
    house.backup('b1', data)
    other = make_house(tmp_path / 'other')
    other.backup('b1', data)
    mine = next(o for o in house.objects() if '/b/' in o)
    theirs = next(o for o in other.objects() if '/b/' in o)
    (house.path / mine).write_bytes((other.path / theirs).read_bytes())
    with pytest.raises(errors.StoreCorrupt, match=mine):
        house.domain.head('b1')


def test_object_of_another_project_does_not_open(house):
    house.backup('b1', mixed(5 * MIB, 9))
    other = house.store.domain('project-2')
    assert other.heads() == []
    name = next(o for o in house.objects() if '/b/' in o)
    target = name.replace(house.domain.name, other.name)
    (house.path / target).parent.mkdir(parents=True)
    shutil.copy(house.path / name, house.path / target)
    with pytest.raises(errors.StoreCorrupt, match=target):
        other.head('b1')


@pytest.mark.parametrize('kind', ['head', 'page', 'pack'])
@pytest.mark.parametrize('how', ['flip', 'remove'])
def test_a_damaged_parent_is_healed(house, kind, how):
    """What of the parent cannot be proven is stored anew."""
    data = mixed(20 * MIB, 10, zeros=0)
    house.backup('b1', data)
    path = house.path / object_of(house, kind)
    if how == 'remove':
        path.unlink()
    else:
        raw = bytearray(path.read_bytes())
        raw[-60 if kind == 'pack' else 50] ^= 1
        path.write_bytes(raw)
    head = house.backup('b2', data, parent='b1')
    assert house.content('b2') == data
    assert not house.domain.verify('b2').damages
    assert 0 < head.new_bytes <= len(data)
    if kind == 'pack':
        assert head.new_bytes < len(data) / 2


def test_collector_removes_nothing_when_metadata_is_damaged(house):
    house.backup('b1', mixed(12 * MIB, 11, zeros=0))
    house.backup('b2', mixed(12 * MIB, 12, zeros=0))
    house.domain.delete('b2')
    page = house.path / object_of(house, 'page')
    raw = bytearray(page.read_bytes())
    raw[30] ^= 1
    good = page.read_bytes()
    page.write_bytes(raw)
    before = house.objects()
    report = house.collect()
    assert report.removed == 0
    assert report.blocked
    assert page.name in report.damaged[0]
    assert house.objects() == before
    page.write_bytes(good)
    assert house.collect().removed > 0


def test_a_lost_write_is_seen_at_the_commit(house):
    session = house.domain.start('f.1', backup_id='b1', sizes=[12 * MIB])
    session.write_disk(0, BytesSource(mixed(12 * MIB, 13, zeros=0)),
                       observe=lambda _: None)
    pack = next(o for o in house.objects() if '/p/' in o)
    (house.path / pack).unlink()
    with pytest.raises(errors.StoreCorrupt):
        session.finish({})
    assert house.domain.heads() == []


def test_wrong_content_with_right_seals_is_seen_by_verify(house):
    """A manifest that authenticates but lies: the digest does not fit."""
    head = house.backup('b1', mixed(5 * MIB, 14, zeros=0))
    space = house.domain.space
    sessions = pages.Sessions('x.1')
    writer = pages.PageWriter(sessions)
    opened = space.page(head.disks[0].pages[0])
    for length, ref in reversed(list(opened.runs(sessions))):
        for at in reversed(range(length)):
            writer.add(1, ref + at)
    page = space.put_page('x.1', writer.dump())
    disk = dataclasses.replace(head.disks[0], pages=(page,))
    lie = dataclasses.replace(head, backup_id='b2', session='x.1',
                              disks=(disk,))
    name = layout.head_name(space.name, 'b2', 'x.1')
    space.put(HEAD, name, layout.dump_json(lie.to_json()))
    assert house.content('b2') != house.content('b1')
    damages = house.domain.verify('b2').damages
    assert [d.object for d in damages] == [name]


def test_params_are_taken_from_the_domain(house):
    """A store made with other sizes is read with its own."""
    data = mixed(20 * MIB, 15)
    house.backup('b1', data)
    again = reopen(house.path)
    assert again.domain.space.params == SMALL
    assert again.content('b1') == data


def test_a_damaged_domain_key_stops_only_its_domain(house):
    house.backup('b1', mixed(MIB, 16))
    other = house.store.domain('project-2')
    keys = [o for o in house.objects() if o.startswith('k/')]
    assert len(keys) == 2
    bad = next(name for name in keys if other.name not in name)
    (house.path / bad).write_bytes(b'nothing')
    again = reopen(house.path)
    with pytest.raises(errors.StoreCorrupt, match=bad):
        list(again.store.domains())
    report = again.collect()
    assert list(report.blocked) == [bad.split('/')[1]]
    assert report.domains == 2
