"""Keystone v3 as far as keystoneauth and the SDK need it."""

from __future__ import annotations

import datetime
import uuid
from typing import TYPE_CHECKING, Any

from bakflow.devcloud.state import AppCredential, Project, Token, User, now
from bakflow.devcloud.web import (
    Answer,
    ApiError,
    Request,
    Route,
    json_answer,
    route,
)

if TYPE_CHECKING:
    from bakflow.devcloud.cloud import DevCloud

REGION = 'RegionOne'
_DOMAIN = {'id': 'default', 'name': 'Default'}


def _time(moment: datetime.datetime) -> str:
    return moment.strftime('%Y-%m-%dT%H:%M:%S.%fZ')


def _version(request: Request) -> dict[str, Any]:
    return {'id': 'v3.14', 'status': 'stable',
            'updated': '2020-04-07T00:00:00Z',
            'links': [{'rel': 'self', 'href': f'{request.url}/v3/'}],
            'media-types': [{
                'base': 'application/json',
                'type': 'application/vnd.openstack.identity-v3+json'}]}


def versions(cloud: DevCloud, request: Request) -> Answer:
    return json_answer({'versions': {'values': [_version(request)]}}, 300,
                       {'Location': f'{request.url}/v3/'})


def version(cloud: DevCloud, request: Request) -> Answer:
    return json_answer({'version': _version(request)})


def catalog(request: Request) -> list[dict[str, Any]]:
    """The service catalogue, the way the rig's looks."""
    services = (('volumev3', 'cinder', '/volume/v3'),
                ('image', 'glance', '/image'),
                ('block-storage', 'cinder-bs', '/volume/v3'),
                ('identity', 'keystone', '/identity/v3'))
    return [{
        'id': uuid.uuid5(uuid.NAMESPACE_URL, kind).hex, 'type': kind,
        'name': name, 'endpoints': [{
            'id': uuid.uuid5(uuid.NAMESPACE_URL, kind + interface).hex,
            'interface': interface, 'region_id': REGION, 'region': REGION,
            'url': request.host + path,
        } for interface in ('admin', 'public', 'internal')],
    } for kind, name, path in services]


def token_body(token: Token, request: Request) -> dict[str, Any]:
    body: dict[str, Any] = {
        'methods': token.methods,
        'user': {'domain': _DOMAIN, 'id': token.user.id,
                 'name': token.user.name, 'password_expires_at': None},
        'audit_ids': [token.id[:22]],
        'expires_at': _time(token.expires), 'issued_at': _time(token.issued)}
    if token.project is not None:
        body.update({
            'project': {'domain': _DOMAIN, 'id': token.project.id,
                        'name': token.project.name},
            'is_domain': False,
            'roles': [{'id': uuid.uuid5(uuid.NAMESPACE_URL, r).hex,
                       'name': r} for r in token.roles],
            'catalog': catalog(request)})
    return {'token': body}


def issue(cloud: DevCloud, user: User, project: Project | None,
          methods: list[str],
          expires: datetime.datetime | None = None) -> Token:
    issued = now()
    life = datetime.timedelta(seconds=cloud.state.token_life)
    token = Token(uuid.uuid4().hex + uuid.uuid4().hex, user, project,
                  user.roles.get(project.id, ()) if project else (),
                  methods, issued, expires or issued + life)
    with cloud.state.lock:
        cloud.state.tokens[token.id] = token
    return token


def _named(things: Any, wanted: dict[str, Any]) -> Any:
    """The record with this id, or name; 401 when there is none."""
    for thing in things:
        if wanted.get('id') == thing.id or (
                'id' not in wanted and wanted.get('name') == thing.name):
            return thing
    raise ApiError(401)


def _by_password(cloud: DevCloud, data: Any) -> tuple[User, None]:
    wanted = data['password']['user']
    user = _named(cloud.state.users.values(), wanted)
    if user.password != wanted.get('password'):
        raise ApiError(401)
    return user, None


def _by_credential(cloud: DevCloud, data: Any) -> tuple[User, Project]:
    wanted = data['application_credential']
    found = cloud.state.app_credentials.get(wanted.get('id', ''))
    if found is None:
        raise ApiError(404, 'Could not find Application Credential: '
                       f'{wanted.get("id")}.')
    if found.secret != wanted.get('secret'):
        raise ApiError(401)
    user = _named(cloud.state.users.values(), {'id': found.user_id})
    project = _named(cloud.state.projects.values(), {'id': found.project_id})
    return user, project


def _scope(cloud: DevCloud, user: User, scope: Any) -> Project | None:
    if scope is None:
        ids = list(user.roles)
        return _named(cloud.state.projects.values(), {'id': ids[0]})
    if scope == 'unscoped' or 'project' not in scope:
        return None
    project = _named(cloud.state.projects.values(), scope['project'])
    if project.id not in user.roles:
        raise ApiError(401)
    return project


