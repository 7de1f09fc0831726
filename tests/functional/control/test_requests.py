"""Requests that meet each other."""

from __future__ import annotations

import threading

import pytest

from bakflow import errors
from bakflow.conductor import requests
from bakflow.db import models


def both(house, monkeypatch, method, slow, call):
    """Two calls at once, both past the look for the key."""
    barrier, real = threading.Barrier(2), getattr(requests, slow)

    def wait(*args, **kwargs):
        barrier.wait(10)
        return real(*args, **kwargs)
    monkeypatch.setattr(requests, slow, wait)
    got = []

    def work():
        try:
            got.append(call()['id'])
        except Exception as exc:    # noqa: BLE001
            got.append(exc)
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got


def test_one_key_at_the_same_time_is_one_backup(house, monkeypatch):
    volume = house.volume()
    got = both(house, monkeypatch, 'create_backup', 'source',
               lambda: house.call('create_backup', volume=volume,
                                  idempotency_key='k'))
    assert isinstance(got[0], str), got
    assert got[0] == got[1]


def test_one_key_at_the_same_time_is_one_restore(house, monkeypatch,
                                                 tmp_path):
    house.conductor.start()
    backup = house.backed_up()
    volume = house.volume()
    got = both(house, monkeypatch, 'create_restore', 'check_existing',
               lambda: house.call(
                   'create_restore', backup=backup, idempotency_key='k',
                   destination={'kind': 'existing-volume',
                                'volume_id': volume}))
    assert isinstance(got[0], str), got
    assert got[0] == got[1]


def test_a_key_used_again_wakes_the_flow(house):
    """An earlier process died with the flow still queued."""
    volume = house.volume()
    first = house.call('create_backup', volume=volume, idempotency_key='k')
    house.conductor.only = set()
    house.conductor.start()
    again = house.call('create_backup', volume=volume, idempotency_key='k')
    assert again['id'] == first['id']
    assert house.ended(first['flow_id']).status == 'done'


def test_a_backup_whose_deletion_is_accepted_is_not_restored(house,
                                                             tmp_path):
    house.conductor.start()
    backup = house.backed_up()
    house.conductor.stop()
    house.call('delete_backup', backup=backup)      # nobody runs it yet
    with pytest.raises(errors.Conflict):
        house.call('create_restore', backup=backup, destination={
            'kind': 'file', 'path': str(tmp_path / 'disk')})


def test_a_deletion_accepted_in_between_refuses_the_restore(
        house, monkeypatch):
    house.conductor.start()
    backup = house.backed_up()
    house.conductor.stop()
    house.conductor._cloud = None       # stop has closed it
    volume, real = house.volume(), requests.check_existing

    def meanwhile(*args):
        house.call('delete_backup', backup=backup)
        return real(*args)
    monkeypatch.setattr(requests, 'check_existing', meanwhile)
    with pytest.raises(errors.Conflict):
        house.call('create_restore', backup=backup, destination={
            'kind': 'existing-volume', 'volume_id': volume})


def test_an_abandoned_deletion_leaves_the_backup(house, gate):
    house.conductor.start()
    backup = house.backed_up()
    held = gate('open:end')
    flow = house.call('delete_backup', backup=backup)['flow_id']
    assert held.reached.wait(30)
    house.call('cancel_flow', flow=flow)
    house.until(lambda: any(
        w.cancel for w in house.conductor._watches.values()))
    held.opened.set()
    assert house.ended(flow).status == 'reverted'
    assert house.row(models.Backup, backup).status == 'available'
    again = house.call('delete_backup', backup=backup)
    assert house.ended(again['flow_id']).status == 'done'


def test_a_deletion_abandoned_after_the_head_can_be_finished(house, gate):
    house.conductor.start()
    backup = house.backed_up()
    held = gate('remove:removed')
    flow = house.call('delete_backup', backup=backup)['flow_id']
    assert held.reached.wait(30)
    house.call('cancel_flow', flow=flow)
    house.until(lambda: any(
        w.cancel for w in house.conductor._watches.values()))
    held.opened.set()
    house.ended(flow)
    assert house.row(models.Backup, backup).status == 'deleted'


def test_what_is_wrong_in_us_is_not_told_in_sql(house, monkeypatch):
    def broken(*_):
        raise ValueError('[SQL: insert … password]')
    monkeypatch.setattr(requests, 'one_backup', broken)
    with pytest.raises(errors.UnknownError) as caught:
        house.call('show_backup', backup='x')
    assert 'password' not in str(caught.value)
    assert 'ValueError' in str(caught.value)
