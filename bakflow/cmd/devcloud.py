"""``bakflow-devcloud``: a simulated OpenStack on this machine.

Prints a clouds.yaml, or writes it, and runs until SIGTERM or Ctrl-C. Nothing
of its state survives; the data folder is removed when it was made here.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence

from bakflow.devcloud import DevCloud


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='bakflow-devcloud',
        description='A simulated OpenStack (Keystone, Cinder, Glance) on '
        'loopback with real bytes, for trying bakflow and for its tests. '
        'Its clouds are devcloud, devcloud-other and devcloud-admin.')
    parser.add_argument('--port', type=int, default=0,
                        help='port on 127.0.0.1 (default: a free one)')
    parser.add_argument('--data-dir', metavar='DIR',
                        help='where the bytes of volumes and images lie '
                        '(default: a temporary folder, removed at the end)')
    parser.add_argument('--delay', type=float, default=0.3,
                        metavar='SECONDS',
                        help='how long each step of the services takes '
                        '(default: 0.3)')
    parser.add_argument('--seed-volume', action='append', default=[],
                        metavar='NAME:GIB', type=_seed,
                        help='make a volume of random megabytes in the '
                        'project demo; may be repeated')
    parser.add_argument('--clouds-yaml', metavar='FILE',
                        help='write the clouds.yaml there instead of to '
                        'standard output')
    parser.add_argument('--secret-file', metavar='FILE',
                        help='write the secret of the control API there '
                        'instead of to standard error')
    parser.add_argument('--debug', action='store_true',
                        help='log requests to standard error')
    return parser


def _seed(text: str) -> tuple[str, int]:
    name, _, size = text.rpartition(':')
    if not name or not size.isdigit() or int(size) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not NAME:GIB')
    return name, int(size)


def write_private(path: str, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    folder = os.path.dirname(os.path.abspath(path))
    handle, temporary = tempfile.mkstemp(dir=folder, prefix='.devcloud-')
    try:
        with os.fdopen(handle, 'w') as f:
            f.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _tell(cloud: DevCloud, args: argparse.Namespace) -> None:
    if args.secret_file:
        write_private(args.secret_file, cloud.secret + '\n')
    else:
        sys.stderr.write(f'control: {cloud.url}/devcloud\n'
                         f'secret: {cloud.secret}\n')
        sys.stderr.flush()
    # last: who waits for this file may begin
    if args.clouds_yaml:
        write_private(args.clouds_yaml, cloud.clouds_yaml())
    else:
        sys.stdout.write(cloud.clouds_yaml())
        sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Run until a signal; 0 then, 1 when the port is taken."""
    args = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if args.debug else logging.WARNING,
        format='%(asctime)s %(name)s %(message)s')
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with contextlib.ExitStack() as stack:
        folder = args.data_dir or stack.enter_context(
            tempfile.TemporaryDirectory(prefix='bakflow-devcloud-'))
        cloud = DevCloud(folder, delay=args.delay, port=args.port)
        for name, size in args.seed_volume:
            cloud.make_volume('demo', name, size,
                              lambda f: f.write(os.urandom(8 << 20)))
        try:
            cloud.start()
        except OSError as e:
            sys.stderr.write(f'cannot listen on port {args.port}: {e}\n')
            return 1
        stack.callback(cloud.stop)
        _tell(cloud, args)
        stop.wait()
    return 0


if __name__ == '__main__':
    sys.exit(main())
