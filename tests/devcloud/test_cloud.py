"""Tokens, projects, quotas and the helpers for tests."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openstack.connection
import openstack.exceptions
import pytest
import requests
import yaml

from bakflow.devcloud import DevCloud

MIB = 1 << 20
Connect = Callable[..., openstack.connection.Connection]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[DevCloud]:
    with DevCloud(tmp_path / 'cloud', gib=4 * MIB) as made:
        yield made


def call(cloud: DevCloud, path: str, token: str | None = None,
         **kw: Any) -> requests.Response:
    headers = {'X-Auth-Token': token} if token else {}
    return requests.get(cloud.url + path, headers=headers, timeout=20, **kw)


# -- tokens ---------------------------------------------------------------

@pytest.mark.parametrize('path', [
    '/volume/v3/volumes', '/image/v2/images', '/identity/v3/projects'])
def test_no_token_no_answer(cloud: DevCloud, path: str) -> None:
    for token in (None, 'wrong'):
        answer = call(cloud, path, token)
        assert answer.status_code == 401
        assert 'WWW-Authenticate' in answer.headers


def test_tokens_expire(tmp_path: Path) -> None:
    with DevCloud(tmp_path / 'c', token_life=-1) as cloud:
        token = cloud.token().id
        assert call(cloud, '/volume/v3/volumes', token).status_code == 401
        cloud.state.token_life = 60
        token = cloud.token().id
        assert call(cloud, '/volume/v3/volumes', token).status_code == 200


def test_wrong_password(cloud: DevCloud) -> None:
    conn = openstack.connect(
        load_yaml_config=False, load_envvars=False,
        auth={**cloud.auth(), 'password': 'wrong'}, region_name='RegionOne')
    with pytest.raises(Exception, match='requires authentication'):
        conn.authorize()


def test_application_credential(cloud: DevCloud) -> None:
    made = cloud.make_app_credential()
    conn = openstack.connect(
        load_yaml_config=False, load_envvars=False, region_name='RegionOne',
        auth_type='v3applicationcredential', auth={
            'auth_url': cloud.auth_url,
            'application_credential_id': made['id'],
            'application_credential_secret': made['secret']})
    assert conn.current_project_id == cloud.project_id('demo')
    assert list(conn.block_storage.volumes()) == []


def test_rescope_and_projects(cloud: DevCloud, connect: Connect) -> None:
    admin = connect('admin')
    names = {p.name for p in admin.identity.projects()}
    assert names == {'demo', 'other', 'admin'}
    rescoped = admin.connect_as_project('demo')
    assert rescoped.current_project_id == cloud.project_id('demo')


def test_clouds_yaml(cloud: DevCloud, tmp_path: Path,
                     monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'clouds.yaml'
    path.write_text(cloud.clouds_yaml())
    assert set(yaml.safe_load(path.read_text())['clouds']) == {
        'devcloud', 'devcloud-other', 'devcloud-admin'}
    monkeypatch.setenv('OS_CLIENT_CONFIG_FILE', str(path))
    conn = openstack.connect('devcloud-other')
    assert conn.current_project_id == cloud.project_id('other')


# -- projects -------------------------------------------------------------

def test_projects_do_not_see_each_other(cloud: DevCloud,
                                        connect: Connect) -> None:
    volume = cloud.make_volume('demo', 'secret')
    other, admin = connect('other'), connect('admin')
    assert list(other.block_storage.volumes()) == []
    with pytest.raises(openstack.exceptions.NotFoundException):
        other.block_storage.get_volume(volume)
    demo = connect('demo')
    image = demo.image.create_image(
        'i', data=b'x' * 100, disk_format='raw', container_format='bare')
    assert list(other.image.images()) == []
    with pytest.raises(openstack.exceptions.NotFoundException):
        other.image.get_image(image.id)
    everything = list(admin.block_storage.volumes(all_projects=True))
    assert [v.id for v in everything] == [volume]
    admin.block_storage.reset_volume_status(volume, 'error', None, None)
    assert cloud.volume(volume).status == 'error'


def test_url_of_another_project(cloud: DevCloud) -> None:
    path = f'/volume/v3/{cloud.project_id("other")}/volumes'
    answer = call(cloud, path, cloud.token().id)
    assert answer.status_code == 400
    own = path.replace(cloud.project_id('other'), cloud.project_id('demo'))
    assert call(cloud, own, cloud.token().id).status_code == 200


# -- quotas ---------------------------------------------------------------

def test_quotas(cloud: DevCloud, conn: openstack.connection.Connection
                ) -> None:
    volume = cloud.make_volume('demo', 'one')
    quota = cloud.state.quota(cloud.project_id('demo'))
    quota.volumes, quota.snapshots = 1, 0
    create = conn.block_storage.create_volume
    with pytest.raises(openstack.exceptions.HttpException,
                       match='VolumeLimitExceeded') as caught:
        create(size=1)
    assert caught.value.status_code == 413
    with pytest.raises(openstack.exceptions.HttpException,
                       match='SnapshotLimitExceeded'):
        conn.block_storage.create_snapshot(volume_id=volume)
    quota.snapshots, quota.gigabytes = 5, 1
    with pytest.raises(openstack.exceptions.HttpException,
                       match='exceeds allowed gigabytes quota. Requested 1G,'
                       ' quota is 1G and 1G has been consumed'):
        conn.block_storage.create_snapshot(volume_id=volume)


def test_images_that_are_too_large(
        cloud: DevCloud, conn: openstack.connection.Connection) -> None:
    cloud.image_size_cap = MIB
    volume = cloud.make_volume('demo', 'large')
    made = conn.block_storage.upload_volume_to_image(volume, 'i')
    cloud.wait(lambda: made['image_id'] not in cloud.state.images)
    cloud.wait(lambda: cloud.volume(volume).status == 'available')
    image = conn.image.create_image('i', disk_format='raw',
                                    container_format='bare')
    answer = conn.image.put(
        f'/images/{image.id}/file', data=b'x' * (2 * MIB),
        headers={'Content-Type': 'application/octet-stream'})
    assert answer.status_code == 413
    assert cloud.image(image.id).status == 'queued'


# -- helpers --------------------------------------------------------------

def test_make_volume(cloud: DevCloud, tmp_path: Path,
                     conn: openstack.connection.Connection) -> None:
    data = os.urandom(3 * MIB)
    (tmp_path / 'data').write_bytes(data)
    volume = cloud.make_volume(
        'demo', 'v', 2, tmp_path / 'data', volume_type='encrypted',
        bootable=True, attached=True, metadata={'a': 'b'},
        image_metadata={'os_type': 'linux'}, description='d')
    assert cloud.volume_bytes_sha256(volume) == hashlib.sha256(
        data + bytes(5 * MIB)).hexdigest()
    shown = conn.block_storage.get_volume(volume)
    assert (shown.status, shown.size) == ('in-use', 2)
    assert shown.is_encrypted
    assert shown.is_bootable
    assert shown.metadata['a'] == 'b'
    assert shown.volume_image_metadata == {'os_type': 'linux'}
    assert cloud.inventory() == {
        'volumes': {volume: 'v (in-use)'}, 'snapshots': {}, 'images': {}}
    assert cloud.inventory('other')['volumes'] == {}
    with open(cloud.volume_path(volume), 'r+b') as f:
        f.write(b'changed')
    assert cloud.volume_bytes_sha256(volume) == hashlib.sha256(
        b'changed' + data[7:] + bytes(5 * MIB)).hexdigest()
    cloud.remove(volume)
    assert cloud.inventory()['volumes'] == {}


def test_a_large_sparse_volume_takes_no_room(tmp_path: Path) -> None:
    with DevCloud(tmp_path / 'c') as cloud:
        volume = cloud.make_volume('demo', 'v', 2048)
        status = os.stat(cloud.volume_path(volume))
        assert status.st_size == 2048 << 30
        assert status.st_blocks < 100


def test_folders_are_private(tmp_path: Path) -> None:
    with DevCloud(tmp_path / 'c') as cloud:
        assert os.stat(cloud.data_dir).st_mode & 0o777 == 0o700


def test_nothing_secret_is_logged(cloud: DevCloud,
                                  caplog: pytest.LogCaptureFixture,
                                  connect: Connect) -> None:
    caplog.set_level('DEBUG', 'bakflow.devcloud')
    list(connect().block_storage.volumes())
    assert cloud.requests
    assert cloud.password not in caplog.text
    assert cloud.secret not in caplog.text
