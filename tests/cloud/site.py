"""A real cloud as the scenarios use it: volumes of known bytes, and the CLI.

``BAKFLOW_TEST_CLOUD`` names an entry of clouds.yaml; a plain member of a
project is enough. ``BAKFLOW_TEST_TYPES`` are its volume types.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable

from bakflow import conf as bakflow_conf
from bakflow import errors
from bakflow.cloud import session, waiting
from bakflow.cloud.resources import Resource
from bakflow.qcow2 import writer

CLOUD = os.environ.get('BAKFLOW_TEST_CLOUD')
TYPES = os.environ.get('BAKFLOW_TEST_TYPES', 'nfs').split(',')

GIB, MIB = 1 << 30, 1 << 20

#: Seconds that a command may take; the machine may be busy.
PATIENCE = 400


class Content:
    """A disk of 1 GiB that is known by heart: offset -> bytes."""

    def __init__(self, parts: dict[int, bytes]) -> None:
        self.parts = dict(sorted(parts.items()))

    def changed(self, parts: dict[int, bytes]) -> Content:
        """The same disk after some writes over or beside its parts."""
        return Content({**self.parts, **parts})

    def extents(self) -> list[tuple[int, int]]:
        return [(at, len(data)) for at, data in self.parts.items()]

    def read(self, offset: int, length: int) -> bytes:
        out = bytearray(length)
        for at, data in self.parts.items():
            begin, end = max(at, offset), min(at + len(data), offset + length)
            if begin < end:
                out[begin - offset:end - offset] = data[begin - at:end - at]
        return bytes(out)

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for offset in range(0, GIB, 16 * MIB):
            digest.update(self.read(offset, 16 * MIB))
        return digest.hexdigest()


def sha256_of_file(path: pathlib.Path) -> str:
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


class Site:
    """One volume type of the cloud, a home of our own, and a broom."""

    def __init__(self, volume_type: str, home: pathlib.Path) -> None:
        self.type = volume_type
        self.home = home
        self.cloud = connect()
        self._made: list[Resource] = []
        self.config = home / 'bakflow.conf'
        self.config.write_text(
            f'[DEFAULT]\nstate_path = {home}/state\n'
            f'[cloud]\ncloud = {CLOUD}\n'
            # Cinder's RBD driver holds on to a volume whose upload Glance
            # refused; longer waits belong to audit.
            '[conductor]\ndelete_timeout = 60\n')

    # -- the product ------------------------------------------------------

    def bakflow(self, *args: str, fault: str | None = None,
                code: int = 0) -> str:
        """Run the CLI; its standard output.

        :param fault: the point at which it is killed.
        """
        ran = self._run(*args, fault=fault)
        assert ran.returncode == code, ran.stderr[-2000:]
        return ran.stdout

    def _run(self, *args: str, fault: str | None = None
             ) -> subprocess.CompletedProcess[str]:
        environment = dict(os.environ)
        if fault:
            environment['BAKFLOW_FAULT'] = fault
        ran = subprocess.run(
            [sys.executable, '-m', 'bakflow.cmd.bakflow', '--config-file',
             str(self.config), *args], env=environment, text=True,
            capture_output=True, timeout=PATIENCE, check=False)
        print('$ bakflow', *args, '->', ran.returncode)
        print(ran.stdout[-3000:], ran.stderr[-3000:])
        return ran

    def data(self, *args: str) -> dict:
        """The CLI's answer as data."""
        return json.loads(self.bakflow(*args, '-f', 'json'))

    def backup(self, volume: Resource) -> dict:
        """Make a backup; as the API shows it."""
        made = self.data('backup', 'create', '--volume', volume.id)
        return self.data('backup', 'show', made.get('ID') or made['id'])

    # -- the cloud --------------------------------------------------------

    def image(self, content: Content) -> Resource:
        """A temporary image, sparse, with this content."""
        extents = content.extents()
        total = writer.total_size(GIB, extents)
        # Cinder compares the file's size with the volume's.
        sparse = total <= GIB
        made = self.cloud.images.create(
            None, name=f'bf-test-{uuid.uuid4().hex[:8]}',
            disk_format='qcow2' if sparse else 'raw')
        self._made.append(made)
        if sparse:
            self.cloud.images.upload(
                made.id, writer.stream(GIB, extents, content.read), total)
        else:
            self.cloud.images.upload(made.id, (
                content.read(offset, 4 * MIB)
                for offset in range(0, GIB, 4 * MIB)), GIB)
        return self._ready(made)

    def volume(self, content: Content | None = None, **options: object
               ) -> Resource:
        """A volume of 1 GiB with this content."""
        image = self.image(content) if content else None
        made = self.cloud.volumes.create(
            None, name=f'bf-test-{uuid.uuid4().hex[:8]}', size_gib=1,
            volume_type=self.type, image_id=image.id if image else None,
            **options)      # type: ignore[arg-type]
        self._made.append(made)
        made = self._ready(made)
        if image:
            self._gone(image)
        return made

    def rewrite(self, volume: Resource, content: Content) -> None:
        """Change the volume's bytes, as a guest would have."""
        image = self.image(content)
        self.cloud.volumes.reimage(volume.id, image.id)
        self._ready(volume)
        self._gone(image)

    def volume_sha256(self, volume_id: str) -> str:
        """What Cinder itself says is in a volume."""
        from bakflow.cloud.naming import Tag
        tag = Tag(str(uuid.uuid4()), str(uuid.uuid4()), str(uuid.uuid4()),
                  'check')
        image = self.cloud.images.create_from_volume(volume_id, tag, 'raw')
        self._made.append(image)
        image = self._ready(image)
        reader = self.cloud.images.reader(image)
        digest, piece = hashlib.sha256(), bytearray(4 * MIB)
        try:
            for offset in range(0, reader.size, len(piece)):
                reader.readinto(offset, memoryview(piece))
                digest.update(piece)
        finally:
            reader.close()
        self._gone(image)
        return digest.hexdigest()

    def adopt(self, volume_id: str) -> Resource:
        """A volume that bakflow made, to be swept at the end."""
        found = self.cloud.volumes.get(volume_id)
        self._made.append(found)
        return found

    def audit(self) -> None:
        """Let audit mend what Cinder did not let go in time.

        After a refused upload its RBD driver keeps the image open until
        Python collects it, which took 9 minutes once; work of other kinds
        brings that about.
        """
        end = time.monotonic() + 900
        while True:
            ran = self._run('audit', '--fix')
            if ran.returncode == 0:
                break
            assert time.monotonic() < end, ran.stdout + ran.stderr
            self._gone(self.volume())
        self.bakflow('audit')

    def ours(self) -> list[str]:
        """Everything in the project that bakflow made and did not remove."""
        deployment = self.data('status')['deployment']
        return [f'{r} {r.name}' for kind in (
            self.cloud.images, self.cloud.volumes, self.cloud.snapshots)
            for r in kind.ours(deployment)]

    def sweep(self) -> None:
        """Delete what the test made."""
        for made in reversed(self._made):
            self._gone(made)
        self.cloud.close()

    def _ready(self, made: Resource) -> Resource:
        kind = getattr(self.cloud, f'{made.kind}s')
        return waiting.until(
            lambda: kind.get(made.id), want=['available', 'active'],
            deadline_seconds=PATIENCE, pause=time.sleep,
            explain=kind.explain)

    def _gone(self, made: Resource) -> None:
        kind = getattr(self.cloud, f'{made.kind}s')
        try:
            kind.delete(made.id)
        except errors.ResourceBusy:
            self._ready(made)
            kind.delete(made.id)
        waiting.gone(lambda: kind.get(made.id), deadline_seconds=PATIENCE,
                     pause=time.sleep, again=lambda: kind.delete(made.id))


def connect() -> session.Cloud:
    """Log in as the tests do."""
    conf = bakflow_conf.setup([], [])
    conf.set_override('cloud', CLOUD, group='cloud')
    return session.connect(conf)


def pieces(seed: int, where: Iterable[int], size: int = MIB
           ) -> dict[int, bytes]:
    """Random pieces at these MiB."""
    import random
    source = random.Random(seed)
    return {at * MIB: source.randbytes(size) for at in where}
