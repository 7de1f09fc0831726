"""Every way in which a call can fail, and how often it is sent."""

from __future__ import annotations

import threading
import uuid

import pytest

from bakflow import errors
from bakflow.cloud import naming, session
from bakflow.devcloud import DevCloud

from .conftest import Pauses

NOWHERE = '00000000-0000-0000-0000-000000000000'


def sent(dev: DevCloud, on: str) -> int:
    return len(dev.requests.find(on))


# -- creates --------------------------------------------------------------

LOST = [{'effect': 'drop', 'when': 'after'},
        {'effect': 'drop', 'when': 'before'},
        {'effect': 'status', 'status': 500},
        {'effect': 'status', 'status': 503},
        {'effect': 'status', 'status': 504}]


@pytest.mark.parametrize('fault', LOST, ids=str)
@pytest.mark.parametrize('kind', ['snapshot', 'volume', 'image', 'upload'])
def test_a_lost_answer_is_ambiguous_and_sent_once(
        dev: DevCloud, cloud: session.Cloud, tag: naming.Tag, kind: str,
        fault: dict[str, object]) -> None:
    volume = dev.make_volume()
    on = 'volume.upload' if kind == 'upload' else f'{kind}.create'
    effect = str(fault['effect'])
    dev.faults.add(effect, on=on,
                   **{k: v for k, v in fault.items() if k != 'effect'})
    creates = {
        'snapshot': lambda: cloud.snapshots.create(volume, tag),
        'volume': lambda: cloud.volumes.create(tag, name='', size_gib=1),
        'image': lambda: cloud.images.create(tag, name='',
                                             disk_format='raw'),
        'upload': lambda: cloud.images.create_from_volume(volume, tag,
                                                          'qcow2')}
    with pytest.raises(errors.AmbiguousCreate) as caught:
        creates[kind]()
    assert sent(dev, on) == 1
    assert caught.value.retry is errors.Retry.SOON
    assert caught.value.hint
    parts = {'snapshot': cloud.snapshots, 'volume': cloud.volumes}
    found = parts.get(kind, cloud.images).find(tag)     # type: ignore
    assert len(found) == (fault.get('when') == 'after')
    for resource in found:      # what was found becomes what was wanted
        adopted = parts.get(kind, cloud.images).adopt(  # type: ignore
            resource, tag)
        assert tag.fits(adopted)


def test_an_answer_that_comes_too_late_is_ambiguous(
        dev: DevCloud, cloud: session.Cloud, tag: naming.Tag) -> None:
    volume = dev.make_volume()
    held = dev.faults.add('hold', on='snapshot.create', when='after')
    with pytest.raises(errors.AmbiguousCreate, match='timeout'):
        cloud.snapshots.create(volume, tag)
    dev.faults.remove(held)
    assert [s.name for s in cloud.snapshots.find(tag)] == [tag.name]
    assert sent(dev, 'snapshot.create') == 1


def test_a_create_after_the_token_died_is_sent_again_once(
        dev: DevCloud, cloud: session.Cloud, tag: naming.Tag) -> None:
    volume = dev.make_volume()
    dev.revoke_tokens()
    made = cloud.snapshots.create(volume, tag)
    assert [s.id for s in cloud.snapshots.find(tag)] == [made.id]
    assert [r.status for r in dev.requests.find('snapshot.create')] == [
        401, 202]


def test_quotas(dev: DevCloud, cloud: session.Cloud,
                tag: naming.Tag) -> None:
    volume = dev.make_volume()
    for on in ('snapshot.create', 'volume.create', 'image.upload'):
        dev.faults.add('quota', on=on)
    with pytest.raises(errors.QuotaReached, match='snapshots') as caught:
        cloud.snapshots.create(volume, tag)
    assert caught.value.retry is errors.Retry.LATER
    with pytest.raises(errors.QuotaReached, match='volumes'):
        cloud.volumes.create(tag, name='', size_gib=1)
    image = cloud.images.create(tag, name='', disk_format='raw')
    with pytest.raises(errors.QuotaReached, match='quota'):
        cloud.images.upload(image.id, [b'a' * 512], 512)


def test_what_a_create_is_made_of_is_missing(
        dev: DevCloud, cloud: session.Cloud, tag: naming.Tag) -> None:
    with pytest.raises(errors.ResourceVanished) as caught:
        cloud.snapshots.create(NOWHERE, tag)
    assert caught.value.resource == f'volume {NOWHERE}'
    with pytest.raises(errors.ResourceVanished) as caught:
        cloud.volumes.create(tag, name='', size_gib=1, snapshot_id=NOWHERE)
    assert caught.value.resource == f'snapshot {NOWHERE}'
    with pytest.raises(errors.CloudRefused):
        cloud.volumes.create(tag, name='', size_gib=1, volume_type='nosuch')
    with pytest.raises(errors.ResourceVanished):
        cloud.images.create_from_volume(NOWHERE, tag, 'raw')


