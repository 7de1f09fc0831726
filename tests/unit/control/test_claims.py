"""Leases and fences, on a real database."""

import threading

import pytest
import sqlalchemy as sa
from taskflow.persistence.backends import impl_sqlalchemy

from bakflow import errors, states
from bakflow.conductor import operations, service
from bakflow.db import changes, claims, ledger, models, records
from bakflow.engine import persistence


def age(db, flow_id):
    """The lease ran out."""
    with db.transaction() as session:
        session.execute(sa.update(models.Flow).where(
            models.Flow.id == flow_id).values(lease_until=1))


def now(db):
    with db.transaction() as session:
        return session.scalar(sa.select(models.now_ms()))


def test_a_flow_is_taken_once(db, make_flow):
    flow_id = make_flow()
    taken = claims.take(db, 'a', 60)
    assert taken.claim == changes.Claim(flow_id, 1)
    assert claims.take(db, 'b', 60) is None


def test_many_takers_share_the_flows(db, make_flow):
    made = {make_flow() for _ in range(12)}
    got, lock = [], threading.Lock()

    def work(name):
        while taken := claims.take(db, name, 60):
            with lock:
                got.append(taken.claim.flow_id)
    threads = [threading.Thread(target=work, args=(f'c{n}',))
               for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == sorted(made)


def test_only_the_flows_asked_for_are_taken(db, make_flow):
    make_flow()
    mine = make_flow()
    assert claims.take(db, 'a', 60, {mine}).claim.flow_id == mine
    assert claims.take(db, 'a', 60, {mine}) is None


def test_a_flow_waits_for_its_time(db, make_flow):
    make_flow(run_after=now(db) + 60_000)
    assert claims.take(db, 'a', 60) is None


def test_a_dead_owner_is_fenced(db, make_flow, flow_row):
    flow_id = make_flow()
    old = claims.take(db, 'a', 60).claim
    age(db, flow_id)
    new = claims.take(db, 'b', 60).claim
    assert new.epoch == old.epoch + 1
    assert claims.renew(db, old, 60) is None
    assert claims.renew(db, new, 60) is False
    with pytest.raises(errors.LeaseLost):
        claims.settle(db, old, lambda row: (states.Flow.DONE, {}))
    with pytest.raises(errors.LeaseLost):
        records.Records(db, old).note('x', 1)
    with pytest.raises(errors.LeaseLost):
        ledger.Ledger(db, old, owner_id=models.new_id(),
                      cloud='c').intend('volume', 'volume')
    assert flow_row(flow_id).status == 'running'


def test_taskflows_own_writes_are_fenced(db, make_flow):
    flow_id = make_flow()
    old = claims.take(db, 'a', 60).claim
    backend = persistence.FencedBackend(db, old)
    detail = persistence.flow_detail(backend, flow_id, 'volume-backup')
    age(db, flow_id)
    claims.take(db, 'b', 60)
    detail.state = 'RUNNING'
    with pytest.raises(errors.LeaseLost):
        backend.get_connection().update_flow_details(detail)


@pytest.mark.parametrize('name', ['_update_atom_details',
                                  '_update_flow_details'])
def test_taskflow_still_has_the_methods_that_are_fenced(name):
    assert callable(getattr(impl_sqlalchemy.Connection, name))


def test_cancel_is_heard_with_the_renewal(db, make_flow):
    flow_id = make_flow()
    claim = claims.take(db, 'h:1:1:x', 60).claim
    at = now(db)
    with db.transaction() as session:
        row = session.get_one(models.Flow, flow_id)
        row.owner = 'elsewhere:1:1:x'
        operations.cancel(session, row, at, 'test')
    assert claims.renew(db, claim, 60) is True


@pytest.mark.parametrize('operation', [operations.resume,
                                       operations.abandon])
def test_a_living_conductors_flow_is_left_alone(db, make_flow, operation):
    flow_id = make_flow()
    claims.take(db, 'elsewhere:1:1:x', 60)
    at = now(db)
    with (db.transaction() as session,
          pytest.raises(errors.Conflict, match='lease lasts')):
        operation(session, session.get_one(models.Flow, flow_id), at,
                  'test')


def test_a_dead_process_of_this_host_is_known(db):
    import os
    import socket
    host, pid = socket.gethostname(), os.getpid()
    start = service.process_start(pid)
    assert start > 0
    assert not service.is_dead(f'{host}:{pid}:{start}:x')
    assert service.is_dead(f'{host}:{pid}:{start + 1}:x')
    assert not service.is_dead(f'other-{host}:{pid}:{start + 1}:x')


def test_a_zombie_is_dead():
    import subprocess
    import sys
    process = subprocess.Popen([sys.executable, '-c', 'input()'],
                               stdin=subprocess.PIPE)
    assert service.process_start(process.pid) > 0
    process.kill()
    import os
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert service.process_start(process.pid) == 0
    process.communicate()


def test_abandon_reverts_but_never_past_the_head(db, make_flow, flow_row):
    for committed, direction in ((False, 'revert'), (True, 'forward')):
        flow_id = make_flow(status='held', committed=committed, epoch=3)
        at = now(db)
        with db.transaction() as session:
            operations.abandon(session, session.get_one(
                models.Flow, flow_id), at, 'test')
        row = flow_row(flow_id)
        assert (row.status, row.direction, row.epoch) == (
            'queued', direction, 4)


@pytest.mark.parametrize('status', ['done', 'reverted'])
@pytest.mark.parametrize('operation', [
    operations.resume, operations.abandon, operations.cancel])
def test_what_has_ended_stays_so(db, make_flow, status, operation):
    flow_id = make_flow(status=status)
    at = now(db)
    with db.transaction() as session, pytest.raises(errors.Conflict):
        operation(session, session.get_one(models.Flow, flow_id), at,
                  'test')
