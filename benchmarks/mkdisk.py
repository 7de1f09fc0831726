#!/usr/bin/env python3
"""Make the disks that the benchmarks store.

    mkdisk.py FOLDER [--size GIB] [--files PATH]

FOLDER/v1 is 44 % files (of /usr, each at a multiple of 4 KiB as a file
system puts them), 25 % random bytes, 30 % zeros, in stretches of 1 to 64 MiB.
FOLDER/v2 is v1 after 2 % of scattered writes of 4 to 64 KiB, which fall
anywhere but into the zeros: what a database does, the hardest case for an
increment. The same arguments and files give the same disks.
"""

import argparse
import os
import random
import shutil
from pathlib import Path

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SHARES = [('files', 44), ('random', 25), ('zeros', 31)]


def all_files(root):
    """Contents of the regular files below a folder, in order of path."""
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            try:
                if os.path.isfile(path) and not os.path.islink(path):
                    with open(path, 'rb') as file:
                        while part := file.read(8 * MIB):
                            yield part + bytes(-len(part) % (4 * KIB))
            except OSError as exc:
                print(f'left out: {exc}')


def stretches(size, rng):
    """Kind and length of the stretches of a disk."""
    left = {kind: size * share // 100 for kind, share in SHARES}
    left['zeros'] += size - sum(left.values())
    while any(left.values()):
        kind = rng.choices(list(left), left.values())[0]
        length = min(left[kind], rng.randrange(1, 65) * MIB)
        left[kind] -= length
        yield kind, length


def make_first(path, size, files, rng):
    """Write v1; returns the stretches (offset, length) that hold data."""
    parts, rest, used, at = all_files(files), b'', [], 0
    with open(path, 'wb') as out:
        out.truncate(size)
        for kind, length in stretches(size, rng):
            out.seek(at)
            left = length
            while kind != 'zeros' and left:
                if kind == 'random':
                    rest_now = rng.randbytes(min(left, 4 * MIB))
                else:
                    if not rest:
                        rest = next(parts, None)
                        if rest is None:
                            raise SystemExit(f'{files} holds too little')
                    rest_now, rest = rest[:left], rest[left:]
                out.write(rest_now)
                left -= len(rest_now)
            if kind != 'zeros':
                used.append((at, length))
            at += length
    return used


def locate(used, place, length):
    """Where a write at the ``place``-th used byte begins, in whole pages."""
    for offset, stretch in used:
        if place < stretch:
            return offset + min(place, stretch - length) // 4096 * 4096
        place -= stretch
    raise AssertionError('there is no such place')


def make_second(path, size, used, rng):
    """Scatter 2 % of writes of 4 to 64 KiB over what is used."""
    total, written, count = sum(n for _, n in used), 0, 0
    with open(path, 'r+b') as out:
        while written < size // 50:
            length = rng.randrange(1, 17) * 4 * KIB
            out.seek(locate(used, rng.randrange(total), length))
            out.write(rng.randbytes(length))
            written += length
            count += 1
    print(f'v2: {count} writes, {written} bytes')


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--size', type=float, default=4, help='GiB')
    parser.add_argument('--files', default='/usr')
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    size = int(args.size * GIB)
    rng = random.Random(42)
    used = make_first(args.folder / 'v1', size, args.files, rng)
    shutil.copyfile(args.folder / 'v1', args.folder / 'v2')
    make_second(args.folder / 'v2', size, used, rng)


if __name__ == '__main__':
    main()
