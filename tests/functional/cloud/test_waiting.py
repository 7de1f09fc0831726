"""Waiting ends: when it is so, when it cannot be so, or at the deadline."""

from __future__ import annotations

import pytest

from bakflow import errors
from bakflow.cloud import naming, session, waiting
from bakflow.devcloud import DevCloud

from .conftest import Pauses


def wait_for(cloud: session.Cloud, volume: str, pauses: Pauses,
             deadline: float = 10) -> None:
    waiting.until(lambda: cloud.volumes.get(volume), want=['available'],
                  deadline_seconds=deadline, pause=pauses,
                  explain=cloud.volumes.explain)


def test_until_it_is_so(dev: DevCloud, cloud: session.Cloud,
                        tag: naming.Tag, pauses: Pauses) -> None:
    held = dev.faults.add('stuck', on='volume.create')
    made = cloud.volumes.create(tag, name='', size_gib=1)
    seen: list[str] = []

    def observe(resource: waiting.Resource) -> None:
        seen.append(resource.status)
        if len(seen) == 3:
            held.release()

    ready = waiting.until(
        lambda: cloud.volumes.get(made.id), want={'available'},
        deadline_seconds=30, pause=pauses, observe=observe)
    assert ready.status == 'available'
    assert set(seen) == {'creating', 'available'}
    assert pauses.asked[0] == 0.2


