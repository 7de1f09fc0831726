"""Keys, markers and owners: who may open what, and what is told if not."""

import json
import multiprocessing
import os
import stat

import pytest
from storekit import MIB, make_house, mixed

from bakflow import errors
from bakflow.store import (
    FilesystemBackend,
    KeyEncryptionKey,
    Store,
    load_key_file,
)

KEK = KeyEncryptionKey(bytes(range(32)))


def test_key_file_is_made_once_and_closed_to_others(tmp_path):
    path = tmp_path / 'keys' / 'local.key'
    key = load_key_file(path, create=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert load_key_file(path).fingerprint == key.fingerprint
    assert load_key_file(path, create=True).fingerprint == key.fingerprint
    assert os.listdir(path.parent) == ['local.key']


def test_missing_key_file_is_not_made_without_asking(tmp_path):
    with pytest.raises(errors.ConfigError, match='none.key'):
        load_key_file(tmp_path / 'none.key')
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize('mode', [0o640, 0o604, 0o660])
def test_key_file_open_to_others_is_refused(tmp_path, mode):
    path = tmp_path / 'k'
    load_key_file(path, create=True)
    path.chmod(mode)
    with pytest.raises(errors.ConfigError, match='others'):
        load_key_file(path)


@pytest.mark.parametrize('text', [
    '', 'bakflow-key-1\n', 'bakflow-key-2\n' + '0' * 64,
    'bakflow-key-1\n' + '0' * 63, 'bakflow-key-1\n' + 'g' * 64,
    '\xff\xfe', 'bakflow-key-1\n' + '0' * 64 + '\nmore'])
def test_what_is_no_key_file_is_refused(tmp_path, text):
    path = tmp_path / 'k'
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(errors.ConfigError, match='no key file') as caught:
        load_key_file(path)
    assert '0000' not in str(caught.value)


def _load(path, start, out):
    start.wait()
    out.put(load_key_file(path, create=True).fingerprint)


def _create(path, start, out):
    start.wait()
    store = Store.create(FilesystemBackend(path), KEK, deployment='dep-1')
    store.domain('p')
    out.put((store.id, [d.name for d in store.domains()]))


@pytest.mark.parametrize('target', [_load, _create])
def test_processes_that_create_at_once_agree(tmp_path, target):
    context = multiprocessing.get_context('fork')
    for number in range(5):
        start, out = context.Event(), context.Queue()
        members = [context.Process(target=target, args=(
            tmp_path / f'x{number}', start, out)) for _ in range(4)]
        for member in members:
            member.start()
        start.set()
        results = [out.get(timeout=30) for _ in members]
        for member in members:
            member.join()
        assert all(r == results[0] for r in results)


def test_key_is_never_shown(tmp_path):
    key = load_key_file(tmp_path / 'k', create=True)
    secret = (tmp_path / 'k').read_text().split()[1]
    assert secret[:16] not in repr(key)
    assert secret[:16] not in repr(vars(key))


def test_wrong_key(house):
    house.backup('b1', mixed(MIB))
    other = KeyEncryptionKey(bytes(32))
    with pytest.raises(errors.StoreKeyWrong) as caught:
        Store.open(house.backend, other, deployment='dep-1')
    assert other.fingerprint in str(caught.value)
    assert house.kek.fingerprint in str(caught.value)
    with pytest.raises(errors.StoreKeyWrong):
        Store.create(house.backend, other, deployment='dep-1')


def test_other_deployment(house):
    with pytest.raises(errors.StoreForeign, match='dep-1'):
        Store.open(house.backend, KEK, deployment='dep-2')
    with pytest.raises(errors.StoreForeign):
        Store.create(house.backend, KEK, deployment='dep-2')
    assert Store.open(house.backend, KEK, deployment=None).id


def test_newer_format(house):
    path = house.path / 'bakflow.json'
    marker = json.loads(path.read_text())
    marker['format'] = 2
    path.write_text(json.dumps(marker))
    with pytest.raises(errors.StoreTooNew, match='format 2'):
        Store.open(house.backend, KEK, deployment='dep-1')


def test_marker_can_be_read_by_people_and_not_be_changed(house):
    path = house.path / 'bakflow.json'
    marker = json.loads(path.read_text())
    assert marker['deployment'] == 'dep-1'
    assert marker['store'] == house.store.id
    for field, value in [('deployment', 'dep-2'), ('created', 1),
                         ('store', 'x'), ('more', 1)]:
        changed = marker | {field: value}
        path.write_text(json.dumps(changed, sort_keys=True))
        with pytest.raises(errors.StoreCorrupt, match='bakflow.json'):
            Store.open(house.backend, KEK, deployment=None)


@pytest.mark.parametrize('raw', [b'', b'{', b'[]', b'\xff', b'null',
                                 b'{"format": 1}', b'{"format": "1"}',
                                 b'[' * 100000])
def test_what_is_no_marker(house, raw):
    (house.path / 'bakflow.json').write_bytes(raw)
    with pytest.raises(errors.StoreCorrupt, match='bakflow.json'):
        Store.open(house.backend, KEK, deployment='dep-1')


def test_no_store(tmp_path):
    for path in (tmp_path / 'none', tmp_path):
        with pytest.raises(errors.NotAStore):
            Store.open(FilesystemBackend(path), KEK, deployment='dep-1')
    assert not os.listdir(tmp_path)


def test_lost_marker_or_key_is_never_replaced(house):
    """A new secret would hide what is there."""
    house.backup('b1', mixed(MIB))
    key = next(o for o in house.objects() if o.startswith('k/'))
    (house.path / key).unlink()
    again = Store.open(house.backend, KEK, deployment='dep-1')
    with pytest.raises(errors.StoreCorrupt, match=key):
        again.domain('project-1')
    (house.path / key).write_bytes(b'')
    (house.path / 'bakflow.json').unlink()
    with pytest.raises(errors.StoreCorrupt, match='bakflow.json'):
        Store.create(house.backend, KEK, deployment='dep-1')


def test_domains_tell_their_project_only_to_the_key(tmp_path):
    house = make_house(tmp_path / 's')
    names = [f'secret-project-{n}' for n in range(3)]
    for name in names:
        house.store.domain(name)
    again = Store.open(house.backend, KEK, deployment='dep-1')
    assert sorted(d.project_id for d in again.domains()) == names
    whole = b''.join((house.path / o).read_bytes() + o.encode()
                     for o in house.objects())
    assert b'secret-project' not in whole


def test_store_moved_to_another_path_opens(house, tmp_path):
    data = mixed(MIB)
    house.backup('b1', data)
    house.path.rename(tmp_path / 'elsewhere')
    again = Store.open(FilesystemBackend(tmp_path / 'elsewhere'), KEK,
                       deployment='dep-1')
    assert again.domain('project-1').reader('b1').read(0, 0, MIB) == data


def test_usage(house):
    house.backup('b1', mixed(5 * MIB))
    usage = house.store.usage()
    assert usage['total'][0] == len(house.objects())
    assert usage['heads'][0] == 1
    assert usage['total'][1] == sum(v[1] for k, v in usage.items()
                                    if k != 'total')
