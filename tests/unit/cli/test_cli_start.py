"""How the command line starts: quickly, and with every command there."""

from __future__ import annotations

import configparser
import os
import pathlib
import resource
import subprocess
import sys

import pytest

from bakflow.cli import app

HOUSE = pathlib.Path(__file__).resolve().parents[3]
VERBS = ['audit', 'backup create', 'backup delete', 'backup list',
         'backup show', 'backup verify', 'complete', 'flow abandon',
         'flow cancel', 'flow list', 'flow resume', 'flow show', 'help',
         'restore create', 'restore list', 'restore show', 'status',
         'target check', 'target collect', 'target list', 'target show']


def bakflow(*argv: str, **options):
    return subprocess.run(
        [sys.executable, '-m', 'bakflow.cmd.bakflow', *argv], timeout=60,
        capture_output=True, text=True, check=False, **options)


def test_every_command_is_an_entry_point():
    config = configparser.ConfigParser()
    config.read(HOUSE / 'setup.cfg')
    lines = config['options.entry_points'][app.GROUP].strip().splitlines()
    named = {line.partition('=')[0].strip().replace('_', ' ')
             for line in lines}
    assert sorted(named | {'complete', 'help'}) == VERBS


def test_help_names_every_command_in_one_column():
    done = bakflow('--help')
    assert done.returncode == 0
    lines = done.stdout.partition('Commands:\n')[2].splitlines()
    listed = lines[:lines.index('')]
    assert [line[2:16].strip() for line in listed] == VERBS
    assert all(line[18] != ' ' for line in listed)


def test_help_costs_little():
    """0.4 s is promised; CPU time, since the machine has other work."""
    bakflow('--help')       # entry points are cached now
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert bakflow('--help').returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime
                     - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.4


def test_help_imports_nothing_heavy():
    code = ('import sys; from bakflow.cmd.bakflow import main; '
            'code = main(["--help"]); '
            'print(sorted({m.partition(".")[0] for m in sys.modules} '
            '& set(sys.argv[1:])), file=sys.stderr); sys.exit(code)')
    done = subprocess.run(
        [sys.executable, '-c', code, 'openstack', 'keystoneauth1',
         'sqlalchemy', 'taskflow', 'oslo_messaging', 'oslo_config',
         'alembic', 'cmd2', 'requests'],
        capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.strip()) == (0, '[]')


@pytest.mark.parametrize('name', [v for v in VERBS if v != 'help'])
def test_each_command_tells_what_it_takes(name):
    done = bakflow(*name.split(), '--help')
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f'usage: bakflow {name}')


def test_completion_knows_the_commands():
    done = bakflow('complete')
    assert done.returncode == 0
    for word in ('backup', 'restore', 'verify', '--volume'):
        assert word in done.stdout


def test_no_command_shows_the_help_and_fails():
    done = bakflow()
    assert (done.returncode, done.stdout) == (2, '')
    assert 'backup create' in done.stderr


def test_nobody_reads_on():
    """As with ``bakflow complete | head -1``."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, '-m', 'bakflow.cmd.bakflow', 'complete'],
        stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
        timeout=60)
    os.close(writing)
    assert done.returncode == 141
    assert done.stderr == ''


@pytest.mark.parametrize(('text', 'told'), [
    (None, 'there is no file'),
    ('[conductor]\nlease = soon\n', 'lease'),
    ('this is no configuration', 'cannot be used')])
def test_a_wrong_configuration_is_named(tmp_path, text, told):
    path = tmp_path / 'bakflow.conf'
    if text is not None:
        path.write_text(text)
    done = bakflow('--config-file', str(path), 'backup', 'list',
                   env={**os.environ, 'HOME': str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr.startswith('error: ')
    assert told in done.stderr
    assert 'Traceback' not in done.stderr


def test_a_broker_makes_the_conductor_another_process(tmp_path):
    path = tmp_path / 'bakflow.conf'
    path.write_text('[DEFAULT]\ntransport_url = rabbit://nobody@127.0.0.1\n'
                    f'state_path = {tmp_path}/state\n')
    done = bakflow('--config-file', str(path), 'restore', 'create', 'b',
                   '--to-file', str(tmp_path / 'x'))
    assert done.returncode == 2
    assert 'would write to its own host' in done.stderr
    environment = {k: v for k, v in os.environ.items()
                   if not k.startswith('OS_')}
    done = bakflow('--config-file', str(path), 'backup', 'list',
                   env=environment)
    assert done.returncode == 1
    assert 'OS_PROJECT_ID' in done.stderr
    assert not (tmp_path / 'state').exists()
