"""The real command line in processes of its own, on a simulated cloud."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

from bakflow.devcloud import DevCloud

PATIENCE = 120


class Cli:
    """Runs ``bakflow`` with a state folder of its own."""

    def __init__(self, folder, cloud: DevCloud) -> None:
        self.folder = folder
        self.cloud = cloud
        self.state = folder / 'state'
        self._config = folder / 'bakflow.conf'
        self._config.write_text(f'[DEFAULT]\nstate_path = {self.state}\n')
        clouds = folder / 'clouds.yaml'
        clouds.write_text(cloud.clouds_yaml())
        self.environment = {
            **{k: v for k, v in os.environ.items()
               if not k.startswith('OS_')},
            'OS_CLIENT_CONFIG_FILE': str(clouds), 'OS_CLOUD': 'devcloud',
            'HOME': str(folder), 'PYTHONUNBUFFERED': '1'}

    def command(self, *argv: str) -> list[str]:
        return [sys.executable, '-m', 'bakflow.cmd.bakflow',
                '--config-file', str(self._config), *argv]

    def run(self, *argv: str, code: int | None = 0, **options: Any
            ) -> subprocess.CompletedProcess:
        """One command that must exit with ``code``."""
        done = subprocess.run(
            self.command(*argv), env=self.environment, timeout=PATIENCE,
            stdin=subprocess.DEVNULL, check=False,
            **{'capture_output': True, 'text': True, **options})
        assert code is None or done.returncode == code, (
            done.stdout, done.stderr)
        assert 'Traceback' not in str(done.stderr)
        return done

    def ask(self, *argv: str, code: int = 0) -> Any:
        """The answer of a command as data."""
        return json.loads(self.run(*argv, '-f', 'json', code=code).stdout)

    def begin(self, *argv: str, **options: Any) -> subprocess.Popen:
        """A command that goes on beside the test."""
        return subprocess.Popen(
            self.command(*argv), env=self.environment,
            stdin=subprocess.DEVNULL, **{
                'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE,
                'text': True, **options})


def read_until(process: subprocess.Popen, word: str) -> str:
    """What a process writes to stderr, up to the line with the word."""
    assert process.stderr is not None
    end = time.monotonic() + PATIENCE
    seen = ''
    while word not in seen:
        assert time.monotonic() < end, seen
        line = process.stderr.readline()
        assert line, seen
        seen += line
    return seen
