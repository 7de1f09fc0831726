"""The devcloud's own API: faults, requests and settings from outside.

Below ``/devcloud``; every call carries the secret printed at the start in
``X-Devcloud-Secret``. For crash tests, whose cloud is another process than
the one that dies.

| call | does |
| --- | --- |
| ``POST /faults`` | a fault: ``effect``, ``on``, details; answers its ``id`` |
| ``GET /faults``, ``GET /faults/ID`` | what they matched and hold |
| ``POST /faults/ID/wait`` | wait until it holds (``timeout`` seconds; 408) |
| ``POST /faults/ID/release`` | let go |
| ``DELETE /faults/ID``, ``DELETE /faults`` | forget and let go |
| ``GET /requests``, ``DELETE /requests`` | the log |
| ``GET /inventory`` | all that exists |
| ``POST /settings`` | ``delay``, ``delays``, ``send_rate``,
  ``image_size_cap``, ``image_limit``, ``token_life``, ``quota`` |
| ``POST /volumes`` | ``name``, ``size_gib``, ``path`` ... of make_volume |
| ``GET /volumes/ID/sha256`` | of its bytes |
| ``POST /tokens/revoke`` | all tokens answer 401 |
"""

from __future__ import annotations

import dataclasses
import hmac
from typing import TYPE_CHECKING

from bakflow.devcloud.faults import Fault
from bakflow.devcloud.web import (
    Answer,
    ApiError,
    Request,
    Route,
    dispatch,
    json_answer,
    route,
)

if TYPE_CHECKING:
    from bakflow.devcloud.cloud import DevCloud


def answer(cloud: DevCloud, request: Request) -> Answer:
    """The answer of the control API.

    :raises ApiError: 401 without the secret, 404 for what is not there.
    """
    given = request.headers.get('x-devcloud-secret', '')
    if not hmac.compare_digest(given.encode(), cloud.secret.encode()):
        raise ApiError(401)
    found = dispatch(ROUTES, request, request.path, cloud)
    if found is None:
        raise ApiError(404)
    return found


def add_fault(cloud: DevCloud, request: Request) -> Answer:
    try:
        fault = cloud.faults.add(**request.json())
    except (TypeError, ValueError) as e:
        raise ApiError(400, str(e)) from None
    return json_answer(fault.to_dict(), 201)


def list_faults(cloud: DevCloud, request: Request) -> Answer:
    return json_answer([f.to_dict() for f in cloud.faults.all()])


def _fault(cloud: DevCloud, request: Request) -> Fault:
    fault = cloud.faults.get(request.groups['id'])
    if fault is None:
        raise ApiError(404)
    return fault


def show_fault(cloud: DevCloud, request: Request) -> Answer:
    return json_answer(_fault(cloud, request).to_dict())


def wait_fault(cloud: DevCloud, request: Request) -> Answer:
    fault = _fault(cloud, request)
    data = request.json() if request.content else {}
    try:
        fault.wait_held(float(data.get('timeout', 30)))
    except TimeoutError as e:
        raise ApiError(408, str(e)) from None
    return json_answer(fault.to_dict())


def release_fault(cloud: DevCloud, request: Request) -> Answer:
    fault = _fault(cloud, request)
    fault.release()
    return json_answer(fault.to_dict())


def remove_fault(cloud: DevCloud, request: Request) -> Answer:
    cloud.faults.remove(_fault(cloud, request))
    return Answer(204)


def clear_faults(cloud: DevCloud, request: Request) -> Answer:
    cloud.faults.clear()
    return Answer(204)


def list_requests(cloud: DevCloud, request: Request) -> Answer:
    return json_answer([dataclasses.asdict(r) for r in cloud.requests
                        if r.service != 'devcloud'])


def clear_requests(cloud: DevCloud, request: Request) -> Answer:
    cloud.requests.clear()
    return Answer(204)


def inventory(cloud: DevCloud, request: Request) -> Answer:
    return json_answer(cloud.inventory(request.param('project')))


def change_settings(cloud: DevCloud, request: Request) -> Answer:
    data = request.json()
    for key, value in data.items():
        if key == 'delay':
            cloud.workers.delay = float(value)
        elif key == 'delays':
            cloud.workers.delays = {k: float(v) for k, v in value.items()}
        elif key == 'token_life':
            cloud.state.token_life = float(value)
        elif key in ('send_rate', 'image_size_cap', 'image_limit'):
            setattr(cloud, key, value)
        elif key == 'quota':
            quota = cloud.state.quota(cloud.project_id(
                value.get('project', 'demo')))
            for name, limit in value.items():
                if name != 'project':
                    setattr(quota, name, int(limit))
        else:
            raise ApiError(400, f'no such setting: {key}')
    return json_answer(data)


def add_volume(cloud: DevCloud, request: Request) -> Answer:
    details = request.json()
    if 'path' in details:
        details['data'] = details.pop('path')
    try:
        made = cloud.make_volume(**details)
    except (TypeError, KeyError, OSError) as e:
        raise ApiError(400, f'{type(e).__name__}: {e}') from None
    return json_answer({'id': made, 'path': cloud.volume_path(made)}, 201)


def volume_sha256(cloud: DevCloud, request: Request) -> Answer:
    wanted = request.groups['id']
    if wanted not in cloud.state.volumes:
        raise ApiError(404)
    return json_answer({'sha256': cloud.volume_bytes_sha256(wanted)})


def revoke(cloud: DevCloud, request: Request) -> Answer:
    cloud.revoke_tokens()
    return Answer(204)


ROUTES: list[Route] = [
    route('POST', '/faults', add_fault),
    route('GET', '/faults', list_faults),
    route('DELETE', '/faults', clear_faults),
    route('GET', '/faults/{id}', show_fault),
    route('DELETE', '/faults/{id}', remove_fault),
    route('POST', '/faults/{id}/wait', wait_fault),
    route('POST', '/faults/{id}/release', release_fault),
    route('GET', '/requests', list_requests),
    route('DELETE', '/requests', clear_requests),
    route('GET', '/inventory', inventory),
    route('POST', '/settings', change_settings),
    route('POST', '/volumes', add_volume),
    route('GET', '/volumes/{id}/sha256', volume_sha256),
    route('POST', '/tokens/revoke', revoke),
]
