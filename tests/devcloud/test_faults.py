"""Each fault does what it says, seen from the client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openstack.connection
import pytest
import requests

from bakflow.devcloud import DevCloud

MIB = 1 << 20
TIMEOUT = 20


class Client:
    """Plain HTTP with a token: one request for each call."""

    def __init__(self, cloud: DevCloud) -> None:
        self.cloud = cloud
        self.headers = {'X-Auth-Token': cloud.token().id,
                        'OpenStack-API-Version': 'volume 3.68'}

    def __call__(self, method: str, path: str,
                 body: Any = None, **kw: Any) -> requests.Response:
        headers = {**self.headers, **kw.pop('headers', {})}
        return requests.request(method, self.cloud.url + path, json=body,
                                headers=headers, timeout=TIMEOUT, **kw)

    def volume(self, method: str, path: str, body: Any = None,
               **kw: Any) -> requests.Response:
        return self(method, '/volume/v3' + path, body, **kw)

    def image(self, method: str, path: str = '', body: Any = None,
              **kw: Any) -> requests.Response:
        return self(method, '/image/v2/images' + path, body, **kw)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[DevCloud]:
    with DevCloud(tmp_path / 'cloud', gib=4 * MIB) as made:
        yield made


@pytest.fixture
def client(cloud: DevCloud) -> Client:
    return Client(cloud)


@pytest.fixture
def source(cloud: DevCloud) -> str:
    return cloud.make_volume('demo', 'source', 1,
                             lambda f: f.write(b'bakflow ' * 1000))


def make_image(cloud: DevCloud, client: Client, data: bytes) -> str:
    made = client.image('POST', '', {
        'name': 'i', 'disk_format': 'raw', 'container_format': 'bare'})
    image_id: str = made.json()['id']
    sent = client.image(
        'PUT', f'/{image_id}/file', data=data,
        headers={'Content-Type': 'application/octet-stream'})
    assert sent.status_code == 204
    return image_id


def aside(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(call())
        except requests.RequestException as e:
            results.append(e)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


# -- on the request -------------------------------------------------------

@pytest.mark.parametrize(('when', 'made'), [('before', 0), ('after', 1)])
def test_drop(cloud: DevCloud, client: Client, source: str, when: str,
              made: int) -> None:
    fault = cloud.faults.add('drop', 'snapshot.create', when=when)
    with pytest.raises(requests.ConnectionError):
        client.volume('POST', '/snapshots',
                      {'snapshot': {'volume_id': source}})
    assert fault.fired == 1
    assert len(cloud.state.snapshots) == made
    again = client.volume('POST', '/snapshots',
                          {'snapshot': {'volume_id': source}})
    assert again.status_code == 202
    assert [r.status for r in cloud.requests.find('snapshot.create')] == [
        0, 202]


@pytest.mark.parametrize(('when', 'made'), [('before', 0), ('after', 1)])
def test_hold_and_release(cloud: DevCloud, client: Client, source: str,
                          when: str, made: int) -> None:
    fault = cloud.faults.add('hold', 'snapshot.create', when=when)
    thread, results = aside(lambda: client.volume(
        'POST', '/snapshots', {'snapshot': {'volume_id': source}}))
    fault.wait_held(TIMEOUT)
    assert not results
    assert len(cloud.state.snapshots) == made
    fault.release()
    thread.join(TIMEOUT)
    assert results[0].status_code == 202
    assert len(cloud.state.snapshots) == 1


def test_stopping_lets_go_what_is_held(tmp_path: Path) -> None:
    with DevCloud(tmp_path / 'c') as cloud:
        client = Client(cloud)
        fault = cloud.faults.add('hold', 'volume.list')
        thread, results = aside(lambda: client.volume('GET', '/volumes'))
        fault.wait_held(TIMEOUT)
    thread.join(TIMEOUT)
    assert not thread.is_alive()
    assert results


@pytest.mark.parametrize('status', [403, 409, 413, 429, 500, 503])
def test_status_some_times(cloud: DevCloud, client: Client,
                           status: int) -> None:
    cloud.faults.add('status', 'volume.list', status=status, count=2,
                     retry_after=7)
    seen = [client.volume('GET', '/volumes') for _ in range(3)]
    assert [r.status_code for r in seen] == [status, status, 200]
    assert seen[0].headers['Retry-After'] == '7'
    assert seen[0].headers['x-openstack-request-id'].startswith('req-')


def test_nth_match_only(cloud: DevCloud, client: Client) -> None:
    cloud.faults.add('status', 'volume.list', nth=3)
    codes = [client.volume('GET', '/volumes').status_code for _ in range(4)]
    assert codes == [200, 200, 503, 200]


def test_expired_token(cloud: DevCloud, client: Client,
                       conn: openstack.connection.Connection,
                       source: str) -> None:
    conn.block_storage.get_volume(source)
    before = len(cloud.requests.find('token.create'))
    cloud.faults.add('expire', 'volume.show')
    assert conn.block_storage.get_volume(source).name == 'source'
    assert len(cloud.requests.find('token.create')) == before + 1


def test_all_tokens_revoked(cloud: DevCloud, client: Client) -> None:
    cloud.revoke_tokens()
    assert client.volume('GET', '/volumes').status_code == 401
    assert client.image('GET').status_code == 401


def test_cut_body(cloud: DevCloud, client: Client) -> None:
    image = make_image(cloud, client, bytes(range(256)) * 4096)
    cloud.faults.add('cut', 'image.download', after_bytes=300_000)
    got = bytearray()
    answer = client.image('GET', f'/{image}/file', stream=True)

    def read_all() -> None:
        for piece in answer.iter_content(1000):
            got.extend(piece)

    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        read_all()
    assert got == (bytes(range(256)) * 4096)[:300_000]
    rest = client.image('GET', f'/{image}/file',
                        headers={'Range': f'bytes={len(got)}-'})
    assert rest.status_code == 206
    assert got + rest.content == bytes(range(256)) * 4096
    assert cloud.requests.find('image.download')[-1].range == (
        'bytes=300000-')


def test_hold_in_mid_body(cloud: DevCloud, client: Client) -> None:
    image = make_image(cloud, client, b'x' * 500_000)
    fault = cloud.faults.add('hold', 'image.download', when='body',
                             after_bytes=100_000)
    thread, results = aside(lambda: client.image('GET', f'/{image}/file'))
    fault.wait_held(TIMEOUT)
    assert cloud.requests.find('image.download')[0].sent == 100_000
    fault.release()
    thread.join(TIMEOUT)
    assert len(results[0].content) == 500_000


def test_upload_cut_in_mid_body(cloud: DevCloud, client: Client) -> None:
    made = client.image('POST', '', {
        'name': 'i', 'disk_format': 'raw', 'container_format': 'bare'})
    path = f'/{made.json()["id"]}/file'
    kind = {'Content-Type': 'application/octet-stream'}
    cloud.faults.add('drop', 'image.upload', when='body',
                     after_bytes=300_000)
    with pytest.raises(requests.ConnectionError):
        client.image('PUT', path, data=b'x' * (8 * MIB), headers=kind)
    assert cloud.requests.find('image.upload')[0].received == 300_000
    cloud.wait(lambda: cloud.image(made.json()['id']).status == 'queued')
    again = client.image('PUT', path, data=b'x' * MIB, headers=kind)
    assert again.status_code == 204


def test_upload_held_in_mid_body(cloud: DevCloud, client: Client) -> None:
    made = client.image('POST', '', {
        'name': 'i', 'disk_format': 'raw', 'container_format': 'bare'})
    image = made.json()['id']
    fault = cloud.faults.add('hold', 'image.upload', when='body',
                             after_bytes=1000)
    thread, results = aside(lambda: client.image(
        'PUT', f'/{image}/file', data=iter([b'x' * 900] * 10),
        headers={'Content-Type': 'application/octet-stream'}))
    fault.wait_held(TIMEOUT)
    assert cloud.image(image).status == 'saving'
    fault.release()
    thread.join(TIMEOUT)
    assert results[0].status_code == 204
    assert cloud.image(image).size == 9000


def test_fault_for_what_a_body_contains(cloud: DevCloud, client: Client,
                                        source: str) -> None:
    cloud.faults.add('status', 'volume.create', contains='source_volid')
    assert client.volume('POST', '/volumes', {
        'volume': {'size': 1}}).status_code == 202
    assert client.volume('POST', '/volumes', {
        'volume': {'source_volid': source}}).status_code == 503


def test_slow_body(cloud: DevCloud, client: Client) -> None:
    image = make_image(cloud, client, b'x' * 200_000)
    cloud.faults.add('slow', 'image.download', rate=400_000)
    begun = time.monotonic()
    assert len(client.image('GET', f'/{image}/file').content) == 200_000
    assert time.monotonic() - begun > 0.4


def test_quota_in_the_services_words(cloud: DevCloud, client: Client,
                                     source: str) -> None:
    for on in ('volume.create', 'snapshot.create', 'image.create'):
        cloud.faults.add('quota', on)
    answers = [
        client.volume('POST', '/volumes', {'volume': {'size': 1}}),
        client.volume('POST', '/snapshots',
                      {'snapshot': {'volume_id': source}}),
        client.image('POST', '', {'name': 'x'})]
    assert [a.status_code for a in answers] == [413] * 3
    assert 'overLimit' in answers[0].json()
    assert 'SnapshotLimitExceeded' in answers[1].text


def test_delete_refused_once(cloud: DevCloud, client: Client,
                             source: str) -> None:
    cloud.faults.add('refuse', 'volume.delete')
    assert client.volume('DELETE', f'/volumes/{source}').status_code == 400
    assert client.volume('DELETE', f'/volumes/{source}').status_code == 202


# -- on the work ----------------------------------------------------------

def test_error_at_each_kind_of_work(cloud: DevCloud, client: Client,
                                    source: str) -> None:
    for on in ('volume.create', 'snapshot.create', 'volume.delete'):
        cloud.faults.add('error', on)
    snapshot = client.volume('POST', '/snapshots', {
        'snapshot': {'volume_id': source}}).json()['snapshot']['id']
    volume = client.volume('POST', '/volumes', {
        'volume': {'size': 1}}).json()['volume']['id']
    cloud.wait(lambda: cloud.snapshot(snapshot).status == 'error')
    cloud.wait(lambda: cloud.volume(volume).status == 'error')
    client.volume('DELETE', f'/volumes/{volume}')
    cloud.wait(lambda: cloud.volume(volume).status == 'error_deleting')
    assert client.volume('DELETE', f'/volumes/{volume}').status_code == 400


def test_stuck_until_released(cloud: DevCloud, client: Client) -> None:
    fault = cloud.faults.add('stuck', 'volume.create')
    volume = client.volume('POST', '/volumes', {
        'volume': {'size': 1}}).json()['volume']['id']
    fault.wait_held(TIMEOUT)
    assert cloud.volume(volume).status == 'creating'
    fault.release()
    cloud.wait(lambda: cloud.volume(volume).status == 'available')


@pytest.mark.parametrize('at', ['queued', 'saving', 'active'])
def test_image_vanishes(cloud: DevCloud, client: Client, source: str,
                        at: str) -> None:
    cloud.faults.add('vanish', 'volume.upload', at=at)
    made = client.volume('POST', f'/volumes/{source}/action', {
        'os-volume_upload_image': {'image_name': 'x', 'force': False}})
    assert made.status_code == 202
    image = made.json()['os-volume_upload_image']['image_id']
    cloud.wait(lambda: image not in cloud.state.images)
    cloud.wait(lambda: cloud.volume(source).status == 'available')
    assert client.image('GET', f'/{image}').status_code == 404


def test_image_deleted_under_an_upload(cloud: DevCloud, client: Client,
                                       source: str) -> None:
    fault = cloud.faults.add('stuck', 'volume.upload')
    made = client.volume('POST', f'/volumes/{source}/action', {
        'os-volume_upload_image': {'image_name': 'x'}})
    image = made.json()['os-volume_upload_image']['image_id']
    fault.wait_held(TIMEOUT)
    assert client.image('DELETE', f'/{image}').status_code == 204
    fault.release()
    cloud.wait(lambda: cloud.volume(source).status == 'available')
    assert cloud.inventory()['images'] == {}


def test_unknown_faults_are_refused(cloud: DevCloud) -> None:
    with pytest.raises(ValueError, match='no such effect'):
        cloud.faults.add('melt', 'volume.create')
    with pytest.raises(ValueError, match='no such operation'):
        cloud.faults.add('drop', 'volume.paint')


# -- from another process -------------------------------------------------

def test_control_needs_the_secret(cloud: DevCloud) -> None:
    answer = requests.get(cloud.url + '/devcloud/requests', timeout=TIMEOUT)
    assert answer.status_code == 401
    assert cloud.secret not in answer.text


def test_no_fault_hits_the_control_api(cloud: DevCloud) -> None:
    cloud.faults.add('status', method='GET', count=None)
    answer = requests.get(
        cloud.url + '/devcloud/inventory', timeout=TIMEOUT,
        headers={'X-Devcloud-Secret': cloud.secret})
    assert answer.status_code == 200


def test_control_over_http(cloud: DevCloud, client: Client,
                           source: str) -> None:
    def control(method: str, path: str, body: Any = None
                ) -> requests.Response:
        return requests.request(
            method, cloud.url + '/devcloud' + path, json=body,
            headers={'X-Devcloud-Secret': cloud.secret}, timeout=TIMEOUT)

    made = control('POST', '/faults', {
        'effect': 'hold', 'on': 'volume.list'}).json()
    none = control('POST', f'/faults/{made["id"]}/wait', {'timeout': 0.1})
    assert none.status_code == 408
    thread, results = aside(lambda: client.volume('GET', '/volumes'))
    assert control('POST', f'/faults/{made["id"]}/wait').json()['held'] == 1
    control('POST', f'/faults/{made["id"]}/release')
    thread.join(TIMEOUT)
    assert results[0].status_code == 200
    assert control('GET', '/requests').json()[-1]['path'] == '/v3/volumes'
    assert control('POST', '/faults', {'effect': 'x'}).status_code == 400
    assert control('DELETE', '/faults').status_code == 204
    assert control('GET', '/faults').json() == []
    assert source in control('GET', '/inventory').json()['volumes']
    control('POST', '/settings', {'quota': {'volumes': 1}})
    assert client.volume('POST', '/volumes', {
        'volume': {'size': 1}}).status_code == 413
    told = control('GET', f'/volumes/{source}/sha256').json()['sha256']
    assert told == cloud.volume_bytes_sha256(source)
