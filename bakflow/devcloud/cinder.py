"""Cinder v3: versions, microversions, and what all its resources share."""

from __future__ import annotations

import ast
import datetime
import json
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

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

MAX_VERSION = (3, 71)
MAX_LIMIT = 1000
NOT_FOUND = 'The resource could not be found.'
_UUID = re.compile(r'^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$')


def stamp(moment: datetime.datetime | None,
          exact: bool = False) -> str | None:
    """A time as Cinder writes it: to the second once it was in SQL."""
    if moment is None:
        return None
    fraction = moment.microsecond if exact else 0
    return moment.strftime('%Y-%m-%dT%H:%M:%S.') + f'{fraction:06d}'


def is_uuid(text: Any) -> bool:
    return isinstance(text, str) and _UUID.match(text) is not None


def versions(cloud: DevCloud, request: Request) -> Answer:
    data = {'versions': [{
        'id': 'v3.0', 'status': 'CURRENT', 'version': '3.71',
        'min_version': '3.0', 'updated': '2023-08-31T00:00:00Z',
        'links': [{'rel': 'describedby', 'type': 'text/html',
                   'href': 'https://docs.openstack.org/'},
                  {'rel': 'self', 'href': f'{request.url}/v3/'}],
        'media-types': [{
            'base': 'application/json',
            'type': 'application/vnd.openstack.volume+json;version=3'}]}]}
    return json_answer(data, 300 if request.path == '/' else 200)


def read_version(request: Request) -> None:
    """Take the microversion from the header.

    :raises ApiError: 400 or 406 as Cinder does.
    """
    header = request.headers.get('openstack-api-version', '')
    kind, _, text = header.strip().partition(' ')
    if kind != 'volume' or not text:
        return
    if text == 'latest':
        request.version = MAX_VERSION
        return
    match = re.match(r'^([1-9]\d*)\.([1-9]\d*|0)$', text)
    if match is None:
        raise ApiError(400, f'API Version String {text} is of invalid '
                       'format. Must be of format MajorNum.MinorNum.')
    wanted = (int(match[1]), int(match[2]))
    if not (3, 0) <= wanted <= MAX_VERSION:
        raise ApiError(406, f'Version {text} is not supported by the API. '
                       'Minimum is 3.0 and maximum is 3.71.')
    request.version = wanted


def version_headers(request: Request, answer: Answer) -> Answer:
    major, minor = request.version
    answer.headers.setdefault('Vary', 'OpenStack-API-Version')
    answer.headers.setdefault('OpenStack-API-Version',
                              f'volume {major}.{minor}')
    answer.headers.setdefault('x-compute-request-id', request.request_id)
    return answer


def split_path(request: Request) -> str:
    """The path below /v3 and below the project's id, if that is there.

    :raises ApiError: 400 when the project is not the token's.
    """
    match = re.match(r'^/v3(?:/([0-9a-f]{32}))?(/.*)?$', request.path)
    if match is None:
        raise ApiError(404)
    if match[1] and match[1] != request.project_id:
        raise ApiError(400, 'Malformed request url')
    return match[2] or '/'


def base_url(request: Request) -> str:
    """The URL of the service as called: with or without the project."""
    match = re.match(r'^/v3(/[0-9a-f]{32})?', request.path)
    return request.url + (match[0] if match else '/v3')


def links(request: Request, path: str) -> list[dict[str, str]]:
    own = base_url(request) + path
    return [{'rel': 'self', 'href': own},
            {'rel': 'bookmark', 'href': own.replace('/v3', '', 1)}]


def need(request: Request, name: str,
         known: Sequence[str] = ()) -> dict[str, Any]:
    """The body's object of this name.

    :raises ApiError: 400 when it is missing or has unknown keys.
    """
    data = request.json()
    if not isinstance(data, dict) or name not in data:
        raise ApiError(400, f"'{name}' is a required property")
    value = data[name]
    if not isinstance(value, dict):
        raise ApiError(400, f'Invalid input for field/attribute {name}. '
                       f"Value: {value}. {value!r} is not of type 'object'")
    for key in value:
        if known and key not in known:
            raise invalid(name, value, 'Additional properties are not '
                          f"allowed ('{key}' was unexpected)")
    return value


def invalid(field: str, value: Any, why: str) -> ApiError:
    return ApiError(400, f'Invalid input for field/attribute {field}. '
                    f'Value: {value}. {why}')


def forbidden(rule: str) -> ApiError:
    return ApiError(403, f"Policy doesn't allow {rule} to be performed.")


def over_limit(message: str) -> ApiError:
    return ApiError(413, message, headers={'Retry-After': '0'})


_TRUE = (True, 'True', 'TRUE', 'true', '1', 'ON', 'On', 'on', 'YES', 'Yes',
         'yes', 'y', 't')
_FALSE = (False, 'False', 'FALSE', 'false', '0', 'OFF', 'Off', 'off', 'NO',
          'No', 'no', 'n', 'f')