def test_the_pace_of_a_long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Early at first, never more than 1/8 late, then every 5 s."""
    now = 0.0
    looks: list[float] = []

    def pause(seconds: float) -> None:
        nonlocal now
        now += seconds

    def get() -> waiting.Resource:
        looks.append(now)
        return waiting.Resource('image', 'i', 'n', 'saving', {}, None, '',
                                {})

    monkeypatch.setattr(waiting.time, 'monotonic', lambda: now)
    with pytest.raises(errors.WaitTimeout):
        waiting.until(get, want=['active'], deadline_seconds=600,
                      pause=pause)
    assert looks[0] == 0.2
    gaps = [b - a for a, b in zip(looks, looks[1:], strict=False)]
    assert all(gap <= max(0.2, a / 8) + 1e-9
               for a, gap in zip(looks, gaps, strict=False))
    assert max(gaps) == pytest.approx(5.0)
    assert len([t for t in looks if t <= 10]) <= 25
    assert looks[-1] == pytest.approx(600)


def test_a_failure_is_told_with_its_reason(
        dev: DevCloud, cloud: session.Cloud, tag: naming.Tag,
        pauses: Pauses) -> None:
    dev.faults.add('error', on='volume.create')
    made = cloud.volumes.create(tag, name='', size_gib=1)
    with pytest.raises(errors.ResourceFailed) as caught:
        wait_for(cloud, made.id, pauses)
    reason = cloud.volumes.explain(made)
    assert reason
    assert reason in caught.value.message
    assert 'became error where available' in caught.value.message
    assert caught.value.resource == f'volume {made.id}'


@pytest.mark.parametrize('status', [
    'error', 'error_restoring', 'error_extending', 'killed', 'deleted',
    'deactivated'])
def test_every_failed_state_ends_the_wait(status: str,
                                          pauses: Pauses) -> None:
    broken = waiting.Resource('image', 'i', 'n', status, {}, None, '', {})
    with pytest.raises(errors.ResourceFailed, match=status):
        waiting.until(lambda: broken, want=['active'], deadline_seconds=5,
                      pause=pauses)


def test_a_resource_that_vanishes(dev: DevCloud, cloud: session.Cloud,
                                  pauses: Pauses) -> None:
    volume = dev.make_volume(status='creating')

    def observe(_: waiting.Resource) -> None:
        dev.remove(volume)

    with pytest.raises(errors.ResourceVanished) as caught:
        waiting.until(lambda: cloud.volumes.get(volume), want=['available'],
                      deadline_seconds=5, pause=pauses, observe=observe)
    assert caught.value.resource == f'volume {volume}'


def test_the_deadline(dev: DevCloud, cloud: session.Cloud,
                      pauses: Pauses) -> None:
    volume = dev.make_volume(status='creating')
    with pytest.raises(errors.WaitTimeout) as caught:
        wait_for(cloud, volume, pauses, deadline=0.3)
    assert 'did not become available within 0 s' in caught.value.message
    assert 'its status is creating' in caught.value.message
    assert caught.value.retry is errors.Retry.SOON


def test_answers_that_do_not_come_are_survived(
        dev: DevCloud, cloud: session.Cloud, pauses: Pauses) -> None:
    volume = dev.make_volume()
    cloud.volumes._api._patience = 0
    dev.faults.add('status', on='volume.show', status=503, count=3)
    dev.faults.add('drop', on='volume.show', nth=4)
    wait_for(cloud, volume, pauses)
    assert len(dev.requests.find('volume.show')) == 5


def test_answers_that_never_come(dev: DevCloud, cloud: session.Cloud,
                                 pauses: Pauses) -> None:
    volume = dev.make_volume()
    cloud.volumes._api._patience = 0
    dev.faults.add('status', on='volume.show', status=503, count=None)
    with pytest.raises(errors.WaitTimeout) as caught:
        wait_for(cloud, volume, pauses, deadline=0.2)
    assert 'looks found no answer' in caught.value.message
    assert str(caught.value.request_id).startswith('req-')


def test_the_caller_stops_the_wait(dev: DevCloud, cloud: session.Cloud
                                   ) -> None:
    volume = dev.make_volume(status='creating')

    def stop(_: float) -> None:
        raise errors.Interrupted('the conductor stops')

    with pytest.raises(errors.Interrupted):
        waiting.until(lambda: cloud.volumes.get(volume), want=['available'],
                      deadline_seconds=5, pause=stop)


def test_until_gone(dev: DevCloud, cloud: session.Cloud, pauses: Pauses
                    ) -> None:
    volume = dev.make_volume()
    cloud.volumes.delete(volume)
    waiting.gone(lambda: cloud.volumes.get(volume), deadline_seconds=10,
                 pause=pauses)
    assert volume not in dev.inventory()['volumes']


def test_a_deletion_that_fails(dev: DevCloud, cloud: session.Cloud,
                               tag: naming.Tag, pauses: Pauses) -> None:
    snapshot = cloud.snapshots.create(dev.make_volume(), tag)
    waiting.until(lambda: cloud.snapshots.get(snapshot.id),
                  want=['available'], deadline_seconds=5, pause=pauses)
    dev.faults.add('error', on='snapshot.delete')
    cloud.snapshots.delete(snapshot.id)
    with pytest.raises(errors.ResourceFailed, match='error_deleting'):
        waiting.gone(lambda: cloud.snapshots.get(snapshot.id),
                     deadline_seconds=5, pause=pauses,
                     explain=cloud.snapshots.explain)


def test_a_deletion_that_hangs(dev: DevCloud, cloud: session.Cloud,
                               pauses: Pauses) -> None:
    volume = dev.make_volume()
    dev.faults.add('stuck', on='volume.delete')
    cloud.volumes.delete(volume)
    with pytest.raises(errors.WaitTimeout, match='status is deleting'):
        waiting.gone(lambda: cloud.volumes.get(volume),
                     deadline_seconds=0.2, pause=pauses)


def test_a_deletion_that_is_given_up(
        dev: DevCloud, cloud: session.Cloud, pauses: Pauses) -> None:
    """As Cinder does with an RBD volume that something still reads."""
    volume = dev.make_volume()
    with pytest.raises(errors.ResourceBusy, match='given up') as caught:
        waiting.gone(lambda: cloud.volumes.get(volume), deadline_seconds=5,
                     pause=pauses)
    assert caught.value.retry is errors.Retry.SOON
    dev.faults.add('refuse', on='volume.delete', count=2)
    waiting.gone(lambda: cloud.volumes.get(volume), deadline_seconds=10,
                 pause=pauses, again=lambda: cloud.volumes.delete(volume))
    assert len(dev.requests.find('volume.delete')) == 3
