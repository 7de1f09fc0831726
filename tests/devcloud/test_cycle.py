"""The whole way of a backup and a restore, through the real SDK."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import openstack.connection
import pytest

from bakflow.devcloud import DevCloud

MIB = 1 << 20


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[DevCloud]:
    with DevCloud(tmp_path / 'cloud', gib=64 * MIB) as made:
        yield made


def fill(f: BinaryIO) -> None:
    f.write(os.urandom(3 * MIB))
    f.seek(40 * MIB + 12345)
    f.write(os.urandom(MIB))


def wait(conn: openstack.connection.Connection, thing: object) -> None:
    conn.block_storage.wait_for_status(thing, 'available', interval=0.02,
                                       wait=60)


@pytest.mark.parametrize('disk_format', ['raw', 'qcow2'])
def test_there_and_back(cloud: DevCloud, disk_format: str,
                        conn: openstack.connection.Connection) -> None:
    source = cloud.make_volume('demo', 'source', 1, fill, attached=True)
    snapshot = conn.block_storage.create_snapshot(
        volume_id=source, name='s', force=True)
    wait(conn, snapshot)
    copy = conn.block_storage.create_volume(
        snapshot_id=snapshot.id, name='copy', size=1)
    wait(conn, copy)
    made = conn.block_storage.upload_volume_to_image(
        copy, 'image', disk_format=disk_format, visibility='private')
    image = conn.image.get_image(made['image_id'])
    assert image.status in ('queued', 'saving', 'active')   # it may be quick
    conn.image.update_image(image, bakflow='yes')
    conn.image.add_tag(image, 'mine')
    conn.image.wait_for_status(image, 'active', interval=0.02, wait=60)
    image = conn.image.get_image(image.id)
    assert image.tags == ['mine']
    assert image.properties['bakflow'] == 'yes'

    restored = conn.block_storage.create_volume(
        name='restored', size=1, image_id=image.id)
    wait(conn, restored)
    assert (cloud.volume_bytes_sha256(restored.id)
            == cloud.volume_bytes_sha256(source))

    wait(conn, copy)
    conn.image.delete_image(image)
    for volume in (restored, copy):
        conn.block_storage.delete_volume(volume)
        conn.block_storage.wait_for_delete(volume, interval=0.02, wait=60)
    conn.block_storage.delete_snapshot(snapshot)
    conn.block_storage.wait_for_delete(snapshot, interval=0.02, wait=60)
    assert cloud.inventory() == {
        'volumes': {source: 'source (in-use)'}, 'snapshots': {},
        'images': {}}
