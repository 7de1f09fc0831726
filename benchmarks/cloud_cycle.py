"""``backup create`` against the bare services, on a real cloud.

The same steps by hand (snapshot, volume, image, download, deletion), polled
every 0.1 s, and through the command, in turns on the same volume. Prints
seconds of both and whether the command stays within 1.2 times the services
plus 4 s.

    cloud_cycle.py CLOUD TYPE [ROUNDS]
"""

from __future__ import annotations

import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid

from bakflow import conf as bakflow_conf
from bakflow import errors
from bakflow.cloud import naming, session
from bakflow.qcow2 import writer

GIB, MIB = 1 << 30, 1 << 20


def until(kind, made, status):
    while True:
        try:
            seen = kind.get(made.id)
        except errors.ResourceVanished:
            if status is None:
                return made
            raise
        if seen.status == status:
            return seen
        time.sleep(0.1)


def make_volume(cloud, volume_type):
    """1 GiB, half of it random."""
    source = random.Random(1)
    parts = {at * MIB: source.randbytes(MIB) for at in range(0, 1024, 2)}
    extents = [(at, MIB) for at in parts]

    def read(offset, length):
        out = bytearray(length)
        for at in range(offset // MIB * MIB, offset + length, MIB):
            if at in parts:
                begin, end = max(at, offset), min(at + MIB, offset + length)
                out[begin - offset:end - offset] = parts[at][
                    begin - at:end - at]
        return bytes(out)
    image = cloud.images.create(None, name='bf-bench', disk_format='qcow2')
    cloud.images.upload(image.id, writer.stream(GIB, extents, read),
                        writer.total_size(GIB, extents))
    made = cloud.volumes.create(None, name='bf-bench', size_gib=1,
                                volume_type=volume_type, image_id=image.id)
    until(cloud.volumes, made, 'available')
    cloud.images.delete(image.id)
    return made


def by_hand(cloud, volume):
    begin = time.monotonic()

    def tag(role):
        return naming.Tag(*(str(uuid.uuid4()) for _ in range(3)), role)
    snapshot = cloud.snapshots.create(volume.id, tag('snapshot'))
    until(cloud.snapshots, snapshot, 'available')
    clone = cloud.volumes.create(tag('volume'), name='', size_gib=1,
                                 snapshot_id=snapshot.id)
    until(cloud.volumes, clone, 'available')
    image = cloud.images.create_from_volume(clone.id, tag('image'), 'raw')
    image = until(cloud.images, image, 'active')
    reader, piece = cloud.images.reader(image), bytearray(4 * MIB)
    for offset in range(0, reader.size, len(piece)):
        reader.readinto(offset, memoryview(piece))
    reader.close()
    cloud.images.delete(image.id)
    until(cloud.volumes, clone, 'available')
    cloud.volumes.delete(clone.id)
    until(cloud.volumes, clone, None)
    cloud.snapshots.delete(snapshot.id)
    until(cloud.snapshots, snapshot, None)
    return time.monotonic() - begin


def by_command(home, cloud_name, volume):
    config = pathlib.Path(home, 'bakflow.conf')
    config.write_text(f'[DEFAULT]\nstate_path = {home}/{uuid.uuid4().hex}\n'
                      f'[cloud]\ncloud = {cloud_name}\n')
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, '-m', 'bakflow.cmd.bakflow', '--config-file',
         str(config), 'backup', 'create', '--volume', volume.id],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f'backup create ended with {status}')
    return (time.monotonic() - begin, used.ru_utime + used.ru_stime,
            used.ru_maxrss >> 10)


def main():
    name, volume_type = sys.argv[1:3]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    conf = bakflow_conf.setup([], [])
    conf.set_override('cloud', name, group='cloud')
    cloud = session.connect(conf)
    volume = make_volume(cloud, volume_type)
    hand, command = [], []
    try:
        with tempfile.TemporaryDirectory() as home:
            for _ in range(rounds):
                hand.append(by_hand(cloud, volume))
                command.append(by_command(home, name, volume))
                print(f'services {hand[-1]:5.1f} s   bakflow '
                      f'{command[-1][0]:5.1f} s, {command[-1][1]:.1f} CPU s,'
                      f' {command[-1][2]} MiB', flush=True)
    finally:
        cloud.volumes.delete(volume.id)
    services = statistics.median(hand)
    ours = statistics.median(c[0] for c in command)
    allowed = 1.2 * services + 4
    print(f'medians: services {services:.1f} s, bakflow {ours:.1f} s, '
          f'allowed {allowed:.1f} s')
    return ours > allowed


if __name__ == '__main__':
    sys.exit(main())
