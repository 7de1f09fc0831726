#!/usr/bin/env python3
"""The upload step against restic: CPU seconds, wall, bytes, memory.

    upload.py DISKS WORK [--runs N] [--tools ours,restic]

DISKS holds v1 and v2 of mkdisk.py. Each tool stores v1, then v2, into a new
store below WORK; the order of the tools rotates from run to run. Ours reads
over HTTP from a server on the loopback (in a process that is not counted),
restic reads the file, which is in the page cache. CPU is user and system
seconds of the tool and its children, its start and imports included. Ours
is then verified, restored to a file and compared, and the same disk once
more without a change.
"""

import argparse
import contextlib
import hashlib
import http.client
import http.server
import json
import multiprocessing
import os
import resource
import shutil
import socketserver
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


# -- a fast source --------------------------------------------------------

class Handler(http.server.BaseHTTPRequestHandler):
    """Serves files with ranges, by sendfile."""

    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        path = self.server.folder / self.path.strip('/')
        with open(path, 'rb') as file:
            size = os.fstat(file.fileno()).st_size
            first = 0
            if 'Range' in self.headers:
                first = int(self.headers['Range'][6:].split('-')[0])
            self.send_response(206 if first else 200)
            self.send_header('Content-Length', str(size - first))
            self.end_headers()
            self.wfile.flush()
            while first < size:
                first += os.sendfile(self.connection.fileno(),
                                     file.fileno(), first, 1 << 20)

    def log_message(self, *args):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


def serve(folder, pipe):
    server = Server(('127.0.0.1', 0), Handler)
    server.folder = folder
    pipe.send(server.server_port)
    server.serve_forever()


class HttpSource:
    """One request, read from begin to end."""

    def __init__(self, port, name):
        self._connection = http.client.HTTPConnection('127.0.0.1', port)
        self._connection.request('GET', f'/{name}')
        self._answer = self._connection.getresponse()
        self.size = int(self._answer.headers['Content-Length'])

    def extents(self, start):
        yield start, self.size - start, True

    def readinto(self, offset, view):
        done = 0
        while done < len(view):
            done += self._answer.readinto(view[done:])

    def cancel(self):
        self._connection.close()


# -- ours, in a process of its own ----------------------------------------

def ours(command, folder, *rest):
    sys.path.insert(0, str(ROOT))
    from bakflow.store import (
        FilesystemBackend,
        Store,
        load_key_file,
    )
    folder = Path(folder)
    key = load_key_file(folder / 'key', create=True)
    store = Store.create(FilesystemBackend(folder / 'store'), key,
                         deployment='benchmark')
    domain = store.domain('project')
    if command == 'backup':
        name, port, disk, *parent = rest
        source = HttpSource(int(port), disk)
        session = domain.start(f'{name}.1', backup_id=name,
                               sizes=[source.size],
                               parent=parent[0] if parent else None)
        session.write_disk(0, source, observe=lambda _: None)
        session.finish({})
    elif command == 'verify':
        if domain.verify(rest[0]).damages:
            raise SystemExit('damaged')
    else:
        fd = os.open(rest[1], os.O_RDWR | os.O_CREAT, 0o600)
        domain.reader(rest[0]).restore_file(0, fd)
        os.close(fd)


# -- measuring ------------------------------------------------------------