def boolean(field: str, value: Any) -> bool:
    if value in _TRUE and value != 1 or value is True:
        return True
    if value in _FALSE and value != 0 or value is False:
        return False
    allowed = list(_TRUE + _FALSE)
    raise invalid(field, value, f'{value!r} is not one of {allowed}')


def check_metadata(data: Any) -> dict[str, str]:
    if not isinstance(data, dict):
        raise invalid('metadata', data, f"{data!r} is not of type 'object'")
    for key, value in data.items():
        if not isinstance(value, str):
            raise invalid(key, value, f"{value!r} is not of type 'string'")
        if len(value) > 255:
            raise invalid(key, value, f'{value!r} is too long')
    return dict(data)


def check_name(field: str, value: Any) -> str | None:
    if value is not None and len(str(value)) > 255:
        raise ApiError(400, f'Invalid input received: {field} has '
                       f'{len(str(value))} characters, more than 255.')
    return None if value is None else str(value).strip()


def _metadata_filter(text: str) -> dict[str, str] | None:
    for reader in (json.loads, ast.literal_eval):
        try:
            data = reader(text)
        except (ValueError, SyntaxError):
            continue
        if isinstance(data, dict):
            return {str(k): str(v) for k, v in data.items()}
    return None


_PAGING = ('limit', 'marker', 'offset', 'sort', 'sort_key', 'sort_dir',
           'with_count', 'all_tenants')


def filtered(items: list[Any], request: Request,
             fields: dict[str, Callable[[Any], Any]],
             filters: Sequence[str]) -> list[Any]:
    """Those that fit the query's filters.

    A filter that is not in ``resource_filters.json`` is ignored before 3.31
    and refused (400) from then on; an admin's goes to the database.
    """
    given = [(k, v) for k, v in request.params if k not in _PAGING]
    if request.version >= (3, 31) and not request.caller.admin:
        unknown = [k for k, _ in given if k not in filters]
        if unknown:
            raise ApiError(400, f'Invalid filters {",".join(unknown)} are '
                           'found in query options.')
    for key, value in given:
        if key == 'metadata' and key in filters:
            wanted = _metadata_filter(value)
            items = [] if wanted is None else [
                x for x in items if wanted.items() <= x.metadata.items()]
        elif key in fields and (key in filters or request.caller.admin):
            items = [x for x in items if str(fields[key](x)) == value]
    return items


def _limit(request: Request, name: str, default: int) -> int:
    text = request.param(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        raise ApiError(400, f'{name} param must be an integer') from None
    if value < 0:
        raise ApiError(400, f'{name} param must be positive')
    return value


def _sorted(items: list[Any], request: Request,
            fields: dict[str, Callable[[Any], Any]]) -> list[Any]:
    """By creation, newest first, or as ``sort``, ``sort_key`` say.

    SQL knows seconds only: within one the ids decide.
    """
    items = sorted(items, key=lambda x: (stamp(x.created), x.id),
                   reverse=True)
    text = request.param('sort')
    key, direction = request.param('sort_key'), request.param('sort_dir')
    pairs = [(key, direction)] if key else []
    pairs += [tuple((p + ':').split(':')[:2])  # type: ignore[misc]
              for p in (text or '').split(',') if p]
    for name, way in reversed(pairs):
        if name not in fields:
            raise ApiError(400, 'Invalid input received: Invalid sort key')
        field = fields[str(name)]
        items.sort(key=lambda x, f=field: str(f(x)),  # type: ignore[misc]
                   reverse=way != 'asc')
    return items


def page(items: list[Any], request: Request, kind: str,
         missing: Callable[[str], ApiError],
         fields: dict[str, Callable[[Any], Any]], filters: Sequence[str],
         view: Callable[[Any], dict[str, Any]]) -> Answer:
    """One page of a list with filters, order, marker and limit.

    As on the real one, a full page has a ``next`` link even when nothing
    follows.
    """
    found = _sorted(filtered(items, request, fields, filters), request, fields)
    total = len(found)
    marker = request.param('marker')
    if marker is not None:
        ids = [x.id for x in found]
        if marker not in ids:
            raise missing(marker)
        found = found[ids.index(marker) + 1:]
    offset = _limit(request, 'offset', 0)
    limit = min(_limit(request, 'limit', MAX_LIMIT), MAX_LIMIT)
    found = found[offset:offset + limit]
    data: dict[str, Any] = {kind: [view(x) for x in found]}
    if found and len(found) == limit:
        query = [(k, v) for k, v in request.params if k != 'marker']
        query.append(('marker', found[-1].id))
        path = request.url + request.path
        data[f'{kind}_links'] = [{'rel': 'next',
                                  'href': f'{path}?{urlencode(query)}'}]
    if request.version >= (3, 45) and request.param(
            'with_count', '').lower() == 'true':  # type: ignore[union-attr]
        data['count'] = total
    return json_answer(data)


OPEN_ROUTES: list[Route] = [route('GET', '/', versions)]
