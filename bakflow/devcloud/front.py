"""Which service answers a request, after authentication and faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakflow.devcloud import (
    cinder,
    cinder_actions,
    cinder_misc,
    cinder_snapshots,
    cinder_volumes,
    control,
    glance,
    keystone,
)
from bakflow.devcloud.web import Answer, ApiError, Request, dispatch

if TYPE_CHECKING:
    from bakflow.devcloud.cloud import DevCloud
    from bakflow.devcloud.faults import Fault

_CINDER = (cinder_volumes.ROUTES + cinder_actions.ROUTES
           + cinder_snapshots.ROUTES + cinder_misc.ROUTES)


def answer(cloud: DevCloud, request: Request) -> Answer:
    """The answer to one request.

    :raises ApiError: to be worded by the service.
    """
    if request.service == 'devcloud':
        return control.answer(cloud, request)
    for fault in request.faults:
        if fault.effect == 'status':
            raise _status_error(fault)
    if request.service == 'identity':
        return _identity(cloud, request)
    if request.service == 'volume':
        return _volume(cloud, request)
    if request.service == 'image':
        return _image(cloud, request)
    raise ApiError(404)


def _authenticate(cloud: DevCloud, request: Request) -> None:
    token = cloud.state.tokens.get(
        request.headers.get('x-auth-token', ''))
    if token is not None:
        for fault in request.faults:
            if fault.effect == 'expire':
                token.revoked = True
    if token is None or not token.valid():
        raise ApiError(401, headers={
            'WWW-Authenticate': f'Keystone uri="{cloud.auth_url}"'})
    request.token = token


def _identity(cloud: DevCloud, request: Request) -> Answer:
    found = dispatch(keystone.OPEN_ROUTES, request, request.path, cloud)
    if found is None:
        _authenticate(cloud, request)
        found = dispatch(keystone.ROUTES, request, request.path, cloud)
    if found is None:
        raise ApiError(404)
    found.headers.setdefault('Vary', 'X-Auth-Token')
    return found


def _volume(cloud: DevCloud, request: Request) -> Answer:
    try:
        cinder.read_version(request)
        found = dispatch(cinder.OPEN_ROUTES, request, request.path, cloud)
        if found is None:
            _authenticate(cloud, request)
            path = cinder.split_path(request)
            if path == '/':
                found = cinder.versions(cloud, request)
            else:
                _refuse(request)
                found = dispatch(_CINDER, request, path, cloud)
        if found is None:
            raise ApiError(404)
    except ApiError as e:
        major, minor = request.version
        if e.status not in (401, 405) and request.token is not None:
            e.headers.setdefault('OpenStack-API-Version',
                                 f'volume {major}.{minor}')
        if e.status == 405:
            raise ApiError(404, headers=e.headers) from None
        raise
    return cinder.version_headers(request, found)


def _image(cloud: DevCloud, request: Request) -> Answer:
    found = dispatch(glance.OPEN_ROUTES, request, request.path, cloud)
    if found is None:
        _authenticate(cloud, request)
        _refuse(request)
        found = dispatch(glance.ROUTES, request, request.path, cloud)
    if found is None:
        raise ApiError(404)
    return found


def _status_error(fault: Fault) -> ApiError:
    headers = {}
    if fault.retry_after is not None:
        headers['Retry-After'] = f'{fault.retry_after:g}'
    return ApiError(fault.status, fault.message or 'a fault was asked for',
                    headers=headers)


def _refuse(request: Request) -> None:
    """The faults ``quota`` and ``refuse``, in the service's own words."""
    for fault in request.faults:
        if fault.effect == 'quota':
            raise _quota_error(request)
        if fault.effect == 'refuse' and request.service == 'image':
            raise ApiError(409, 'Image could not be deleted because it is in '
                           'use: The image cannot be deleted because it is '
                           'in use through the backend store outside of '
                           'Glance.')
        if fault.effect == 'refuse':
            raise ApiError(400, cinder_snapshots.CANNOT_DELETE
                           if '/snapshots' in request.path
                           else cinder_volumes.CANNOT_DELETE)


def _quota_error(request: Request) -> ApiError:
    if request.service == 'image':
        return ApiError(413, 'Image exceeds the storage quota: The size of '
                        'the data would exceed the quota.')
    if '/snapshots' in request.path:
        return cinder.over_limit('SnapshotLimitExceeded: Maximum number of '
                                 'snapshots allowed (100) exceeded')
    return cinder.over_limit(
        'VolumeLimitExceeded: Maximum number of volumes allowed (100) '
        "exceeded for quota 'volumes'.")
