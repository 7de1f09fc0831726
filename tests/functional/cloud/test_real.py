"""The same scenarios on the simulated cloud and on a real one.

``BAKFLOW_TEST_CLOUD`` names an entry of clouds.yaml (a plain member of a
project is enough), ``BAKFLOW_TEST_TYPES`` its volume types, comma separated.
Without them the simulated cloud answers. All that is made is deleted.
"""

from __future__ import annotations

import os
import pathlib
import time
import uuid
from collections.abc import Iterator

import pytest

from bakflow import errors
from bakflow.cloud import image_source, naming, session, volumes, waiting
from bakflow.devcloud import DevCloud
from bakflow.qcow2 import writer

from .conftest import make_conf

REAL = os.environ.get('BAKFLOW_TEST_CLOUD')
TYPES = os.environ.get('BAKFLOW_TEST_TYPES', 'nfs').split(',')

#: A raw image of 1 GiB costs the simulated cloud 20 s of hashing.
FORMATS = ['raw', 'qcow2'] if REAL else ['qcow2']

GIB, MIB = 1 << 30, 1 << 20

pytestmark = pytest.mark.timeout(600)


class Scene:
    """One cloud, one volume type, and a broom."""

    def __init__(self, cloud: session.Cloud, volume_type: str) -> None:
        self.cloud = cloud
        self.type = volume_type
        self.deployment = str(uuid.uuid4())
        self.owner, self.flow = str(uuid.uuid4()), str(uuid.uuid4())
        self._number = 0

    def tag(self, role: str) -> naming.Tag:
        self._number += 1
        return naming.Tag(self.deployment, self.owner, self.flow, role,
                          self._number)

    def ready(self, made: waiting.Resource) -> waiting.Resource:
        kind = getattr(self.cloud, f'{made.kind}s')
        return waiting.until(
            lambda: kind.get(made.id), want=['available', 'active'],
            deadline_seconds=180, pause=time.sleep, explain=kind.explain)

    def gone(self, made: waiting.Resource) -> None:
        kind = getattr(self.cloud, f'{made.kind}s')
        kind.delete(made.id)
        waiting.gone(lambda: kind.get(made.id), deadline_seconds=180,
                     pause=time.sleep, explain=kind.explain,
                     again=lambda: kind.delete(made.id))

    def image(self, data: bytes, disk_format: str = 'raw'
              ) -> waiting.Resource:
        made = self.cloud.images.create(self.tag('image'), name='',
                                        disk_format=disk_format)
        self.cloud.images.upload(made.id, [data], len(data))
        return self.ready(made)

    def volume(self, **options: object) -> waiting.Resource:
        return self.ready(self.cloud.volumes.create(
            self.tag('volume'), name='', size_gib=1, volume_type=self.type,
            **options))      # type: ignore[arg-type]

    def snapshot(self, volume: waiting.Resource) -> waiting.Resource:
        return self.ready(self.cloud.snapshots.create(
            volume.id, self.tag('snapshot')))

    def sweep(self) -> None:
        deadline = time.monotonic() + 180
        kinds = (self.cloud.images, self.cloud.volumes,
                 self.cloud.snapshots)
        while True:
            left = [(kind, r) for kind in kinds
                    for r in kind.ours(self.deployment)
                    if naming.parse(r)]
            if not left:
                return
            for kind, resource in left:
                try:
                    kind.delete(resource.id)
                except errors.ResourceBusy:
                    assert time.monotonic() < deadline, left
            time.sleep(0.3)