def test_a_source_in_the_wrong_state_is_busy(
        dev: DevCloud, cloud: session.Cloud, tag: naming.Tag) -> None:
    broken = dev.make_volume(status='error')
    with pytest.raises(errors.ResourceBusy) as caught:
        cloud.snapshots.create(broken, tag)
    assert caught.value.retry is errors.Retry.SOON
    with pytest.raises(errors.ResourceBusy):
        cloud.images.create_from_volume(broken, tag, 'raw')


# -- reads ----------------------------------------------------------------

@pytest.mark.parametrize('fault', [
    {'effect': 'status', 'status': 429}, {'effect': 'status', 'status': 502},
    {'effect': 'status', 'status': 503}, {'effect': 'status', 'status': 504},
    {'effect': 'drop', 'when': 'before'}, {'effect': 'drop', 'when': 'after'},
], ids=str)
@pytest.mark.parametrize('on', ['volume.show', 'volume.list'])
def test_a_read_is_repeated(dev: DevCloud, cloud: session.Cloud,
                            pauses: Pauses, on: str,
                            fault: dict[str, object]) -> None:
    volume = dev.make_volume(name='here')
    details = {k: v for k, v in fault.items() if k != 'effect'}
    dev.faults.add(str(fault['effect']), on=on, count=3, **details)
    if on == 'volume.show':
        assert cloud.volumes.get(volume).id == volume
    else:
        assert [v.id for v in cloud.volumes.named('here')] == [volume]
    assert sent(dev, on) == 4
    assert len(pauses.asked) == 3
    # Growing: 0.25, 0.5, 1 s, give or take 30 %.
    assert pauses.asked[0] < 0.33
    assert 0.69 < pauses.asked[2] < 1.31


def test_a_service_that_asks_for_patience_gets_it(
        dev: DevCloud, cloud: session.Cloud, pauses: Pauses) -> None:
    volume = dev.make_volume()
    dev.faults.add('status', on='volume.show', status=429, retry_after=7)
    cloud.volumes.get(volume)
    assert pauses.asked == [7.0]


def test_patience_ends(dev: DevCloud, cloud: session.Cloud,
                       pauses: Pauses) -> None:
    volume = dev.make_volume()
    dev.faults.add('status', on='volume.show', status=503, count=None)

    class Enough(Exception):
        pass

    def stop_after_three(seconds: float) -> None:
        pauses(seconds)
        if len(pauses.asked) == 3:
            raise Enough

    with pytest.raises(Enough):
        cloud.pausing(stop_after_three).volumes.get(volume)
    assert sent(dev, 'volume.show') == 3


def test_a_read_that_stays_without_answer(
        dev: DevCloud, cloud: session.Cloud) -> None:
    volume = dev.make_volume()
    dev.faults.add('status', on='volume.show', status=503, count=None)
    cloud.volumes._api._patience = 0.05
    with pytest.raises(errors.CloudUnavailable) as caught:
        cloud.volumes.get(volume)
    told = caught.value
    assert told.resource == f'volume {volume}'
    assert str(told.request_id).startswith('req-')
    assert '503' in told.message
    assert told.hint


def test_a_token_that_dies_in_mid_flow(dev: DevCloud,
                                       cloud: session.Cloud) -> None:
    volume = dev.make_volume()
    cloud.volumes.get(volume)
    dev.faults.add('expire', on='volume.show')
    assert cloud.volumes.get(volume).id == volume


def test_credentials_that_are_revoked(dev: DevCloud,
                                      cloud: session.Cloud) -> None:
    volume = dev.make_volume()
    dev.revoke_tokens()
    dev.faults.add('status', on='token.create', status=401, count=None)
    with pytest.raises(errors.CloudAuthFailed) as caught:
        cloud.volumes.get(volume)
    assert caught.value.retry is errors.Retry.NEVER


def test_forbidden(dev: DevCloud, cloud: session.Cloud) -> None:
    volume = dev.make_volume()
    dev.faults.add('status', on='volume.show', status=403,
                   message='Policy does not allow this')
    with pytest.raises(errors.CloudRefused, match='Policy does not'):
        cloud.volumes.get(volume)
    assert sent(dev, 'volume.show') == 1


def test_a_listing_of_many_pages(dev: DevCloud, cloud: session.Cloud
                                 ) -> None:
    ids = {dev.make_volume(name=f'v{n}') for n in range(7)}
    listed = list(cloud.volumes._api.pages(
        '/volumes/detail', 'volumes', doing='list', params={'limit': '3'}))
    assert {v['id'] for v in listed} == ids
    assert len(listed) == 7
    for n in range(5):
        cloud.images.create(None, name=f'i{n}', disk_format='raw')
    listed = list(cloud.images._glance.pages(
        '/images', 'images', doing='list', params={'limit': '2'}))
    assert sorted(i['name'] for i in listed) == [f'i{n}' for n in range(5)]


# -- deletes --------------------------------------------------------------

