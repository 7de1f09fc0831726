"""What is left of the project's quotas, as far as a plain member sees it."""

from __future__ import annotations

import dataclasses
from typing import Any

from oslo_log import log as logging

from bakflow import errors
from bakflow.cloud import rest

LOG = logging.getLogger(__name__)

_UNLIMITED = -1


@dataclasses.dataclass(frozen=True)
class Finding:
    """One quota against what is needed of it.

    :param what: ``volumes``, ``snapshots``, ``gigabytes``, the same with a
        volume type behind (``gigabytes_rbd``), ``per_volume_gigabytes``,
        ``image_size_total`` (MiB), ``image_count_total``.
    :param free: what is left; None when there is no limit.
    """

    what: str
    needed: int
    free: int | None
    limit: int | None

    @property
    def enough(self) -> bool:
        """Whether it fits, as things are now."""
        return self.free is None or self.needed <= self.free

    def __str__(self) -> str:
        if self.free is None:
            return f'{self.what}: {self.needed} needed, no limit'
        return (f'{self.what}: {self.needed} needed, {self.free} of '
                f'{self.limit} free')


class Quotas:
    """The project's quotas."""

    def __init__(self, cinder: rest.Api, glance: rest.Api,
                 project_id: str) -> None:
        self._cinder = cinder
        self._glance = glance
        self._project_id = project_id

    def headroom(self, volume_gib: int, n_snapshots: int, n_volumes: int, *,
                 volume_type: str | None = None, n_images: int = 0
                 ) -> list[Finding]:
        """What these would take of each known quota; for the preview.

        Snapshots count as gigabytes, as they do unless Cinder is told
        ``no_snapshot_gb_quota``. Empty when the services do not tell.

        :param volume_gib: size of each of them.
        """
        needed = {'volumes': n_volumes, 'snapshots': n_snapshots,
                  'gigabytes': volume_gib * (n_volumes + n_snapshots)}
        sets = self._cinder_quotas()
        findings = []
        for what, count in needed.items():
            names = [what]
            if volume_type:
                names.append(f'{what}_{volume_type}')
            findings += [_finding(n, count, sets[n]) for n in names
                         if n in sets]
        if 'per_volume_gigabytes' in sets and n_volumes:
            findings.append(_finding('per_volume_gigabytes', volume_gib,
                                     sets['per_volume_gigabytes']))
        if n_images:
            findings += self._image_findings(volume_gib, n_images)
        return findings

    def _cinder_quotas(self) -> dict[str, tuple[int, int]]:
        """Limit and usage of each quota."""
        try:
            body = self._cinder.get(
                f'/os-quota-sets/{self._project_id}', doing='read quotas',
                params={'usage': 'true'})
            return {k: (int(v['limit']), int(v['in_use'])
                        + int(v.get('reserved') or 0))
                    for k, v in body['quota_set'].items()
                    if isinstance(v, dict)}
        except errors.CloudError as exc:
            LOG.debug('The quotas are not readable (%s): taking limits', exc)
        return self._cinder_limits()

    def _cinder_limits(self) -> dict[str, tuple[int, int]]:
        try:
            absolute: dict[str, Any] = self._cinder.get(
                '/limits', doing='read limits')['limits']['absolute']
        except errors.CloudError as exc:
            LOG.debug('The limits are not readable: %s', exc)
            return {}
        names = {'volumes': ('maxTotalVolumes', 'totalVolumesUsed'),
                 'snapshots': ('maxTotalSnapshots', 'totalSnapshotsUsed'),
                 'gigabytes': ('maxTotalVolumeGigabytes',
                               'totalGigabytesUsed')}
        return {what: (int(absolute[most]), int(absolute[used]))
                for what, (most, used) in names.items()
                if most in absolute and used in absolute}

    def _image_findings(self, gib: int, n_images: int) -> list[Finding]:
        """Glance tells its limits only where Keystone keeps them."""
        try:
            usage = self._glance.get('/info/usage',
                                     doing='read image limits')['usage']
        except errors.CloudError as exc:
            LOG.debug('The image limits are not readable: %s', exc)
            return []
        needed = {'image_count_total': n_images,
                  'image_size_total': gib * 1024 * n_images}
        return [_finding(what, count, (int(usage[what]['limit']),
                                       int(usage[what]['usage'])))
                for what, count in needed.items() if what in usage]


def _finding(what: str, needed: int, quota: tuple[int, int]) -> Finding:
    limit, used = quota
    if limit == _UNLIMITED:
        return Finding(what, needed, None, None)
    return Finding(what, needed, max(0, limit - used), limit)
