"""What Cinder does in the background: create, copy, upload, delete.

The states, their order and what metadata goes along were recorded from
Cinder 29 with its NFS and RBD drivers.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from bakflow.devcloud import content, files, formats, glance_data
from bakflow.devcloud.state import Image, Snapshot, Volume
from bakflow.devcloud.work import Failed, Job

if TYPE_CHECKING:
    from bakflow.devcloud.cloud import DevCloud
    from bakflow.devcloud.web import Request


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _start(cloud: DevCloud, request: Request, operation: str,
           body: Callable[[Job], None]) -> None:
    cloud.workers.start(operation, request.faults, body)


# -- volumes --------------------------------------------------------------

def start_create(cloud: DevCloud, request: Request, volume: Volume,
                 source: Volume | Snapshot | None,
                 image: Image | None) -> None:
    """Make the volume's file, from whatever it is made."""
    request_id = request.request_id

    def work(job: Job) -> None:
        path = cloud.volume_path(volume.id)
        try:
            job.begin()
            if image is not None:
                cloud.state.set_status(volume, 'downloading')
                job.pause()
                _image_to_volume(cloud, volume, image)
            elif source is not None:
                formats.snapshot_to_volume(
                    cloud.snapshot_path(source.id)
                    if isinstance(source, Snapshot)
                    else cloud.volume_path(source.id), path,
                    volume.size * cloud.gib, volume.type.backend)
                volume.image_metadata = dict(source.image_metadata)
            else:
                files.make_empty(path, volume.size * cloud.gib)
        except (Failed, OSError, content.Refused, KeyError) as e:
            cloud.message(volume, request_id, 'schedule allocate volume:'
                          'Could not find any available weighted backend.',
                          'VOLUME_VOLUME_001_003', e)
            cloud.state.set_status(volume, 'error')
            return
        cloud.state.set_status(volume, 'available')

    _start(cloud, request, 'volume.create', work)


def _image_to_volume(cloud: DevCloud, volume: Volume, image: Image,
                     overwrite: bool = False) -> None:
    """The image's bytes and metadata into the volume.

    :raises Refused: when Cinder does not take the image.
    """
    formats.image_to_file(
        cloud.image_path(image.id), image.disk_format,
        cloud.volume_path(volume.id), volume.size * cloud.gib,
        volume.type.backend, overwrite)
    volume.image_metadata = {
        **image.properties, 'image_id': image.id,
        'image_name': image.name or '', 'checksum': image.checksum or '',
        'container_format': image.container_format or '',
        'disk_format': image.disk_format or '',
        'min_disk': str(image.min_disk), 'min_ram': str(image.min_ram),
        'size': str(image.size)}
    volume.bootable = True


def start_reimage(cloud: DevCloud, request: Request, volume: Volume,
                  image: Image) -> None:
    def work(job: Job) -> None:
        try:
            job.begin()
            _image_to_volume(cloud, volume, image, overwrite=True)
            job.pause(0.5)
        except (Failed, OSError, content.Refused):
            cloud.state.set_status(volume, 'error')
            return
        cloud.state.set_status(volume, 'available')

    _start(cloud, request, 'volume.reimage', work)


def start_extend(cloud: DevCloud, request: Request, volume: Volume,
                 size: int) -> None:
    def work(job: Job) -> None:
        try:
            job.begin()
        except Failed:
            cloud.state.set_status(volume, 'error_extending')
            return
        os.truncate(cloud.volume_path(volume.id), size * cloud.gib)
        volume.size = size
        cloud.state.set_status(volume, 'available')

    _start(cloud, request, 'volume.extend', work)


def start_delete_volume(cloud: DevCloud, request: Request,
                        volume: Volume) -> None:
    cloud.state.set_status(volume, 'deleting')

    def work(job: Job) -> None:
        try:
            job.begin()
        except Failed:
            cloud.state.set_status(volume, 'error_deleting')
            return
        with cloud.state.changed:
            cloud.state.volumes.pop(volume.id, None)
            cloud.state.changed.notify_all()
        _remove(cloud.volume_path(volume.id))

    _start(cloud, request, 'volume.delete', work)


# -- snapshots ------------------------------------------------------------

def start_snapshot(cloud: DevCloud, request: Request, snapshot: Snapshot,
                   volume: Volume) -> None:
    def work(job: Job) -> None:
        try:
            source = cloud.volume_path(volume.id)
            files.copy_sparse(source, cloud.snapshot_path(snapshot.id))
            job.begin()
            formats.check_snapshot(source, volume.type.backend)
        except (Failed, OSError, content.Refused):
            cloud.state.set_status(snapshot, 'error')
            return
        cloud.state.set_status(snapshot, 'available')

    _start(cloud, request, 'snapshot.create', work)


def start_delete_snapshot(cloud: DevCloud, request: Request,
                          snapshot: Snapshot) -> None:
    cloud.state.set_status(snapshot, 'deleting')

    def work(job: Job) -> None:
        try:
            job.begin()
            volume = cloud.state.volumes.get(snapshot.volume_id)
            if volume is not None:
                formats.check_snapshot_delete(
                    cloud.snapshot_path(snapshot.id), volume.type.backend)
        except (Failed, FileNotFoundError, content.Refused):
            cloud.state.set_status(snapshot, 'error_deleting')
            return
        with cloud.state.changed:
            cloud.state.snapshots.pop(snapshot.id, None)
            cloud.state.changed.notify_all()
        _remove(cloud.snapshot_path(snapshot.id))

    _start(cloud, request, 'snapshot.delete', work)


# -- upload to image ------------------------------------------------------

def start_upload(cloud: DevCloud, request: Request, volume: Volume,
                 image: Image) -> None:
    """Write the volume to the image: queued, saving, active.

    When it cannot be, the image is deleted, and the volume is available
    again: that is all a member sees, beside an entry in /messages.
    """
    request_id = request.request_id

    def work(job: Job) -> None:
        try:
            _upload(cloud, job, volume, image)
        except (Failed, OSError, content.Refused) as e:
            cloud.message(volume, request_id, 'copy volume to image:Failed '
                          'to upload volume to image at backend.',
                          'VOLUME_VOLUME_003_004', e)
            if image.status in ('queued', 'saving'):
                glance_data.forget(cloud, image)
        job.pause(0.2)
        cloud.state.set_status(
            volume, 'in-use' if volume.attachments else 'available')

    _start(cloud, request, 'volume.upload', work)


def _gone(cloud: DevCloud, image: Image) -> bool:
    return image.id not in cloud.state.images


def _upload(cloud: DevCloud, job: Job, volume: Volume, image: Image) -> None:
    job.begin()
    if job.vanishes('queued'):
        glance_data.forget(cloud, image)
        return
    with_snapshots = any(s.volume_id == volume.id
                         for s in cloud.state.snapshots.values())
    if with_snapshots and volume.type.backend == 'nfs':
        raise Failed('fmt=qcow2 backed by the volume')
    path = cloud.image_path(image.id) + '.part'
    try:
        formats.file_to_image(cloud.volume_path(volume.id), path,
                              image.disk_format or 'raw',
                              volume.type.backend)
        if _gone(cloud, image):
            raise Failed('the image was deleted')
        cloud.state.set_status(image, 'saving')
        job.pause()
        if job.vanishes('saving'):
            glance_data.forget(cloud, image)
            return
        glance_data.store(cloud, image, path)
    finally:
        _remove(path)
    if job.vanishes('active'):
        glance_data.forget(cloud, image)
