"""Versions, tokens, and what is answered without one."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from contract.site import Site

UNAUTHORIZED = 'The request you have made requires authentication.'


def auth_url(site: Site) -> str:
    url: str = site.conn.config.auth['auth_url']
    return url.rstrip('/')


def get(url: str, token: str | None = None) -> requests.Response:
    headers = {'X-Auth-Token': token} if token else {}
    return requests.get(url, headers=headers, timeout=60)


def root(url: str, version: str) -> str:
    """The service's root: the endpoint without its version."""
    return url.rstrip('/').removesuffix(version).rstrip('/') + '/'


def sign_in(site: Site, **changes: Any) -> requests.Response:
    auth = {**site.conn.config.auth, **changes}
    domain = {'name': auth['user_domain_name']}
    return requests.post(auth_url(site) + '/auth/tokens', timeout=60, json={
        'auth': {
            'identity': {'methods': ['password'], 'password': {'user': {
                'name': auth['username'], 'domain': domain,
                'password': auth['password']}}},
            'scope': {'project': {'name': auth['project_name'],
                                  'domain': domain}}}})


def test_version_documents(site: Site) -> None:
    found = get(root(auth_url(site), '/v3'))
    assert found.status_code == 300
    assert found.json()['versions']['values'][0]['id'].startswith('v3.')
    found = get(auth_url(site))
    assert found.status_code == 200
    assert found.json()['version']['status'] == 'stable'

    cinder = site.conn.block_storage.get_endpoint()
    base = root(cinder.split('/v3')[0] + '/v3', '/v3')
    found = get(base)
    assert found.status_code == 300
    version = found.json()['versions'][0]
    assert (version['id'], version['min_version'], version['version'],
            version['status']) == ('v3.0', '3.0', '3.71', 'CURRENT')
    assert get(base + 'v3/').status_code == 401
    assert get(base + 'v3/', site.conn.auth_token).json()['versions'][
        0]['version'] == '3.71'

    glance = root(site.conn.image.get_endpoint().split('/v2')[0], '/v2')
    found = get(glance)
    assert found.status_code == 300
    assert {v['id']: v['status'] for v in found.json()['versions']}[
        'v2.18'] == 'CURRENT'
    assert get(glance + 'versions').status_code == 200


def test_token(site: Site) -> None:
    answer = sign_in(site)
    assert answer.status_code == 201
    assert answer.headers['X-Subject-Token']
    token = answer.json()['token']
    assert token['project']['id'] == site.project
    assert {r['name'] for r in token['roles']} == {'reader', 'member'}
    types = {s['type'] for s in token['catalog']}
    assert types >= {'identity', 'image', 'volumev3', 'block-storage'}
    endpoint = token['catalog'][0]['endpoints'][0]
    assert set(endpoint) == {'id', 'interface', 'region_id', 'url', 'region'}


@pytest.mark.parametrize('changes', [
    {'password': 'wrong'}, {'username': 'nobody'},
    {'project_name': 'nowhere'}, {'project_name': 'admin'}])
def test_refused_tokens(site: Site, changes: dict[str, str]) -> None:
    answer = sign_in(site, **changes)
    assert answer.status_code == 401
    assert answer.json() == {'error': {
        'code': 401, 'title': 'Unauthorized', 'message': UNAUTHORIZED}}


def test_unknown_application_credential(site: Site) -> None:
    answer = requests.post(auth_url(site) + '/auth/tokens', timeout=60, json={
        'auth': {'identity': {
            'methods': ['application_credential'],
            'application_credential': {'id': 'nope', 'secret': 'x'}}}})
    assert answer.status_code == 404
    assert answer.json()['error']['message'] == (
        'Could not find Application Credential: nope.')


def test_application_credential(site: Site) -> None:
    user = site.conn.current_user_id
    made = site.conn.identity.create_application_credential(
        user, site.name('credential'))
    try:
        answer = requests.post(
            auth_url(site) + '/auth/tokens', timeout=60, json={
                'auth': {'identity': {
                    'methods': ['application_credential'],
                    'application_credential': {'id': made.id,
                                               'secret': made.secret}}}})
        assert answer.status_code == 201
        assert answer.json()['token']['project']['id'] == site.project
        token = answer.headers['X-Subject-Token']
        url = site.conn.image.get_endpoint().split('/v2')[0].rstrip('/')
        assert get(url + '/v2/images', token).status_code == 200
    finally:
        site.conn.identity.delete_application_credential(user, made.id)


@pytest.mark.parametrize('token', [None, 'wrong'])
def test_without_a_token(site: Site, token: str | None) -> None:
    cinder = site.conn.block_storage.get_endpoint().split('/v3')[0]
    answer = get(cinder + '/v3/volumes', token)
    assert answer.status_code == 401
    assert answer.json() == {'error': {
        'code': 401, 'title': 'Unauthorized', 'message': UNAUTHORIZED}}
    assert answer.headers['WWW-Authenticate'].startswith('Keystone uri=')
    glance = site.conn.image.get_endpoint().split('/v2')[0].rstrip('/')
    answer = get(glance + '/v2/images', token)
    assert answer.status_code == 401
    assert answer.text.startswith('<html>\n <head>\n  <title>401 Unauth')
    assert answer.headers['WWW-Authenticate'].startswith('Keystone uri=')


def test_what_a_member_may_not(site: Site) -> None:
    answer = get(auth_url(site) + '/projects', site.conn.auth_token)
    assert answer.status_code == 403
    assert answer.json()['error']['message'] == (
        'You are not authorized to perform the requested action: '
        'identity:list_projects.')
    own = get(auth_url(site) + '/auth/projects', site.conn.auth_token)
    assert [p['id'] for p in own.json()['projects']] == [site.project]


def test_what_is_not_there(site: Site) -> None:
    token = site.conn.auth_token
    cinder = site.conn.block_storage.get_endpoint().split('/v3')[0]
    answer = get(cinder + '/v3/nosuch', token)
    assert answer.status_code == 404
    assert '<h1>404 Not Found</h1>' in answer.text
    assert get(f'{cinder}/v3/{"0" * 32}/volumes', token).json() == {
        'badRequest': {'code': 400, 'message': 'Malformed request url'}}
    glance = site.conn.image.get_endpoint().split('/v2')[0].rstrip('/')
    answer = get(glance + '/v2/nosuch', token)
    assert answer.status_code == 404
    answer = requests.put(glance + '/v2/images', timeout=60,
                          headers={'X-Auth-Token': token})
    assert answer.status_code == 405
    assert answer.headers['Allow'] == 'GET, POST'