def create_token(cloud: DevCloud, request: Request) -> Answer:
    auth = (request.json() or {}).get('auth') or {}
    identity = auth.get('identity')
    if not identity or not identity.get('methods'):
        raise ApiError(400, "'identity' is a required property")
    methods = list(identity['methods'])
    expires = None
    project: Project | None
    try:
        if 'application_credential' in methods:
            user, project = _by_credential(cloud, identity)
        elif 'token' in methods:
            old = cloud.state.tokens.get(identity['token']['id'])
            if old is None or not old.valid():
                raise ApiError(401)
            user, expires = old.user, old.expires
            project = _scope(cloud, user, auth.get('scope'))
        else:
            user, _ = _by_password(cloud, identity)
            project = _scope(cloud, user, auth.get('scope'))
    except (KeyError, TypeError, AttributeError) as e:
        raise ApiError(400, f'{e} is a required property') from None
    token = issue(cloud, user, project, methods, expires)
    request.token = token
    return json_answer(token_body(token, request), 201,
                       {'X-Subject-Token': token.id})


def _subject(cloud: DevCloud, request: Request) -> Token:
    wanted = request.headers.get('x-subject-token', '')
    token = cloud.state.tokens.get(wanted)
    if token is None or not token.valid():
        raise ApiError(404, f'Could not find token: {wanted[:8]}...')
    return token


def show_token(cloud: DevCloud, request: Request) -> Answer:
    token = _subject(cloud, request)
    return json_answer(token_body(token, request), 200,
                       {'X-Subject-Token': token.id})


def revoke_token(cloud: DevCloud, request: Request) -> Answer:
    _subject(cloud, request).revoked = True
    return Answer(204)


def _project_body(request: Request, project: Project) -> dict[str, Any]:
    return {'id': project.id, 'name': project.name, 'domain_id': 'default',
            'description': '', 'enabled': True, 'parent_id': 'default',
            'is_domain': False, 'tags': [], 'options': {},
            'links': {'self': f'{request.url}/v3/projects/{project.id}'}}


def _projects_answer(request: Request, path: str,
                     projects: list[Project]) -> Answer:
    return json_answer({
        'projects': [_project_body(request, p) for p in projects],
        'links': {'next': None, 'previous': None,
                  'self': f'{request.url}{path}'}})


def own_projects(cloud: DevCloud, request: Request) -> Answer:
    mine = [p for p in cloud.state.projects.values()
            if p.id in request.caller.user.roles]
    return _projects_answer(request, request.path, mine)


def list_projects(cloud: DevCloud, request: Request) -> Answer:
    if not request.caller.admin:
        raise ApiError(403, 'You are not authorized to perform the requested '
                       'action: identity:list_projects.')
    name = request.param('name')
    found = [p for p in cloud.state.projects.values()
             if name is None or p.name == name]
    return _projects_answer(request, '/v3/projects', found)


def show_project(cloud: DevCloud, request: Request) -> Answer:
    wanted = request.groups['id']
    for project in cloud.state.projects.values():
        if project.id == wanted and (
                request.caller.admin
                or wanted in request.caller.user.roles):
            return json_answer({'project': _project_body(request, project)})
    raise ApiError(403, 'You are not authorized to perform the requested '
                   'action: identity:get_project.')


def show_catalog(cloud: DevCloud, request: Request) -> Answer:
    return json_answer({'catalog': catalog(request), 'links': {
        'next': None, 'previous': None,
        'self': f'{request.url}/v3/auth/catalog'}})


def create_credential(cloud: DevCloud, request: Request) -> Answer:
    data = request.json().get('application_credential') or {}
    if not data.get('name'):
        raise ApiError(400, "'name' is a required property")
    made = AppCredential(uuid.uuid4().hex,
                         data.get('secret') or uuid.uuid4().hex,
                         data['name'], request.caller.user.id,
                         request.project_id)
    cloud.state.app_credentials[made.id] = made
    return json_answer({'application_credential': {
        'id': made.id, 'secret': made.secret, 'name': made.name,
        'project_id': made.project_id, 'unrestricted': False,
        'description': None, 'expires_at': None}}, 201)


def delete_credential(cloud: DevCloud, request: Request) -> Answer:
    if cloud.state.app_credentials.pop(request.groups['id'], None) is None:
        raise ApiError(404, 'Could not find Application Credential: '
                       f'{request.groups["id"]}.')
    return Answer(204)


OPEN_ROUTES: list[Route] = [
    route('GET', '/', versions),
    route('GET', '/v3/?', version),
    route('POST', '/v3/auth/tokens', create_token),
]
ROUTES: list[Route] = [
    route('GET', '/v3/auth/tokens', show_token),
    route('DELETE', '/v3/auth/tokens', revoke_token),
    route('GET', '/v3/auth/projects', own_projects),
    route('GET', '/v3/auth/catalog', show_catalog),
    route('GET', '/v3/projects', list_projects),
    route('GET', '/v3/projects/{id}', show_project),
    route('GET', '/v3/users/[^/]+/projects', own_projects),
    route('POST', '/v3/users/[^/]+/application_credentials',
          create_credential),
    route('DELETE', '/v3/users/[^/]+/application_credentials/{id}',
          delete_credential),
]
