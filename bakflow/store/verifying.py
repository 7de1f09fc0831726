"""Verifying a backup: all of it is read, authenticated and compared.

The ids of all chunks are made anew and lead to the digest in the head, so
not only must each frame be what was written, but each must lie where it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import blake3

from bakflow import errors
from bakflow.store import layout
from bakflow.store.decoding import Decoder, Job, PageDamage, jobs, runs
from bakflow.store.layout import CHUNK, ID, PER_SEGMENT, SEGMENT, ZERO_ID
from bakflow.store.model import Head, Progress
from bakflow.store.pages import Sessions
from bakflow.store.reading import Team
from bakflow.store.space import Space


@dataclasses.dataclass(frozen=True)
class Damage:
    """An object that is damaged or missing, and bytes of a disk it hits."""

    object: str
    disk: int
    offset: int
    length: int
    reason: str


@dataclasses.dataclass
class VerifyReport:
    """What was found: ``frames`` and ``bytes`` (unpacked) were read."""

    damages: list[Damage] = dataclasses.field(default_factory=list)
    frames: int = 0
    bytes: int = 0


def verify(space: Space, head: Head, head_name: str,
           observe: Callable[[Progress], None]) -> VerifyReport:
    """Read and check everything of a backup; goes on after damage.

    :raises StoreUnavailable: the store does not answer.
    """
    report = VerifyReport()
    done = 0
    for index in range(len(head.disks)):
        _Check(space, head, head_name, index, done, report, observe).run()
        done += head.disks[index].size
    return report


class _Check:
    """Verifies one disk."""

    def __init__(self, space: Space, head: Head, head_name: str, disk: int,
                 before: int, report: VerifyReport,
                 observe: Callable[[Progress], None]) -> None:
        self._space = space
        self._head = head
        self._head_name = head_name
        self._disk = disk
        self._report = report
        self._observe = observe
        self._before = before
        self._position = 0

    def run(self) -> None:
        space, disk = self._space, self._head.disks[self._disk]
        sessions = Sessions('')
        found = len(self._report.damages)
        chain = bytes(32)
        with Team(space, sessions, self._tell) as team:
            todo = jobs(self._runs(sessions))
            for job, (digest, frames, damages), _ in team.run(
                    self._work, todo):
                chain = space.chain(chain, digest)
                self._report.frames += frames
                self._report.bytes += CHUNK * sum(
                    piece.length for piece in job.pieces)
                self._report.damages.extend(damages)
                self._position = min((job.segment + 1) * SEGMENT, disk.size)
                self._tell()
        if len(self._report.damages) == found and chain != disk.chain:
            self._report.damages.append(Damage(
                self._head_name, self._disk, 0, disk.size,
                'the content differs from what was stored'))
        self._position = disk.size
        self._tell()

    def _runs(self, sessions: Sessions) -> Iterator[tuple[int, int, int]]:
        disk = self._head.disks[self._disk]
        for run in runs(self._space, disk, sessions):
            if isinstance(run, PageDamage):
                self._report.damages.append(self._damage(
                    run.error, run.first, run.length))
            else:
                yield run

    def _damage(self, error: errors.StoreCorrupt, first: int,
                count: int) -> Damage:
        size = self._head.disks[self._disk].size
        offset = first * CHUNK
        name = (error.resource or '').removeprefix('object ')
        return Damage(name, self._disk, offset,
                      min(count * CHUNK, size - offset), error.message)

    def _work(self, decoder: Decoder, job: Job,
              out: memoryview) -> tuple[bytes, int, list[Damage]]:
        damages: list[Damage] = []

        def bad(error: errors.StoreCorrupt,
                places: list[tuple[int, int]]) -> None:
            damages.extend(self._damage(
                error, job.segment * PER_SEGMENT + at, length)
                for at, length in places)

        before = decoder.frames
        decoder.decode(job, out, bad)
        return (self._digest(job, out), decoder.frames - before, damages)

    def _digest(self, job: Job, out: memoryview) -> bytes:
        total = layout.chunks(self._head.disks[self._disk].size)
        count = min(PER_SEGMENT, total - job.segment * PER_SEGMENT)
        ids = [ZERO_ID] * count
        key = self._space.id_key
        for piece in job.pieces:
            for at in range(piece.at, piece.at + piece.length):
                ids[at] = blake3.blake3(out[at * CHUNK:(at + 1) * CHUNK],
                                        key=key).digest(ID)
        return self._space.segment_digest(job.segment, b''.join(ids))

    def _tell(self) -> None:
        self._observe(Progress(
            total=self._head.logical_bytes,
            position=self._before + self._position,
            read=self._report.bytes))
