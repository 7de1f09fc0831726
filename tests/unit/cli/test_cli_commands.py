"""What commands ask, show and exit with."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import yaml
from clikit import (
    BACKUP,
    FLOW,
    MIB,
    RESTORE,
    backup,
    flow,
    restore,
    steps,
    told,
)

from bakflow import errors

# -- formats ------------------------------------------------------------------

def test_a_list_for_people(world):
    assert world.run('backup', 'list') == 0
    head, row = world.out.splitlines()[1], world.out.splitlines()[3]
    assert [c.strip() for c in head.split('|')[1:-1]] == [
        'ID', 'Name', 'Status', 'Volume', 'Size', 'New', 'Stored',
        'Created']
    assert [c.strip() for c in row.split('|')[1:-1]] == [
        BACKUP, 'nightly', 'available', 'web', '1.00 GiB', '100 MiB',
        '60.0 MiB', '2026-01-02T03:04:05Z']


def test_a_list_for_programs(world):
    assert world.run('backup', 'list', '-f', 'json') == 0
    assert json.loads(world.out)[0]['stored_bytes'] == 60 * MIB + 1
    assert world.run('backup', 'list', '-f', 'yaml') == 0
    assert yaml.safe_load(world.out)[0]['size_bytes'] == 1024 * MIB
    assert world.run('backup', 'list', '-f', 'csv', '--long') == 0
    row = next(csv.DictReader(io.StringIO(world.out)))
    assert (row['size_bytes'], row['flow_id']) == (str(1024 * MIB), FLOW)
    assert world.run('backup', 'list', '-f', 'value', '-c', 'ID', '-c',
                     'Size') == 0
    assert world.out == f'{BACKUP} {1024 * MIB}\n'


def test_an_empty_list_is_nothing(world):
    world.api.answers['list_backups'] = [[]]
    assert world.run('backup', 'list') == 0
    assert world.out == ''
    assert world.run('backup', 'list', '-f', 'json') == 0
    assert json.loads(world.out) == []


def test_sorting_goes_by_number(world):
    world.api.answers['list_backups'] = [[
        backup(name=str(n), stored_bytes=n) for n in (900, 5 << 20, 7000)]]
    assert world.run('backup', 'list', '--sort-column', 'stored', '-c',
                     'Name', '-f', 'table') == 0
    assert [line.split()[1] for line in world.out.splitlines()[3:-1]] == [
        '900', '7000', str(5 << 20)]


def test_a_column_that_is_not_there(world):
    assert world.run('backup', 'list', '-c', 'colour') == 2
    assert world.err.startswith('error: No recognized column')


def test_names_cannot_steer_the_terminal(world):
    world.api.answers['list_backups'] = [[
        backup(name='\x1b]0;pwned\x07', volume_name='a\nb')]]
    assert world.run('backup', 'list') == 0
    assert '\x1b' not in world.out
    assert 'a?b' in world.out
    # a program gets what it is
    assert world.run('backup', 'list', '-f', 'json') == 0
    assert json.loads(world.out)[0]['name'] == '\x1b]0;pwned\x07'


def test_filters_and_pages_go_to_the_api(world):
    assert world.run('backup', 'list', '--volume', 'v', '--status',
                     'available', '--target', 't', '--limit', '5',
                     '--marker', 'm', '--all-projects') == 0
    assert world.api.called('list_backups') == [((), {
        'volume': 'v', 'status': 'available', 'target': 't', 'limit': 5,
        'marker': 'm', 'all_projects': True})]
    assert world.run('flow', 'list', '--kind', 'volume-backup') == 0
    assert world.api.called('list_flows')[0][1]['kind'] == 'volume-backup'


@pytest.mark.parametrize('limit', ['0', '-1', 'x', '٣'])
def test_a_limit_is_a_number_above_nothing(world, limit):
    assert world.run('backup', 'list', '--limit', limit) == 2
    assert world.connected == 0


# -- backups ------------------------------------------------------------------

def test_a_backup_that_succeeds(world):
    world.api.answers['show_flow'] = [
        flow(status='running', steps=steps('SUCCESS', 'RUNNING')), flow()]
    assert world.run(
        'backup', 'create', '--volume', 'web', '--target', 't', '--name',
        'n', '--image-format', 'qcow2', '--on-failure', 'revert',
        '--idempotency-key', 'k') == 0
    assert world.api.called('create_backup') == [(('web',), {
        'target': 't', 'name': 'n', 'image_format': 'qcow2',
        'on_failure': 'revert', 'idempotency_key': 'k'})]
    assert '| Status                   | available ' in world.out
    assert '| Shared (with earlier)    | 900 MiB ' in world.out
    assert world.err == 'volume-backup: [2/7] snapshot\n'


def test_quiet_is_quiet(world):
    world.api.answers['show_flow'] = [
        flow(status='running', steps=steps('RUNNING')), flow()]
    assert world.run('-q', 'backup', 'create', '--volume', 'web', '-f',
                     'value', '-c', 'id') == 0
    assert (world.out, world.err) == (BACKUP + '\n', '')


def test_a_backup_that_fails_says_all(world):
    world.api.answers['show_flow'] = [flow(
        status='held', error=told(), steps=steps('SUCCESS', 'FAILURE'))]
    assert world.run('backup', 'create', '--volume', 'web') == 1
    assert world.out == ''
    assert world.err.splitlines() == [
        'error: the quota of volumes is used up',
        '  resource:   volume 123',
        '  request id: req-42',
        '  what to do: ask for more',
        f'  flow:       {FLOW}, held',
        f'  go on:      bakflow flow resume {FLOW}',
        f'  undo:       bakflow flow abandon {FLOW}']


def test_past_the_point_of_no_return_nothing_is_undone(world):
    world.api.answers['show_flow'] = [flow(status='held', committed=True,
                                           error=told())]
    assert world.run('backup', 'create', '--volume', 'web') == 1
    assert f'bakflow flow resume {FLOW}' in world.err
    assert 'abandon' not in world.err


def test_an_undone_backup_says_what_is_left(world):
    orphan = {'role': 'volume', 'kind': 'volume', 'name': 'n',
              'cloud_id': 'c', 'status': 'orphaned', 'last_error': 'busy'}
    world.api.answers['show_flow'] = [flow(status='reverted', error=told())]
    assert world.run('backup', 'create', '--volume', 'web') == 1
    assert world.err.endswith(
        f'flow:       {FLOW}, reverted: nothing of it is left\n')
    world.api.answers['show_flow'] = [flow(
        status='reverted', error=told(), temporaries=[orphan])]
    assert world.run('backup', 'create', '--volume', 'web') == 1
    assert '1 of its temporaries could not be deleted' in world.err
    assert 'nothing of it is left' not in world.err
    assert 'bakflow audit --fix' in world.err


@pytest.mark.parametrize('status', ['error', 'running', 'damaged'])
def test_done_is_only_what_is_available(world, status):
    """0 only when it is so, whatever the flow says of itself."""
    world.api.answers['show_backup'] = [backup(status=status)]
    assert world.run('backup', 'create', '--volume', 'web') == 1
    assert f'backup {BACKUP} is {status}' in world.err


@pytest.mark.parametrize('argv', [
    ('backup', 'create'), ('backup', 'create', '--volume', 'v',
                           '--image-format', 'iso'),
    ('backup', 'delete'), ('restore', 'create', 'b'),
    ('restore', 'create', 'b', '--to-volume', 'x', '--to-image', 'y'),
    ('restore', 'create', 'b', '--to-image', 'x', '--type', 't'),
    ('restore', 'create', 'b', '--into-volume', 'v'),
    ('restore', 'create', 'b', '--to-file', '/'),
    ('restore', 'create', 'b', '--to-file', '/dev/null'),
    ('restore', 'create', 'b', '--to-file', '/nowhere/at/all'),
    ('flow', 'show'), ('frobnicate',), ('backup',), ()])
def test_wrong_usage_begins_nothing(world, argv):
    assert world.run(*argv) == 2
    assert world.connected == 0


@pytest.mark.parametrize('argv', [
    ('backup', 'create', '--volume', 'v'), ('backup', 'delete', 'b'),
    ('backup', 'verify', 'b'), ('restore', 'create', 'b', '--to-image', 'i'),
    ('flow', 'resume', 'f'), ('flow', 'abandon', 'f'),
    ('flow', 'cancel', 'f'), ('target', 'collect', 't')])
def test_no_wait_needs_somebody_who_stays(world, argv):
    assert world.run(*argv, '--no-wait') == 2
    assert world.connected == 0
    assert 'a conductor that lives on' in world.err
    assert 'set transport_url' in world.err


def test_no_wait_with_a_broker(world):
    world.remote = True
    world.api.answers['show_backup'] = [backup(status='queued')]
    world.api.answers['show_flow'] = [flow(status='queued')]
    assert world.run('backup', 'create', '--volume', 'v', '--no-wait', '-f',
                     'value', '-c', 'status', '-c', 'flow_id') == 0
    assert world.out == f'queued\n{FLOW}\n'


PREVIEW = {
    'kind': 'backup', 'source': 'volume 1 (web)', 'target': 'local',
    'size_bytes': 1 << 30, 'steps': ['open', 'snapshot'], 'cloud': 'here',
    'temporaries': [{'kind': 'snapshot', 'size_gib': 1}], 'parent': None,
    'quotas': [{'what': 'volumes', 'needed': 1, 'free': 0, 'limit': 10,
                'enough': False},
               {'what': 'gigabytes', 'needed': 2, 'free': None,
                'limit': None, 'enough': True}],
    'warnings': ['mind the gap']}


def test_a_dry_run_makes_nothing(world):
    world.api.answers['preview'] = [PREVIEW]
    assert world.run('backup', 'create', '--volume', 'web',
                     '--dry-run') == 1      # a limit is too low
    assert [c[0] for c in world.api.calls] == ['preview']
    assert '| volumes: 1 needed, 0 free (NOT ENOUGH)' in world.out
    assert '| gigabytes: 2 needed, any number free ' in world.out
    assert 'mind the gap' in world.out
    world.api.answers['preview'] = [{**PREVIEW, 'quotas': []}]
    assert world.run('restore', 'create', 'b', '--into-volume', 'v',
                     '--dry-run', '-f', 'json') == 0
    assert json.loads(world.out)['steps'] == ['open', 'snapshot']
    assert world.api.called('preview')[-1][0] == ('restore', {
        'backup': 'b', 'volume_type': None, 'availability_zone': None,
        'destination': {'kind': 'existing-volume', 'volume_id': 'v'}})


def test_deleting_several_goes_on_after_a_failure(world):
    world.api.answers['delete_backup'] = [
        errors.NotFound('there is no backup a', hint='look'),
        backup(id='b', name='two')]
    assert world.run('backup', 'delete', 'a', 'b', '-f', 'value') == 1
    assert world.out == f'b two deleted {FLOW}\n'
    assert world.err.startswith('error: there is no backup a\n')


def test_verify_names_each_damage(world):
    world.api.answers['show_backup'] = [backup(status='damaged', damages=[
        {'object': 'packs/ab', 'disk': 0, 'offset': 4096, 'length': 16384,
         'reason': 'does not authenticate'},
        {'object': 'pages/cd', 'disk': 0, 'offset': 0, 'length': 0,
         'reason': 'is missing'}])]
    assert world.run('backup', 'verify', 'nightly') == 1
    assert world.err.splitlines()[:3] == [
        f'error: backup {BACKUP} is damaged: 2 found',
        '  packs/ab: does not authenticate (disk 0, 16384 bytes at 4096)',
        '  pages/cd: is missing']
    assert world.run('backup', 'verify', 'nightly', '-f', 'json') == 1
    assert len(json.loads(world.out)['damages']) == 2
    world.api.answers['show_backup'] = [backup()]
    assert world.run('backup', 'verify', 'nightly') == 0


# -- restores -----------------------------------------------------------------

@pytest.mark.parametrize(('options', 'destination'), [
    (('--to-volume', 'new'), {'kind': 'new-volume', 'name': 'new'}),
    (('--into-volume', 'v', '--yes'),
     {'kind': 'existing-volume', 'volume_id': 'v'}),
    (('--to-image', 'i'), {'kind': 'image', 'name': 'i'})])
def test_destinations(world, options, destination):
    assert world.run('restore', 'create', 'b', *options) == 0
    assert world.api.called('create_restore')[0][0] == ('b', destination)


def test_overrides_of_a_new_volume(world):
    assert world.run('restore', 'create', 'b', '--to-volume', 'n', '--type',
                     'ssd', '--availability-zone', 'z') == 0
    asked = world.api.called('create_restore')[0][1]
    assert (asked['volume_type'], asked['availability_zone']) == ('ssd', 'z')
    assert '| Made    | volume v-new ' in world.out


def test_a_file_is_named_from_the_root(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert world.run('restore', 'create', 'b', '--to-file', 'disk.img') == 0
    assert world.api.called('create_restore')[0][0][1] == {
        'kind': 'file', 'path': str(tmp_path / 'disk.img')}
    (tmp_path / 'disk.img').write_bytes(b'')
    assert world.run('restore', 'create', 'b', '--to-file', 'disk.img') == 2
    assert 'exists already' in world.err


def test_data_on_stdout_moves_the_result_away(world):
    world.api.answers['show_restore'] = [restore(
        destination={'kind': 'file', 'path': '-'}, result={'path': '-'})]
    assert world.run('restore', 'create', 'b', '--to-file', '-') == 0
    assert world.out == ''
    assert '| To      | standard output ' in world.err
    # what broke off cannot go on
    asked = world.api.called('create_restore')[0][1]
    assert asked['on_failure'] == 'revert'


def test_a_disk_is_not_written_to_a_terminal(world):
    world.tty = True
    assert world.run('restore', 'create', 'b', '--to-file', '-') == 2
    assert 'redirect the output' in world.err


def test_files_are_of_this_host(world, tmp_path):
    world.remote = True
    for path in ('-', str(tmp_path / 'x')):
        assert world.run('restore', 'create', 'b', '--to-file', path) == 2
        assert 'would write to its own host' in world.err
    assert world.connected == 0


@pytest.mark.parametrize('status', ['error', 'running'])
def test_a_restore_is_done_when_it_is(world, status):
    world.api.answers['show_restore'] = [restore(status=status)]
    assert world.run('restore', 'create', 'b', '--to-image', 'i') == 1
    assert f'restore {RESTORE} is {status}' in world.err


# -- flows --------------------------------------------------------------------

def test_flow_show_draws_for_people_only(world):
    world.api.answers['show_flow'] = [flow(
        status='queued', run_after='2026-01-02T03:04:05Z',
        steps=steps('SUCCESS'))]
    assert world.run('flow', 'show', FLOW) == 0
    assert '  ✔ open ' in world.out
    assert '| Runs after | 2026-01-02T03:04:05Z ' in world.out
    assert world.run('flow', 'show', FLOW, '-f', 'json') == 0
    assert [s['name'] for s in json.loads(world.out)['steps']][:2] == [
        'open', 'snapshot']
    assert world.run('flow', 'show', FLOW, '-c', 'status') == 0
    assert '✔' not in world.out
    world.encoding = 'ascii'
    assert world.run('flow', 'show', FLOW) == 0
    assert '  + open ' in world.out


@pytest.mark.parametrize(('verb', 'before', 'after', 'code'), [
    ('resume', 'forward', 'done', 0), ('resume', 'forward', 'held', 1),
    ('resume', 'forward', 'reverted', 1), ('resume', 'revert', 'reverted', 0),
    ('resume', 'revert', 'held', 1), ('abandon', 'revert', 'reverted', 0),
    ('abandon', 'forward', 'done', 0), ('abandon', 'revert', 'held', 1),
    ('cancel', 'revert', 'reverted', 0), ('cancel', 'forward', 'held', 1)])
def test_where_a_flow_is_sent(world, verb, before, after, code):
    world.api.answers[f'{verb}_flow'] = [flow(status='queued',
                                              direction=before)]
    world.api.answers['show_flow'] = [flow(status=after, direction=before)]
    assert world.run('flow', verb, FLOW) == code


@pytest.mark.parametrize('verb', ['resume', 'abandon', 'cancel'])
def test_what_resisted_is_no_success(world, verb):
    world.api.answers[f'{verb}_flow'] = [flow(direction='revert')]
    world.api.answers['show_flow'] = [flow(
        status='reverted', temporaries=[{'status': 'orphaned'}])]
    assert world.run('flow', verb, FLOW) == 1
    assert 'bakflow audit --fix' in world.err


# -- targets and the whole ----------------------------------------------------

def test_targets(world):
    world.api.answers['list_targets'] = [[{
        'name': 'local', 'driver': 'filesystem', 'location': '/x',
        'state': 'ok', 'backups': 2, 'objects': 9, 'bytes': 5 * MIB}]]
    assert world.run('target', 'list') == 0
    assert '5.00 MiB' in world.out
    checks = [{'check': 'put', 'result': 'ok'},
              {'check': 'list', 'result': 'no space'}]
    world.api.answers['check_target'] = [{'checks': checks, 'ok': False}]
    assert world.run('target', 'check', 'local') == 1
    assert 'no space' in world.out
    world.api.answers['check_target'] = [{'checks': checks[:1], 'ok': True}]
    assert world.run('target', 'check', 'local') == 0


def test_collect_tells_what_was_freed_and_what_was_not(world):
    world.api.answers['collect_target'] = [flow(kind='target-collect')]
    freed = {'removed': 3, 'freed': 32 * MIB, 'blocked': {}}
    world.api.answers['show_flow'] = [flow(report=freed)]
    assert world.run('target', 'collect', 'local') == 0
    assert '| Freed           | 32.0 MiB ' in world.out
    world.api.answers['show_flow'] = [flow(report={
        **freed, 'blocked': {'p1': 'a page is damaged'}})]
    assert world.run('target', 'collect', 'local') == 1
    assert world.err == ('error: nothing was freed of project p1: a page is '
                         'damaged\n')


def test_audit(world):
    world.api.answers['audit'] = [{'strays': [], 'clean': True}]
    assert world.run('audit') == 0
    assert (world.out, world.err) == ('', 'clean: nothing is left behind\n')
    stray = {'where': 'cloud', 'kind': 'volume', 'id': 'v', 'name': 'n',
             'what': 'in use', 'verdict': 'ours, not needed', 'fixed': None}
    world.api.answers['audit'] = [{'strays': [stray], 'clean': False}]
    assert world.run('audit', '-f', 'json') == 1
    assert json.loads(world.out) == [stray]
    assert world.run('audit', '--fix') == 1
    assert world.api.called('audit')[-1][1] == {'fix': True}


def test_status_shows_whatever_there_is(world):
    world.api.answers['status'] = [{'deployment': 'd', 'flows': {'done': 2},
                                    'store_bytes': 3 * MIB}]
    assert world.run('status') == 0
    assert '| Store bytes | 3.00 MiB' in world.out
    assert '| Flows       | {"done": 2}' in world.out


# -- errors -------------------------------------------------------------------

def test_an_error_of_the_api(world):
    world.api.answers['show_backup'] = [errors.Forbidden(
        'not\x1b yours', resource='backup 1', hint='ask an\nadministrator')]
    assert world.run('backup', 'show', 'x') == 1
    assert world.err == ('error: not? yours\n  resource:   backup 1\n'
                         '  what to do: ask an?administrator\n')
    assert 'Traceback' not in world.err
    assert world.run('--debug', 'backup', 'show', 'x') == 1
    assert 'Traceback' in world.err


def test_a_bug_is_one_line_without_debug(world):
    world.api.answers['show_backup'] = [RuntimeError('a bug')]
    assert world.run('backup', 'show', 'x') == 1
    assert 'a bug' in world.err
    assert 'Traceback' not in world.err


# -- Ctrl-C -------------------------------------------------------------------

def interrupt_then(answer, number=signal.SIGINT):
    """The flow runs; the user loses patience at the first look."""
    def look(flow_id):
        os.kill(os.getpid(), number)
        return flow(status='running', steps=steps('RUNNING'))
    return [look, answer]


def test_ctrl_c_stops_and_says_how_to_go_on(world):
    world.api.answers['show_flow'] = interrupt_then(flow(status='queued'))
    assert world.run('backup', 'create', '--volume', 'web') == 130
    assert world.embedded.stopped
    assert 'stopping at the next chunk…' in world.err
    assert f'bakflow flow resume {FLOW}' in world.err
    assert world.out == ''


def test_sigterm_is_as_polite(world):
    world.api.answers['show_flow'] = interrupt_then(flow(status='queued'),
                                                    signal.SIGTERM)
    assert world.run('backup', 'create', '--volume', 'web') == 143
    assert world.embedded.stopped


def test_a_flow_that_ended_meanwhile_has_ended(world):
    world.api.answers['show_flow'] = interrupt_then(flow(status='done'))
    assert world.run('backup', 'create', '--volume', 'web') == 0


def test_ctrl_c_leaves_a_remote_conductor_alone(world):
    world.remote = True
    world.api.answers['show_flow'] = interrupt_then(flow(status='running'))
    assert world.run('backup', 'create', '--volume', 'web') == 130
    assert not world.embedded.stopped
    assert 'goes on at its conductor' in world.err


def test_ctrl_c_before_the_flow_is_known_is_not_lost(world):
    """Between the request and the first look the flow exists already."""
    def create(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGINT)
        return backup(status='queued')
    world.api.answers['create_backup'] = [create]
    world.api.answers['show_flow'] = [flow(status='running'),
                                      flow(status='queued')]
    assert world.run('backup', 'create', '--volume', 'web') == 130
    assert f'bakflow flow resume {FLOW}' in world.err


def test_handlers_are_put_back(world):
    before = signal.getsignal(signal.SIGINT)
    assert world.run('backup', 'create', '--volume', 'web') == 0
    assert signal.getsignal(signal.SIGINT) is before


def test_the_second_ctrl_c_ends_at_once():
    """In a process of its own: it is gone without any cleaning up."""
    code = textwrap.dedent('''
        import atexit, os, signal
        from bakflow.cli.interrupts import Interrupts
        atexit.register(print, 'cleaned up')
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupts.event.wait(5)
            print('once', flush=True)
            os.kill(os.getpid(), signal.SIGINT)
            interrupts.event.wait(5)
            print('still here', flush=True)
        ''')
    done = subprocess.run([sys.executable, '-c', code], timeout=60,
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, 'once\n')
    assert done.stderr.strip() == 'stopped at once'


# -- a terminal without room --------------------------------------------------

@pytest.mark.parametrize('width', [70, 80, 100, 130])
def test_a_narrow_terminal_keeps_whole_ids(world, monkeypatch, width):
    monkeypatch.setenv('COLUMNS', str(width))
    world.tty = True
    assert world.run('backup', 'list') == 0
    assert BACKUP in world.out
    assert all(len(line) <= width for line in world.out.splitlines())
    # what is missing is told, and can be had
    assert ('no room for: ' in world.err) == (width < 120)
    assert world.run('backup', 'list', '-c', 'Volume', '-c', 'New') == 0
    assert '| web ' in world.out
    world.tty = False
    assert world.run('backup', 'list') == 0
    assert '60.0 MiB' in world.out
