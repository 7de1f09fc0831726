"""Finding, overwriting and mending volumes; quotas."""

from __future__ import annotations

import dataclasses

import pytest

from bakflow import errors
from bakflow.cloud import session, volumes, waiting
from bakflow.devcloud import DevCloud

from .conftest import Pauses


def available(cloud: session.Cloud, id: str, pauses: Pauses
              ) -> waiting.Resource:
    return waiting.until(lambda: cloud.volumes.get(id), want=['available'],
                         deadline_seconds=10, pause=pauses)


def test_find_one(dev: DevCloud, cloud: session.Cloud) -> None:
    one = dev.make_volume(name='one')
    twins = {dev.make_volume(name='twin'), dev.make_volume(name='twin')}
    named_as_id = dev.make_volume(
        name='8b8f0a0e-0000-4000-8000-000000000000')
    dev.make_volume(project='other', name='one')
    foreign = dev.make_volume(project='other', name='secret')
    assert cloud.volumes.find_one('one').id == one
    assert cloud.volumes.find_one(one).id == one
    assert cloud.volumes.find_one(
        '8b8f0a0e-0000-4000-8000-000000000000').id == named_as_id
    with pytest.raises(errors.NotUnique) as caught:
        cloud.volumes.find_one('twin')
    assert all(id in caught.value.message for id in twins)
    for unknown in ('nothing', foreign, 'secret', '../volumes/detail'):
        with pytest.raises(errors.NotFound) as missing:
            cloud.volumes.find_one(unknown)
        assert missing.value.hint


def test_what_a_volume_says(dev: DevCloud, cloud: session.Cloud) -> None:
    id = dev.make_volume(
        name='v', description='d', bootable=True, size_gib=2,
        metadata={'a': 'b', 'readonly': "the user's"},
        image_metadata={'os': 'x'}, attached=True)
    volume = cloud.volumes.get(id)
    assert volume.size_bytes == 2 << 30
    # Cinder shows its own readonly and attached_mode among them.
    assert volume.metadata == {'a': 'b', 'readonly': "the user's"}
    assert volume.details['bootable'] is True
    assert volume.details['encrypted'] is False
    assert volume.details['volume_image_metadata'] == {'os': 'x'}
    assert len(volume.details['attachments']) == 1
    assert volume.status == 'in-use'
    assert volumes.state_problem(volume) is None
    broken = cloud.volumes.get(dev.make_volume(status='error'))
    assert 'error' in str(volumes.state_problem(broken))


LOOKS = [
    volumes.Look('n', 'd', True, {'a': '1'}, {'os_distro': 'debian'}),
    volumes.Look('n', '', False, {}, {}),
    volumes.Look('', 'only words', False, {'k': 'é ü', 'l': ''},
                 {'image_id': '8b8f0a0e-0000-4000-8000-000000000000',
                  'hw_disk_bus': 'scsi'}),
]


@pytest.mark.parametrize('wanted', LOOKS)
def test_a_volume_from_an_image_is_mended(
        dev: DevCloud, cloud: session.Cloud, pauses: Pauses,
        wanted: volumes.Look) -> None:
    image = cloud.images.create(None, name='i', disk_format='raw',
                                properties={'hw_x': 'y'})
    cloud.images.upload(image.id, [b'x' * 4096], 4096)
    made = cloud.volumes.create(None, name='v', size_gib=1,
                                image_id=image.id, metadata={'old': '1'})
    ready = available(cloud, made.id, pauses)
    assert ready.details['bootable']
    assert ready.details['volume_image_metadata']['image_id'] == image.id
    mended = cloud.volumes.mend(made.id, wanted)
    assert volumes.Look.of(mended) == wanted
    # Doing it again sends nothing but a look or two.
    before = len(list(dev.requests))
    cloud.volumes.mend(made.id, wanted)
    new = list(dev.requests)[before:]
    assert {r.method for r in new} == {'GET'}


def test_an_overwritten_volume_is_mended(
        dev: DevCloud, cloud: session.Cloud, pauses: Pauses) -> None:
    image = cloud.images.create(None, name='i', disk_format='raw')
    cloud.images.upload(image.id, [b'new' * 1000], 3000)
    volume = dev.make_volume(name='mine', metadata={'a': 'b'},
                             data=lambda f: f.write(b'old'))
    look = volumes.Look.of(cloud.volumes.get(volume))
    cloud.volumes.reimage(volume, image.id)
    ready = available(cloud, volume, pauses)
    assert volumes.Look.of(ready) != look
    assert volumes.Look.of(cloud.volumes.mend(volume, look)) == look
    with open(dev.volume_path(volume), 'rb') as f:
        assert f.read(6) == b'newnew'


def test_a_lost_answer_to_reimage_is_ambiguous(
        dev: DevCloud, cloud: session.Cloud) -> None:
    image = cloud.images.create(None, name='i', disk_format='raw')
    cloud.images.upload(image.id, [b'new' * 1000], 3000)
    volume = dev.make_volume()
    dev.faults.add('drop', on='volume.reimage', when='after')
    with pytest.raises(errors.AmbiguousCreate):
        cloud.volumes.reimage(volume, image.id)
    assert len(dev.requests.find('volume.reimage')) == 1


def test_an_attached_volume_is_not_overwritten(
        dev: DevCloud, cloud: session.Cloud) -> None:
    image = cloud.images.create(None, name='i', disk_format='raw')
    cloud.images.upload(image.id, [b'new' * 1000], 3000)
    volume = dev.make_volume(attached=True)
    with pytest.raises(errors.CloudError) as caught:
        cloud.volumes.reimage(volume, image.id)
    assert isinstance(caught.value, errors.ResourceBusy)


def test_mending_that_does_not_hold_is_told(
        dev: DevCloud, cloud: session.Cloud) -> None:
    volume = dev.make_volume()
    look = dataclasses.replace(LOOKS[0])
    real, calls = cloud.volumes.set_bootable, []
    cloud.volumes.set_bootable = (      # type: ignore[method-assign]
        lambda *args: calls.append(args))
    with pytest.raises(errors.CloudError, match='does not keep bootable'):
        cloud.volumes.mend(volume, look)
    assert calls == [(volume, True)]
    real(volume, True)
    assert volumes.Look.of(cloud.volumes.get(volume)) == look


def test_headroom(dev: DevCloud, cloud: session.Cloud) -> None:
    for _ in range(3):
        dev.make_volume(size_gib=10)
    found = {f.what: f for f in cloud.quotas.headroom(
        20, 1, 1, volume_type='nfs', n_images=1)}
    assert found['volumes'].needed == 1
    assert found['gigabytes'].needed == 40
    gigabytes = found['gigabytes']
    assert gigabytes.limit is not None
    assert gigabytes.free == gigabytes.limit - 30
    assert gigabytes.enough
    huge = {f.what: f for f in cloud.quotas.headroom(10**6, 1, 1)}
    assert not huge['gigabytes'].enough
    assert huge['snapshots'].enough
    assert 'gigabytes: 2000000 needed' in str(huge['gigabytes'])


def test_headroom_where_quotas_are_closed(
        dev: DevCloud, cloud: session.Cloud) -> None:
    dev.faults.add('status', service='volume', method='GET',
                   path='/os-quota-sets/', status=403, count=None)
    found = {f.what for f in cloud.quotas.headroom(1, 1, 1)}
    assert found == {'volumes', 'snapshots', 'gigabytes'}
    dev.faults.add('status', service='volume', method='GET',
                   path='/limits$', status=403, count=None)
    assert cloud.quotas.headroom(1, 1, 1) == []
