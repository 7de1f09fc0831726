"""``bakflow``: the command line."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
import traceback
from collections.abc import Sequence

_SIGPIPE = 141
_SIGINT = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    0: it is done; 1: it is not, or a check found something; 2: wrong usage;
    130: Ctrl-C; 141: nobody reads the output.
    """
    from bakflow.cli import app
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a name that the terminal cannot show must not stop us
            stream.reconfigure(errors='backslashreplace')
    try:
        code = app.run(None if argv is None else list(argv))
        sys.stdout.flush()
    except BrokenPipeError:
        code = _SIGPIPE
    except KeyboardInterrupt:
        code = _SIGINT
    except SystemExit as exc:
        # argparse: 2 for usage errors, 0 for --help and --version
        code = exc.code if isinstance(exc.code, int) else 2
    except Exception:       # noqa: BLE001 - the last resort
        # cliff lets only those through that --debug asked to see
        traceback.print_exc()
        code = 1
    if code == _SIGPIPE:
        _forget_stdout()
    gc.freeze()     # the process ends: no last search of all its objects
    return code


def _forget_stdout() -> None:
    """Else Python complains about the closed pipe at its exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == '__main__':
    sys.exit(main())
