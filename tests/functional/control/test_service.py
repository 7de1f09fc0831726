"""What becomes of flows that are stopped, lost or cancelled."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from bakflow import errors
from bakflow.conductor.watch import Watch
from bakflow.db import models
from bakflow.engine import runner
from bakflow.tasks import context


def test_a_cancel_after_the_head_finishes_the_cleanup(house, gate):
    house.conductor.start()
    held = gate('commit:end')
    made = house.call('create_backup', volume=house.volume())
    assert held.reached.wait(30)
    house.call('cancel_flow', flow=made['flow_id'])
    # twice: the second renewal begins after the cancel
    watch = next(iter(house.conductor._watches.values()))
    seen = watch.renewed
    house.until(lambda: watch.renewed > seen + 1.5)
    held.opened.set()
    row = house.ended(made['flow_id'])
    assert (row.status, row.direction) == ('done', 'forward')
    assert house.row(models.Backup, made['id']).status == 'available'


def test_a_cancel_heard_before_the_head_does_not_hold_the_cleanup(
        house, gate):
    house.conductor.start()
    held = gate('commit:head')
    made = house.call('create_backup', volume=house.volume())
    assert held.reached.wait(30)
    house.call('cancel_flow', flow=made['flow_id'])
    house.until(lambda: any(
        w.cancel for w in house.conductor._watches.values()))
    held.opened.set()
    assert house.ended(made['flow_id']).status == 'done'
    assert house.row(models.Backup, made['id']).status == 'available'


def test_a_cancel_not_heard_when_the_step_fails_reverts(house, gate,
                                                        monkeypatch):
    house.conductor.start()
    held = gate('snapshot:usable')
    made = house.call('create_backup', volume=house.volume())
    assert held.reached.wait(30)
    watch = house.conductor._watches[made['flow_id']]
    house.conductor._lock.acquire()         # nobody tells it
    try:
        with house.db.transaction() as session:
            session.execute(sa.update(models.Flow).where(
                models.Flow.id == made['flow_id']).values(cancel=True))
        with house.db.transaction() as session:
            entry = session.scalars(sa.select(models.Temporary)).one()
        house.dev.remove(entry.cloud_id)    # the next step fails
        assert not watch.cancel
        held.opened.set()
        house.until(lambda: house.row(
            models.Flow, made['flow_id']).direction == 'revert')
    finally:
        house.conductor._lock.release()
    row = house.ended(made['flow_id'])
    assert row.status == 'reverted'
    assert house.row(models.Backup, made['id']).status == 'error'


def test_a_flow_taken_as_the_stop_begins_is_waited_for(house,
                                                       monkeypatch):
    """Its lease is given back: nobody has to wait until it runs out."""
    real = house.conductor._take

    def late():
        taken = real()
        if taken is not None:
            house.conductor._stopping.set()
        return taken
    monkeypatch.setattr(house.conductor, '_take', late)
    made = house.call('create_backup', volume=house.volume())
    house.conductor.start()
    house.until(house.conductor._stopping.is_set)
    house.conductor.stop()
    assert house.row(models.Flow, made['flow_id']).status == 'queued'


def test_no_failure_ends_the_search_for_work(house, monkeypatch):
    real, failed = house.conductor._take, []

    def once():
        if not failed:
            failed.append(1)
            raise ValueError('odd')
        return real()
    monkeypatch.setattr(house.conductor, '_take', once)
    house.conductor.start()
    made = house.call('create_backup', volume=house.volume())
    assert house.ended(made['flow_id']).status == 'done'


def test_a_run_that_ends_late_forgets_only_itself(house):
    """The next run of the flow began in this process already."""
    made = house.call('create_backup', volume=house.volume())
    flow = made['flow_id']
    old = house.conductor._take()
    with house.db.transaction() as session:
        session.execute(sa.update(models.Flow).where(
            models.Flow.id == flow).values(lease_until=1))
    new = house.conductor._take()
    lease = house.conductor.conf.conductor.lease
    first = Watch(old, house.conductor._stopping, lease)
    second = Watch(new, house.conductor._stopping, lease)
    with house.conductor._bound(first):
        bound = house.conductor._bound(second)
        bound.__enter__()
        house.conductor._watches[flow] = second
    assert context.context_of(flow).epoch == new.claim.epoch
    house.conductor._drive(first)       # loses at once
    assert house.conductor._watches == {flow: second}
    del house.conductor._watches[flow]
    bound.__exit__(None, None, None)
    with pytest.raises(KeyError):
        context.context_of(flow)


@pytest.mark.parametrize('first', [
    errors.Interrupted('stop'), errors.Cancelled('no'),
    errors.CloudRefused('403')])
def test_a_failed_revert_is_not_taken_for_what_failed_before(
        house, monkeypatch, first):
    """Or it would be tried for ever, without a pause."""
    made = house.call('create_backup', volume=house.volume())
    flow = made['flow_id']

    def fail(*_):
        raise first

    def broken(*_):
        raise ValueError('broken')
    from bakflow.tasks import copying, storing
    monkeypatch.setattr(copying.MakeVolume, 'run', fail)
    monkeypatch.setattr(storing.OpenBackup, 'undo', broken)
    # nothing of the later step is reverted: its failure stays
    monkeypatch.setattr(copying.MakeVolume, 'undo', broken)
    house.conductor.start()
    house.until(lambda: house.row(models.Flow, flow).status != 'queued')
    house.until(lambda: house.row(models.Flow, flow).status != 'running'
                or house.row(models.Flow, flow).direction == 'revert')
    if not isinstance(first, errors.Cancelled):
        house.conductor.stop()
        house.call('abandon_flow', flow=flow)
        taken = house.conductor._take()
        with house.conductor._bound(Watch(
                taken, house.conductor._woken.__class__(), 60)):
            outcome = runner.run(house.db, taken)
        assert outcome.error.code == 'unknown'
        return
    assert house.ended(flow).status == 'held'


def test_a_step_reset_and_not_begun_again_is_reverted_too(house,
                                                          monkeypatch):
    """Killed between the reset of a failed step and its new run."""
    from bakflow.tasks import copying
    made = house.call('create_backup', volume=house.volume())
    flow = made['flow_id']
    monkeypatch.setattr(
        copying.MakeSnapshot, 'want', ('never',))
    house.conductor.conf.set_override('snapshot_timeout', 1, 'conductor')
    house.conductor.conf.set_override('max_attempts', 1, 'conductor')
    try:
        house.conductor.start()
        assert house.ended(flow).status == 'held'
    finally:
        house.conductor.conf.clear_override('snapshot_timeout', 'conductor')
        house.conductor.conf.clear_override('max_attempts', 'conductor')
    taken_from = []

    class Killed(BaseException):
        pass

    def die(engine, found):
        real(engine, found)
        taken_from.append(engine)
        raise Killed
    real = runner._go_on
    monkeypatch.setattr(runner, '_go_on', die)
    house.conductor.stop()
    house.conductor._cloud = None
    house.call('resume_flow', flow=flow)
    taken = house.conductor._take()
    with pytest.raises(Killed):
        runner.run(house.db, taken)
    with house.db.transaction() as session:
        session.execute(sa.update(models.Flow).where(
            models.Flow.id == flow).values(lease_until=1))
    house.call('abandon_flow', flow=flow)
    house.conductor._stopping.clear()
    house.conductor.start()
    assert house.ended(flow).status == 'reverted'
    assert house.dev.inventory('demo')['snapshots'] == {}


def test_a_database_that_fails_for_a_moment_holds_nothing(house,
                                                          monkeypatch):
    from bakflow.tasks import copying
    real, failed = copying.MakeVolume.run, []

    def run(self, ctx):
        if not failed:
            failed.append(1)
            raise sa.exc.OperationalError('UPDATE secret', {}, Exception())
        return real(self, ctx)
    monkeypatch.setattr(copying.MakeVolume, 'run', run)
    house.conductor.start()
    made = house.call('create_backup', volume=house.volume(),
                      on_failure='revert')
    row = house.ended(made['flow_id'])
    assert row.status == 'done'
    assert failed


def test_a_lease_overdue_is_left_to_run_out(house, monkeypatch):
    """Reverting, too: the row keeps its status and its epoch."""
    from bakflow.tasks import copying, storing

    def fail(*_):
        raise errors.CloudRefused('403')

    def overdue(*_):
        raise errors.LeaseLost('the lease could not be renewed')
    monkeypatch.setattr(copying.MakeVolume, 'run', fail)
    monkeypatch.setattr(copying.MakeVolume, 'undo', overdue)
    monkeypatch.setattr(storing.OpenBackup, 'undo', fail)
    made = house.call('create_backup', volume=house.volume(),
                      on_failure='revert')
    house.conductor.start()
    house.until(lambda: house.row(
        models.Flow, made['flow_id']).epoch == 2
        and not house.conductor._watches)
    assert house.row(models.Flow, made['flow_id']).status == 'running'


def test_abandoned_before_the_first_step(house):
    made = house.call('create_backup', volume=house.volume())
    house.call('abandon_flow', flow=made['flow_id'])
    house.conductor.start()
    row = house.ended(made['flow_id'])
    assert row.status == 'reverted'
    backup = house.row(models.Backup, made['id'])
    assert backup.status == 'error'
    assert backup.error['message'] == 'abandoned by an operator'


def test_interrupted_while_reverting_the_first_error_stays(house, gate):
    house.conductor.start()
    held = gate('volume:usable')
    made = house.call('create_backup', volume=house.volume())
    assert held.reached.wait(30)
    house.call('cancel_flow', flow=made['flow_id'])
    house.until(lambda: any(
        w.cancel for w in house.conductor._watches.values()))
    reverting = gate('volume:releasing')
    held.opened.set()
    assert reverting.reached.wait(30)
    house.conductor._stopping.set()
    reverting.opened.set()
    house.conductor.stop()
    assert house.row(models.Flow, made['flow_id']).status == 'queued'
    house.conductor._stopping.clear()
    house.conductor._cloud = None
    house.conductor._threads.clear()
    house.conductor.start()
    row = house.ended(made['flow_id'])
    assert (row.status, row.error['code']) == ('reverted', 'cancelled')
    assert house.row(models.Backup, made['id']).error['code'] == 'cancelled'
    left = house.dev.inventory('demo')
    assert len(left['volumes']) == 1
    assert left['snapshots'] == {}