def test_deleting_what_is_gone_is_fine(dev: DevCloud, cloud: session.Cloud
                                       ) -> None:
    for part in (cloud.snapshots, cloud.volumes, cloud.images):
        part.delete(str(uuid.uuid4()))


def test_deleting_twice_is_fine(dev: DevCloud, cloud: session.Cloud) -> None:
    volume = dev.make_volume()
    dev.faults.add('stuck', on='volume.delete')
    cloud.volumes.delete(volume)
    cloud.volumes.delete(volume)
    assert cloud.volumes.get(volume).status == 'deleting'


def test_deleting_what_is_busy(dev: DevCloud, cloud: session.Cloud,
                               tag: naming.Tag) -> None:
    attached = dev.make_volume(attached=True)
    with pytest.raises(errors.ResourceBusy) as caught:
        cloud.volumes.delete(attached)
    assert caught.value.resource == f'volume {attached}'
    assert caught.value.retry is errors.Retry.SOON
    dev.faults.add('refuse', on='image.delete')
    image = cloud.images.create(tag, name='', disk_format='raw')
    with pytest.raises(errors.ResourceBusy):
        cloud.images.delete(image.id)
    cloud.images.delete(image.id)
    assert not dev.inventory()['images']


@pytest.mark.parametrize('when', ['before', 'after'])
def test_a_delete_is_repeated(dev: DevCloud, cloud: session.Cloud,
                              when: str) -> None:
    volume = dev.make_volume()
    dev.faults.add('drop', on='volume.delete', when=when)
    cloud.volumes.delete(volume)
    assert sent(dev, 'volume.delete') == 2
    dev.wait(lambda: not dev.inventory()['volumes'])


# -- finding --------------------------------------------------------------

def test_only_the_very_own_is_found(dev: DevCloud, cloud: session.Cloud,
                                    tag: naming.Tag) -> None:
    def with_(**change: str) -> naming.Tag:
        return naming.Tag(**{**tag.__dict__, **change})

    foreign = with_(deployment=str(uuid.uuid4()))
    other_flow = with_(flow=str(uuid.uuid4()))
    mine = cloud.volumes.create(tag, name='', size_gib=1)
    for other in (foreign, other_flow, with_(role='volume'),
                  with_(owner=str(uuid.uuid4()))):
        cloud.volumes.create(other, name='', size_gib=1)
    dev.make_volume(name=tag.name)                      # by name only
    dev.make_volume(name='mine', metadata=tag.metadata)  # renamed by a user
    dev.make_volume(project='other', name=tag.name, metadata=tag.metadata)
    assert [v.id for v in cloud.volumes.find(tag)] == [mine.id]
    found = {naming.ours(v, tag.deployment) for v in
             cloud.volumes.ours(tag.deployment)}
    assert foreign not in found
    assert tag in found
    assert other_flow in found
    assert any(t and t.by_name_only for t in found)
    assert len(list(cloud.volumes.ours(tag.deployment))) == 6


def test_an_image_is_found_by_name_until_it_is_tagged(
        dev: DevCloud, cloud: session.Cloud, tag: naming.Tag) -> None:
    volume = dev.make_volume()
    dev.faults.add('drop', on='volume.upload', when='after')
    with pytest.raises(errors.AmbiguousCreate):
        cloud.images.create_from_volume(volume, tag, 'qcow2')
    found, = cloud.images.find(tag)
    known = naming.parse(found)
    assert known is not None
    assert known.by_name_only
    adopted = cloud.images.adopt(found, tag)
    assert naming.parse(adopted) == tag
    assert 'bakflow' in adopted.details['tags']
    assert [i.id for i in cloud.images.find(tag)] == [found.id]
    foreign = naming.Tag(str(uuid.uuid4()), tag.owner, tag.flow, tag.role)
    assert cloud.images.find(foreign) == []
    assert list(cloud.images.ours(foreign.deployment)) == []


def test_an_image_refused_at_once(dev: DevCloud, cloud: session.Cloud,
                                  tag: naming.Tag) -> None:
    volume = dev.make_volume()
    dev.faults.add('vanish', on='volume.upload', at='queued')
    held = dev.faults.add('hold', on='image.patch')

    def let_go() -> None:
        held.wait_held()
        dev.wait(lambda: not dev.inventory()['images'])
        dev.faults.remove(held)

    threading.Thread(target=let_go).start()
    with pytest.raises(errors.ImageRefused) as caught:
        cloud.images.create_from_volume(volume, tag, 'raw')
    assert 'qcow2' in str(caught.value.hint)


def test_an_image_whose_tagging_fails_can_be_found(
        dev: DevCloud, cloud: session.Cloud, tag: naming.Tag) -> None:
    volume = dev.make_volume()
    dev.faults.add('status', on='image.patch', status=503, count=None)
    cloud.images._glance._patience = 0.05
    with pytest.raises(errors.AmbiguousCreate):
        cloud.images.create_from_volume(volume, tag, 'qcow2')
    assert len(cloud.images.find(tag)) == 1
