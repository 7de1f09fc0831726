"""``bakflow-devcloud`` as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import openstack
import pytest
import requests
import yaml

from bakflow.cmd import devcloud


def read_yaml(stream: IO[str]) -> str:
    """The clouds.yaml that the command prints, which ends where the
    last cloud has its last line."""
    lines = []
    for line in stream:
        lines.append(line)
        if sum('identity_api_version' in known for known in lines) == 3:
            break
    return ''.join(lines)


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, '-m', 'bakflow.cmd.devcloud', '--delay', '0.01',
         *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_prints_a_cloud_and_stops(number: signal.Signals) -> None:
    process = start('--seed-volume', 'disk:1', '--seed-volume', 'more:2')
    try:
        assert process.stdout is not None
        config = yaml.safe_load(read_yaml(process.stdout))
        conn = openstack.connect(
            load_yaml_config=False, load_envvars=False,
            **config['clouds']['devcloud'])
        found = {v.name: v.size for v in conn.block_storage.volumes()}
        assert found == {'disk': 1, 'more': 2}
    finally:
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert 'Traceback' not in errors


def test_writes_files_that_are_private(tmp_path: Path) -> None:
    config, secret = tmp_path / 'clouds.yaml', tmp_path / 'secret'
    process = start('--clouds-yaml', str(config), '--secret-file',
                    str(secret), '--data-dir', str(tmp_path / 'data'))
    try:
        while not config.exists():
            assert process.poll() is None
            os.sched_yield()
        assert config.stat().st_mode & 0o777 == 0o600
        assert secret.stat().st_mode & 0o777 == 0o600
        auth = yaml.safe_load(config.read_text())['clouds']['devcloud'][
            'auth']
        url = auth['auth_url'].removesuffix('/identity/v3')
        answer = requests.get(
            url + '/devcloud/inventory', timeout=20,
            headers={'X-Devcloud-Secret': secret.read_text().strip()})
        assert answer.json() == {'volumes': {}, 'snapshots': {},
                                 'images': {}}
        assert auth['password'] not in ' '.join(
            Path(f'/proc/{process.pid}/cmdline').read_text().split('\0'))
    finally:
        process.terminate()
        output, errors = process.communicate(timeout=20)
    assert output == errors == ''


def test_port_that_is_taken(tmp_path: Path,
                            capsys: pytest.CaptureFixture[str]) -> None:
    from bakflow.devcloud import DevCloud
    with DevCloud(tmp_path / 'c') as cloud:
        port = cloud.url.rsplit(':', 1)[1]
        process = start('--port', port)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert f'cannot listen on port {port}' in errors


@pytest.mark.parametrize('text', ['x', 'x:', ':1', 'x:0', 'x:-1'])
def test_bad_seeds(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        devcloud.main(['--seed-volume', text])
    assert 'is not NAME:GIB' in capsys.readouterr().err