def measure(args, env=None):
    """CPU seconds, wall seconds and MiB of memory of a command."""
    begin = time.monotonic()
    child = subprocess.Popen(args, env=env, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - begin
    if status:
        raise SystemExit(f'{args} failed: {status}')
    return {'cpu': usage.ru_utime + usage.ru_stime, 'wall': wall,
            'rss': usage.ru_maxrss / 1024}


def used(folder):
    return sum(f.stat().st_size for f in folder.rglob('*') if f.is_file())


class Ours:
    name = 'ours'

    def __init__(self, work, disks, port):
        self.folder = work / 'ours'
        self.disks, self.port = disks, port
        self.folder.mkdir()

    def _call(self, *args):
        return measure([sys.executable, __file__, '--ours', args[0],
                        str(self.folder), *map(str, args[1:])])

    def full(self):
        return self._call('backup', 'b1', self.port, 'v1')

    def increment(self):
        return self._call('backup', 'b2', self.port, 'v2', 'b1')

    def unchanged(self):
        return self._call('backup', 'b3', self.port, 'v2', 'b2')

    def verify(self):
        return self._call('verify', 'b2')

    def restore(self):
        out = self.folder / 'out'
        result = self._call('restore', 'b2', out)
        same(out, self.disks / 'v2')
        return result

    def stored(self):
        return used(self.folder / 'store')


class Restic:
    name = 'restic'

    def __init__(self, work, disks, port):
        self.folder = work / 'restic'
        self.folder.mkdir()
        self.disks = disks
        self.env = {**os.environ, 'RESTIC_PASSWORD': 'x',
                    'RESTIC_REPOSITORY': str(self.folder / 'store'),
                    'RESTIC_CACHE_DIR': str(self.folder / 'cache')}
        measure(['restic', 'init', '-q'], self.env)

    def _backup(self, version):
        # The same path each time, so that restic finds its parent.
        disk = self.folder / 'disk'
        disk.unlink(missing_ok=True)
        os.link(self.disks / version, disk)
        return measure(['restic', 'backup', '-q', str(disk)], self.env)

    def full(self):
        return self._backup('v1')

    def increment(self):
        return self._backup('v2')

    def restore(self):
        out = self.folder / 'out'
        result = measure(['restic', 'restore', '-q', 'latest', '--target',
                          str(out)], self.env)
        same(next(f for f in out.rglob('*') if f.is_file()),
             self.disks / 'v2')
        return result

    def verify(self):
        return measure(['restic', 'check', '-q', '--read-data'], self.env)

    def stored(self):
        return used(self.folder / 'store')


def same(one, other):
    digests = set()
    for path in (one, other):
        with open(path, 'rb') as file:
            digests.add(hashlib.file_digest(file, 'sha256').hexdigest())
    if len(digests) != 1:
        raise SystemExit(f'{one} differs from {other}')


STEPS = ['full', 'increment', 'unchanged', 'restore', 'verify']


def one_run(tool, work, disks, port):
    shutil.rmtree(work / tool.name, ignore_errors=True)
    os.sync()
    it = tool(work, disks, port)
    out, before = {}, it.stored()
    for step in STEPS:
        if not hasattr(it, step):
            continue
        out[step] = getattr(it, step)()
        after = it.stored()
        out[step]['added'] = (after - before) / 1e6
        before = after
        print(json.dumps({'tool': tool.name, 'step': step, **out[step]}),
              flush=True)
    shutil.rmtree(work / tool.name)
    return out


def table(results):
    print('\n| step | tool | CPU s | wall s | RSS MiB | added MB |')
    print('| --- | --- | --- | --- | --- | --- |')
    middle = {}
    for step in STEPS:
        for tool, runs in results.items():
            if step not in runs[0]:
                continue
            row = {key: statistics.median(run[step][key] for run in runs)
                   for key in ('cpu', 'wall', 'rss', 'added')}
            middle[step, tool] = row
            print(f'| {step} | {tool} | {row["cpu"]:.1f} | '
                  f'{row["wall"]:.1f} | {row["rss"]:.0f} | '
                  f'{row["added"]:.1f} |')
    if 'restic' not in results or 'ours' not in results:
        return
    print('\n| ours / restic | CPU | wall | added |')
    print('| --- | --- | --- | --- |')
    for step in STEPS:
        if (step, 'restic') in middle:
            us, them = middle[step, 'ours'], middle[step, 'restic']
            added = (f'{us["added"] / them["added"]:.3f}'
                     if step in ('full', 'increment') else '')
            print(f'| {step} | {us["cpu"] / them["cpu"]:.2f} | '
                  f'{us["wall"] / them["wall"]:.2f} | {added} |')


def main():
    if sys.argv[1:2] == ['--ours']:
        ours(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('disks', type=Path)
    parser.add_argument('work', type=Path)
    parser.add_argument('--runs', type=int, default=3)
    parser.add_argument('--tools', default='ours,restic')
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    tools = [t for t in (Ours, Restic) if t.name in args.tools.split(',')]
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(
        target=serve, args=(args.disks, there), daemon=True)
    server.start()
    port = here.recv()
    results = {tool.name: [] for tool in tools}
    with contextlib.closing(here):
        for run in range(args.runs):
            turn = run % len(tools)
            for tool in tools[turn:] + tools[:turn]:
                for version in ('v1', 'v2'):
                    with open(args.disks / version, 'rb') as file:
                        while file.read(1 << 22):
                            pass        # into the page cache
                results[tool.name].append(
                    one_run(tool, args.work, args.disks, port))
    server.terminate()
    table(results)
    print(f'\n{os.cpu_count()} cores, '
          f'load {os.getloadavg()[0]:.1f}, '
          f'{resource.getpagesize()} byte pages')


if __name__ == '__main__':
    main()