@pytest.fixture(params=TYPES)
def scene(request: pytest.FixtureRequest, tmp_path: pathlib.Path,
          monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    if REAL:
        cloud = session.connect(make_conf(cloud=REAL))
        made = Scene(cloud, request.param)
        yield made
        made.sweep()
        cloud.close()
        return
    with DevCloud(tmp_path / 'devcloud') as dev:
        path = tmp_path / 'clouds.yaml'
        path.write_text(dev.clouds_yaml())
        monkeypatch.setenv('OS_CLIENT_CONFIG_FILE', str(path))
        cloud = session.connect(make_conf(cloud='devcloud'))
        made = Scene(cloud, request.param)
        yield made
        made.sweep()
        assert not any(dev.inventory().values())
        cloud.close()


def holds(cloud: session.Cloud, image: waiting.Resource, data: bytes
          ) -> bool:
    """Whether the image's disk is ``data`` and then zeros up to 1 GiB."""
    reader = cloud.images.reader(image)
    source: image_source.RawImageSource | image_source.Qcow2ImageSource
    if image.details['disk_format'] == 'raw':
        source = image_source.RawImageSource(reader)
    else:
        source = image_source.Qcow2ImageSource(reader)
    assert source.size == GIB
    buffer, zeros = memoryview(bytearray(4 * MIB)), bytes(4 * MIB)
    for offset, length, has_data in source.extents(0):
        while length:
            view = buffer[:min(length, 4 * MIB)]
            want = data[offset:offset + len(view)]
            if has_data:
                source.readinto(offset, view)
            else:
                view[:] = zeros[:len(view)]
            if view.tobytes() != want + zeros[len(want):len(view)]:
                return False
            offset += len(view)
            length -= len(view)
    source.close()
    return True


@pytest.mark.parametrize('disk_format', FORMATS)
def test_the_road_of_a_backup(scene: Scene, disk_format: str) -> None:
    """Snapshot, volume, image; every byte; and away in that order."""
    cloud = scene.cloud
    data = os.urandom(5 * MIB) + b'text ' * MIB
    source = scene.volume(image_id=scene.image(data).id)
    snapshot = scene.snapshot(source)
    with pytest.raises(errors.ResourceBusy):
        cloud.volumes.delete(source.id)
    temporary = scene.volume(snapshot_id=snapshot.id)
    tag = scene.tag('image')
    made = cloud.images.create_from_volume(temporary.id, tag, disk_format)
    assert tag.fits(made)
    assert made.details['tags'] == ['bakflow']
    assert cloud.images.adopt(made, tag) == made
    if made.status == 'queued':
        with pytest.raises(errors.ResourceBusy):
            cloud.volumes.delete(temporary.id)
    image = scene.ready(made)
    assert tag.fits(image)
    assert image.details['visibility'] == 'private'
    assert image.details['disk_format'] == disk_format
    assert [i.id for i in cloud.images.find(tag)] == [image.id]
    assert holds(cloud, image, data)
    scene.gone(image)
    scene.ready(temporary)
    scene.gone(temporary)
    scene.gone(snapshot)
    scene.gone(source)


def test_the_road_of_a_restore(scene: Scene) -> None:
    """A FAT boot sector, which no raw image may hold, through qcow2."""
    disk = bytearray(os.urandom(MIB))
    disk[:512] = bytes(510) + b'\x55\xaa'
    with pytest.raises(errors.ImageRefused):
        scene.image(bytes(disk).ljust(4 * MIB, b'\0'))
    extents = [(0, len(disk))]
    image = scene.cloud.images.create(scene.tag('image'), name='',
                                      disk_format='qcow2', min_disk=1)
    scene.cloud.images.upload(
        image.id, writer.stream(GIB, extents, lambda o, n: disk[o:o + n]),
        writer.total_size(GIB, extents))
    restored = scene.volume(image_id=scene.ready(image).id)
    again = scene.ready(scene.cloud.images.create_from_volume(
        restored.id, scene.tag('image'), 'qcow2'))
    assert holds(scene.cloud, again, bytes(disk))


@pytest.mark.skipif('raw' not in FORMATS,
                    reason='needs BAKFLOW_TEST_CLOUD: a raw image of 1 GiB')
def test_a_raw_image_that_is_refused_vanishes(scene: Scene) -> None:
    """Upload-to-image says 202, and then the image is gone."""
    disk = bytes(510) + b'\x55\xaa' + bytes(MIB)
    extents = [(0, MIB)]
    image = scene.cloud.images.create(scene.tag('image'), name='',
                                      disk_format='qcow2')
    scene.cloud.images.upload(
        image.id, writer.stream(GIB, extents, lambda o, n: disk[o:o + n]),
        writer.total_size(GIB, extents))
    volume = scene.volume(image_id=scene.ready(image).id)
    with pytest.raises(errors.ResourceVanished):
        scene.ready(scene.cloud.images.create_from_volume(
            volume.id, scene.tag('image'), 'raw'))
    after = scene.ready(volume)
    assert scene.cloud.volumes.explain(after)


def test_a_cancelled_upload(scene: Scene) -> None:
    """Deleting the image is what ends it; the volume is free later."""
    volume = scene.volume(image_id=scene.image(os.urandom(8 * MIB)).id)
    made = scene.cloud.images.create_from_volume(
        volume.id, scene.tag('image'), 'raw')
    scene.cloud.images.delete(made.id)
    scene.gone(scene.ready(volume))


def test_the_look_of_a_restored_volume(scene: Scene) -> None:
    image = scene.image(os.urandom(MIB))
    volume = scene.volume(image_id=image.id)
    for wanted in (
            volumes.Look('é name', 'a description', False, {'k': 'ü v'}, {}),
            volumes.Look('', '', True, {}, {
                'image_id': str(uuid.uuid4()), 'os_distro': 'debian',
                'min_disk': '7'}),
            volumes.Look('n', 'd', False, scene.tag('volume').metadata,
                         {'hw_disk_bus': 'scsi'})):
        mended = scene.cloud.volumes.mend(volume.id, wanted)
        assert volumes.Look.of(mended) == wanted


def test_what_a_plain_member_sees(scene: Scene) -> None:
    cloud = scene.cloud
    found = {f.what: f for f in cloud.quotas.headroom(
        1, 1, 1, volume_type=scene.type, n_images=1)}
    assert {'volumes', 'snapshots', 'gigabytes'} <= found.keys()
    huge = {f.what: f for f in cloud.quotas.headroom(10**7, 1, 1)}
    assert not huge['gigabytes'].enough
    with pytest.raises(errors.QuotaReached):
        cloud.volumes.create(scene.tag('volume'), name='', size_gib=10**7,
                             volume_type=scene.type)
    with pytest.raises(errors.NotFound):
        cloud.volumes.find_one(str(uuid.uuid4()))
    volume = scene.volume()
    assert cloud.volumes.find_one(volume.name).id == volume.id
    assert cloud.volumes.explain(volume) is None
    assert [v.id for v in cloud.volumes.ours(scene.deployment)
            if not getattr(naming.parse(v), 'by_name_only', True)
            ] == [volume.id]


def test_what_is_not_ready(scene: Scene) -> None:
    volume = scene.volume()
    snapshot = scene.cloud.snapshots.create(volume.id, scene.tag('snapshot'))
    if scene.cloud.snapshots.get(snapshot.id).status == 'creating':
        with pytest.raises(errors.ResourceBusy):
            scene.cloud.volumes.create(
                scene.tag('volume'), name='', size_gib=1,
                volume_type=scene.type, snapshot_id=snapshot.id)
    scene.ready(snapshot)
    gone = str(uuid.uuid4())
    with pytest.raises(errors.ResourceVanished):
        scene.cloud.volumes.create(scene.tag('volume'), name='', size_gib=1,
                                   snapshot_id=gone)
