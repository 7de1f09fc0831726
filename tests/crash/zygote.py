"""Starts ``bakflow`` quickly: a process that has imported it and forks.

Each command is a process of its own, with its own memory, threads and end;
only the imports, three CPU seconds on a small machine, are shared. One JSON
request a line on stdin, one answer a line on stdout.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback

import openstack.config  # noqa: F401

import bakflow.cli.app
import bakflow.cli.embedded  # noqa: F401
from bakflow.cli import (  # noqa: F401
    audit,
    backups,
    flows,
    restores,
    settings,
    targets,
)
from bakflow.cmd import bakflow as command


def _run(request: dict) -> None:
    """In the child: never returns."""
    code = 70
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        for fd, path in ((1, request['out']), (2, request['err'])):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
                            0o600), fd)
        os.environ.clear()
        os.environ.update(request['env'])
        code = command.main(request['argv'])
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:   # noqa: BLE001 - told, and the process ends
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def main() -> None:
    """Fork for each request; wait when asked to."""
    assert threading.active_count() == 1, 'a fork would lose threads'
    for line in sys.stdin:
        request = json.loads(line)
        if 'wait' in request:
            _, status = os.waitpid(request['wait'], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if not answer:
                _run(request)
        print(answer, flush=True)


if __name__ == '__main__':
    main()
