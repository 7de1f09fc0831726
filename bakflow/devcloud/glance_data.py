"""The bytes of images: upload with checks, ranged download, deletion."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bakflow.devcloud import content
from bakflow.devcloud.files import PIECE
from bakflow.devcloud.state import Image
from bakflow.devcloud.web import Answer, ApiError, FileBody, Request

if TYPE_CHECKING:
    from bakflow.devcloud.cloud import DevCloud

_UPLOAD_TYPE = 'application/octet-stream'
_ZEROS = bytes(PIECE)


def find(cloud: DevCloud, request: Request,
         words: str = 'No image found with ID {}') -> Image:
    """An image that the caller may see.

    :raises ApiError: 404 with Glance's words.
    """
    wanted = request.groups['id']
    image = cloud.state.images.get(wanted)
    if image is None or not cloud.sees_image(request, image):
        raise ApiError(404, words.format(wanted))
    return image


def check_owner(request: Request, image: Image) -> None:
    if image.owner != request.project_id and not request.caller.admin:
        raise ApiError(403, 'You are not permitted to modify this image.')


def forget(cloud: DevCloud, image: Image) -> None:
    """Delete an image and its bytes; who downloads it goes on reading."""
    with cloud.state.changed:
        cloud.state.images.pop(image.id, None)
        image.status = 'deleted'
        cloud.state.changed.notify_all()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(cloud.image_path(image.id))


# -- download -------------------------------------------------------------

def _unsatisfiable(detail: str = 'Invalid Range header.') -> ApiError:
    return ApiError(416, detail=detail)


def _range(request: Request, size: int) -> tuple[int, int] | None:
    """The (first, last) byte asked for; None: the whole.

    :raises ApiError: 416 for what is not there, 400 for several ranges.
    """
    text = request.headers.get('range')
    if text is None:
        text = request.headers.get('content-range')
        if text is None:
            return None
        text = 'bytes=' + text.removeprefix('bytes ').split('/')[0]
    if ',' in text:
        raise ApiError(400, 'Requests with multiple ranges are not supported '
                       'in Glance. You may make multiple single-range '
                       'requests instead.')
    match = re.match(r'^bytes=(\d*)-(\d*)$', text.strip())
    if match is None or match[1] == match[2] == '':
        raise _unsatisfiable()
    if not match[1]:
        return max(0, size - int(match[2])), size - 1
    first, last = int(match[1]), int(match[2] or size - 1)
    if match[2] and last < first:
        raise _unsatisfiable()
    if first >= size:
        raise _unsatisfiable(
            'Invalid start position in Range header. Start position MUST be '
            f'in the inclusive range [0, {size - 1}].')
    return first, min(last, size - 1)


def download(cloud: DevCloud, request: Request) -> Answer:
    """The bytes; 204 while there are none.

    Content-MD5 is the whole image's, with a range as well.
    """
    image = find(cloud, request)
    if image.status != 'active' or image.size is None:
        return Answer(204)
    part = _range(request, image.size)
    headers = {'Content-Type': _UPLOAD_TYPE}
    if image.checksum:
        headers['Content-MD5'] = image.checksum
    path = cloud.image_path(image.id)
    if part is None:
        return Answer(200, FileBody(path, 0, image.size), headers)
    first, last = part
    headers['Content-Range'] = f'bytes {first}-{last}/{image.size}'
    return Answer(206, FileBody(path, first, last - first + 1), headers)


# -- upload ---------------------------------------------------------------

def _check_upload(request: Request) -> None:
    kind = request.headers.get('content-type', '')
    if kind != _UPLOAD_TYPE:
        raise ApiError(415, detail=f'Invalid content type {kind}')


def upload(cloud: DevCloud, request: Request) -> Answer:
    """PUT of an image's data; refused data leave the image queued."""
    _check_upload(request)
    with cloud.state.lock:
        image = find(cloud, request)
        check_owner(request, image)
        if not image.disk_format or not image.container_format:
            raise ApiError(400, 'Properties disk_format, container_format '
                           'must be set prior to saving data.')
        if image.status != 'queued':
            raise ApiError(409, f'Image status transition from {image.status}'
                           ' to saving is not allowed')
        cloud.state.set_status(image, 'saving')
    path = cloud.image_path(image.id) + '.part'
    try:
        _receive(cloud, request, path)
        if image.id not in cloud.state.images:
            raise ApiError(410, f'Image {image.id} could not be found after '
                           'upload. The image may have been deleted during '
                           'the upload, cleaning up the chunks uploaded.')
        store(cloud, image, path)
    except content.Refused as e:
        cloud.state.set_status(image, 'queued')
        raise ApiError(415, detail=str(e)) from None
    except BaseException:
        if image.id in cloud.state.images:
            cloud.state.set_status(image, 'queued')
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return Answer(204, b'', {'Content-Type': 'text/html; charset=UTF-8'})


def _receive(cloud: DevCloud, request: Request, path: str) -> None:
    expected = request.headers.get('x-openstack-image-size')
    size, limit = 0, cloud.image_size_cap
    with open(path, 'wb') as f:
        while piece := request.stream.read(PIECE):
            size += len(piece)
            if limit is not None and size > limit:
                raise ApiError(413, 'The incoming image is too large: The '
                               'provided image is too large.')
            if piece == (_ZEROS if len(piece) == PIECE
                         else bytes(len(piece))):
                f.seek(len(piece), os.SEEK_CUR)
            else:
                f.write(piece)
        f.truncate(size)
    if expected is not None and expected.isdigit() and int(expected) != size:
        more = 'exceeds' if size > int(expected) else 'does not match'
        raise ApiError(400, f'Size {more}: expected {expected} bytes, got '
                       f'{size} bytes')


def _hashes(path: str) -> tuple[str, str]:
    """MD5 and SHA-512 of a file, side by side."""
    def digest(name: str) -> str:
        with open(path, 'rb') as f:
            return hashlib.file_digest(
                f, lambda: hashlib.new(name, usedforsecurity=False)
            ).hexdigest()
    with ThreadPoolExecutor(2) as pool:
        md5, sha512 = pool.map(digest, ('md5', 'sha512'))
    return md5, sha512


def store(cloud: DevCloud, image: Image, path: str) -> None:
    """Make the file at ``path`` the image's data, if it passes the checks.

    :raises Refused: by Glance's inspection of the content; then the image
        is queued again.
    """
    size = os.path.getsize(path)
    if cloud.image_size_cap is not None and size > cloud.image_size_cap:
        cloud.state.set_status(image, 'queued')
        raise content.Refused('The provided image is too large.')
    md5, sha512 = _hashes(path) if cloud.hashes else (None, None)
    try:
        virtual_size = content.check_image(path, image.disk_format,
                                           image.container_format)
    except content.Refused:
        cloud.state.set_status(image, 'queued')
        raise
    with cloud.state.changed:
        if image.id not in cloud.state.images:
            return
        os.replace(path, cloud.image_path(image.id))
        image.size, image.checksum, image.os_hash_value = size, md5, sha512
        image.virtual_size = virtual_size or None
        cloud.state.set_status(image, 'active')
