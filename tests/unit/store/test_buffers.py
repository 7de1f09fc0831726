"""One budget for the process; and what the store may import."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bakflow.store.buffers import Budget


def test_first_come_first_served():
    """A big demand is not passed by small ones that come later."""
    budget = Budget(100)
    order, queued = [], []
    release = threading.Event()

    def member(name, size):
        with budget.take(size, lambda: None):
            order.append(name)

    def holder():
        with budget.take(60):
            queued.append(1)
            release.wait()

    first = threading.Thread(target=holder)
    first.start()
    while not queued:
        pass
    big = threading.Thread(target=member, args=('big', 90))
    big.start()
    while len(budget._queue) < 1:
        pass
    small = threading.Thread(target=member, args=('small', 10))
    small.start()
    while len(budget._queue) < 2:
        pass
    release.set()
    for thread in (first, big, small):
        thread.join()
    assert order == ['big', 'small']
    assert budget.used == 0


def test_waiting_is_told_and_can_be_ended():
    budget = Budget(10)

    class End(Exception):
        pass

    def waiting():
        raise End

    with budget.take(10):
        with pytest.raises(End), budget.take(1, waiting):
            pass
        assert budget.used == 10
    with budget.take(10):
        assert budget.used == 10


def test_more_than_there_is_is_served_alone():
    budget = Budget(10)
    with budget.take(1000):
        assert budget.used == 10
    assert budget.used == 0


def test_the_store_imports_neither_cloud_nor_sql():
    code = ('import sys, bakflow.store\n'
            'print("\\n".join(sys.modules))')
    root = Path(__file__).parents[3]
    out = subprocess.run([sys.executable, '-c', code], check=True, cwd=root,
                         capture_output=True, text=True).stdout.split()
    ours = {m for m in out if m.startswith('bakflow')
            and not m.startswith('bakflow.store')}
    assert ours == {'bakflow', 'bakflow.errors'}
    assert not {'openstack', 'sqlalchemy', 'taskflow', 'oslo_config',
                'requests'} & set(out)
