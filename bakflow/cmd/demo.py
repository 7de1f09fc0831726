"""``make demo``: the whole story on a simulated cloud, in under a minute.

No root, no network but loopback, nothing left behind: all lies in one
temporary folder. Every command is the real command line in a process of its
own. Exit code 0 only when every byte came back and nothing was left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any, BinaryIO

from bakflow.cli import text
from bakflow.devcloud import DevCloud

MIB = 1 << 20
GIB = 1 << 30
#: Seconds that each step of the simulated services takes.
_DELAY = 0.3
#: Seconds for one command; far more than any needs.
_PATIENCE = 300

#: What the volume is made of: kind and MiB, in this order.
_MIX = (('files', 190), ('zeros', 160), ('random', 130), ('files', 150),
        ('zeros', 100), ('random', 126), ('files', 70), ('zeros', 98))

_WORDS = ('the', 'request', 'volume', 'server', 'started', 'error', 'and',
          'user', 'GET', 'POST', 'timeout', 'attached', 'host', 'network',
          'return', 'import', 'self', 'none', 'value', 'config', '10.0.0.')


class Failed(Exception):
    """The demo did not do what it promises; the message says what."""


# -- the disk ---------------------------------------------------------------

def fill(out: BinaryIO, seed: int = 20) -> None:
    """Write a believable disk of 1 GiB: 40 % files, 25 % random, the rest
    empty. The same bytes every time."""
    chance = random.Random(seed)    # noqa: S311 - no secret is made here
    for kind, count in _MIX:
        for _ in range(count):
            if kind == 'zeros':
                out.seek(MIB, os.SEEK_CUR)
            elif kind == 'random':
                out.write(chance.randbytes(MIB))
            else:
                out.write(_files(chance))


def _files(chance: random.Random) -> bytes:
    """1 MiB like a file system's: logs, tables, and a quarter that is
    packed already."""
    notes = [''.join(
        ' '.join(chance.choices(_WORDS, k=9)) + f' {chance.random()}\n'
        for _ in range(4)) for _ in range(100)]
    logs = ''.join(chance.choices(notes, k=2200)).encode()[:9 * MIB // 16]
    table = bytearray(3 * MIB // 16)
    for column in range(4):
        table[column::16] = chance.randbytes(len(table) // 16)
    return logs + table + chance.randbytes(MIB - len(logs) - len(table))


def change(path: str, share: float = 0.01, seed: int = 21) -> int:
    """Write over a share of a disk in small scattered pieces; the bytes."""
    chance = random.Random(seed)    # noqa: S311
    size = os.path.getsize(path)
    left = int(size * share)
    done = 0
    with open(path, 'r+b') as disk:
        while left > 0:
            # most writes of a guest fall close to others
            disk.seek(chance.randrange(0, size - 16 * MIB) & ~0xfff)
            for _ in range(16):
                piece = min(left, chance.choice((4, 8, 16, 64)) << 10)
                disk.write(chance.randbytes(piece))
                left -= piece
                done += piece
                if left <= 0:
                    break
    return done


# -- the stage --------------------------------------------------------------

class Stage:
    """Tells the story, and runs commands in it."""

    def __init__(self, folder: str, clouds: str) -> None:
        self._config = os.path.join(folder, 'bakflow.conf')
        with open(self._config, 'w') as f:
            f.write('[DEFAULT]\n'
                    f'state_path = {os.path.join(folder, "state")}\n')
        self._environment = {
            **{k: v for k, v in os.environ.items()
               if not k.startswith('OS_')},
            'OS_CLIENT_CONFIG_FILE': clouds, 'OS_CLOUD': 'devcloud',
            'HOME': folder, 'PYTHONUNBUFFERED': '1'}
        self._colour = sys.stdout.isatty() and 'NO_COLOR' not in os.environ
        self._number = 0

    def tell(self, words: str) -> None:
        """A line of the story."""
        self._number += 1
        print(f'\n{self._paint("1;36", f"{self._number}. {words}")}',
              flush=True)

    def say(self, words: str, good: bool | None = None) -> None:
        """What came of it."""
        code = {True: '1;32', False: '1;31'}.get(bool(good), '0')
        print('   ' + (words if good is None
                       else self._paint(code, words)), flush=True)

    def run(self, *words: str) -> None:
        """One command, before the eyes of the user.

        :raises Failed: it exits with anything but 0.
        """
        print(self._paint('1', '$ ' + shlex.join(('bakflow', *words))),
              flush=True)
        began = time.monotonic()
        done = subprocess.run(      # noqa: S603 - our own command
            self._command(*words), env=self._environment, timeout=_PATIENCE,
            stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise Failed(f'bakflow {shlex.join(words)} exits with '
                         f'{done.returncode}')
        print(self._paint('2', f'  {time.monotonic() - began:.1f} s'),
              flush=True)

    def ask(self, *words: str) -> Any:
        """The answer of a command as data, without showing it."""
        done = subprocess.run(      # noqa: S603 - our own command
            self._command(*words, '-f', 'json'), env=self._environment,
            stdin=subprocess.DEVNULL, capture_output=True,
            timeout=_PATIENCE, check=False)
        if done.returncode:
            raise Failed(f'bakflow {shlex.join(words)} exits with '
                         f'{done.returncode}: '
                         + done.stderr.decode(errors='replace'))
        return json.loads(done.stdout)

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, '-m', 'bakflow.cmd.bakflow',
                '--config-file', self._config, *words]

    def _paint(self, code: str, words: str) -> str:
        return f'\x1b[{code}m{words}\x1b[0m' if self._colour else words


_SHORT = ('-c', 'status', '-c', 'size', '-c', 'skipped', '-c', 'shared',
          '-c', 'new', '-c', 'stored')


def play(cloud: DevCloud, stage: Stage) -> dict[str, Any]:
    """The story; figures for the last line.

    :raises Failed: something is not as promised.
    """
    volume = cloud.make_volume('demo', 'web-disk', 1, fill,
                               metadata={'role': 'web'},
                               description='the demo\'s disk')
    before = cloud.inventory()
    stage.tell('Back up a volume of 1 GiB. Its empty third costs nothing.')
    stage.run('backup', 'create', '--volume', 'web-disk', '--name', 'monday',
              *_SHORT)
    changed = change(cloud.volume_path(volume))
    wanted = cloud.volume_bytes_sha256(volume)
    stage.tell(f'{text.size(changed)} of the volume have changed in place. '
               f'Back it up again: no flag is needed.')
    stage.run('backup', 'create', '--volume', 'web-disk', '--name',
              'tuesday', *_SHORT)
    stage.tell('What there is, and what the second one cost.')
    stage.run('backup', 'list')
    second, first = stage.ask('backup', 'list')
    stage.say(f'tuesday: {text.size(changed)} changed, '
              f'{text.size(second["stored_bytes"])} stored; monday took '
              f'{text.size(first["stored_bytes"])}', True)
    stage.tell('Delete the first. What the second shares with it stays: '
               'nearly all.')
    stage.run('backup', 'delete', 'monday')
    stage.run('target', 'collect', 'local', '-c', 'status',
              '-c', 'freed')
    stage.tell('Bring the second back, to a new volume.')
    stage.run('restore', 'create', 'tuesday', '--to-volume', 'web-disk-back',
              '-c', 'status', '-c', 'made', '-c', 'written')
    _compare(cloud, stage, wanted, volume)
    stage.tell('Read and check every byte in the store.')
    stage.run('backup', 'verify', 'tuesday', '-c', 'status',
              '-c', 'verified')
    stage.tell('Is anything left behind in the cloud, or in the records?')
    stage.run('audit')
    _nothing_left(cloud, before)
    return {'first': first['stored_bytes'], 'second': second['stored_bytes'],
            'changed': changed}


def _compare(cloud: DevCloud, stage: Stage, wanted: str, source: str
             ) -> None:
    """The bytes, and what is known of the volume."""
    stage.tell('Compare the bytes of both volumes.')
    found = [k for k, v in cloud.state.volumes.items()
             if v.name == 'web-disk-back']
    if len(found) != 1:
        raise Failed(f'there are {len(found)} volumes named web-disk-back')
    got = cloud.volume_bytes_sha256(found[0])
    print(f'   SHA-256 of web-disk       {wanted}\n'
          f'   SHA-256 of web-disk-back  {got}', flush=True)
    if got != wanted:
        raise Failed('the restored volume differs')
    old, new = cloud.volume(source), cloud.volume(found[0])
    if (new.metadata, new.description) != (old.metadata, old.description):
        raise Failed('metadata or description of the volume differ')
    stage.say('equal, to the last byte; description and metadata too', True)


def _nothing_left(cloud: DevCloud, before: dict[str, dict[str, str]]
                  ) -> None:
    """The services themselves are asked, not bakflow."""
    after = cloud.inventory()
    for kind, there in after.items():
        more = [name for key, name in there.items()
                if key not in before[kind]
                and not name.startswith('web-disk-back ')]
        if more:
            raise Failed(f'{kind} left behind: {", ".join(more)}')


def main(argv: Sequence[str] | None = None) -> int:
    """Play the story; 1 when anything is not as promised."""
    parser = argparse.ArgumentParser(
        prog='bakflow-demo', description='Two backups, a deletion and a '
        'restore on a simulated cloud.')
    parser.add_argument('--keep', action='store_true',
                        help='leave the folder, and tell its name')
    args = parser.parse_args(argv)
    # the cloud looks into images as Glance does, and wonders aloud
    logging.basicConfig(level=logging.CRITICAL)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = tempfile.mkdtemp(prefix='bakflow-demo-')
        if args.keep:
            stack.callback(print, f'kept: {folder}')
        else:
            stack.callback(shutil.rmtree, folder)
        cloud = stack.enter_context(DevCloud(
            os.path.join(folder, 'cloud'), delay=_DELAY, hashes=False))
        clouds = os.path.join(folder, 'clouds.yaml')
        with open(os.open(clouds, os.O_WRONLY | os.O_CREAT, 0o600),
                  'w') as f:
            f.write(cloud.clouds_yaml())
        stage = Stage(folder, clouds)
        print('A simulated OpenStack (Keystone, Cinder, Glance) runs at '
              f'{cloud.url}.\nEverything lies in {folder}.', flush=True)
        try:
            told = play(cloud, stage)
        except (Failed, subprocess.TimeoutExpired) as exc:
            stage.say(f'FAILED: {exc}', False)
            return 1
        except KeyboardInterrupt:
            return 130
        print(flush=True)
        stage.say(
            f'OK in {time.monotonic() - began:.0f} s: 1 GiB backed up twice '
            f'({text.size(told["first"])}, then '
            f'{text.size(told["second"])} for {text.size(told["changed"])} '
            f'of changes), the first deleted, the second restored and '
            f'equal, nothing left behind.', True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
