"""The command line with its own conductor, from request to bytes."""

from __future__ import annotations

import hashlib
import os
import pty
import re
import select
import signal

import pytest
from running import PATIENCE, read_until

MIB = 1 << 20


@pytest.fixture
def volume(cloud):
    """A mostly empty volume; its data is all different."""
    def fill(out):
        out.write(os.urandom(6 * MIB))
        out.seek(512 * MIB)
        out.write(os.urandom(2 * MIB))
    return cloud.make_volume('demo', 'web', 1, fill)


def test_there_and_back(cli, cloud, volume):
    made = cli.ask('backup', 'create', '--volume', 'web', '--name', 'one')
    assert (made['status'], made['size_bytes']) == ('available', 1 << 30)
    assert made['new_bytes'] == 8 * MIB
    assert 8 * MIB <= made['stored_bytes'] < 8.2 * MIB
    assert made['shared_bytes'] == 0
    wanted = cloud.volume_bytes_sha256(volume)

    path = cli.folder / 'disk.img'
    cli.run('restore', 'create', 'one', '--to-file', str(path))
    with open(path, 'rb') as f:
        assert hashlib.file_digest(f, 'sha256').hexdigest() == wanted

    done = cli.run('restore', 'create', 'one', '--to-file', '-', text=False)
    assert hashlib.sha256(done.stdout).hexdigest() == wanted
    assert b'standard output' in done.stderr

    back = cli.ask('restore', 'create', 'one', '--to-volume', 'back')
    assert cloud.volume_bytes_sha256(back['result']['volume_id']) == wanted

    assert cli.ask('backup', 'verify', 'one')['verified_at']
    assert cli.ask('audit') == []
    flows = cli.ask('flow', 'list')
    assert {f['status'] for f in flows} == {'done'}
    shown = cli.run('flow', 'show', flows[-1]['id']).stdout
    assert re.search(r'✔ upload +done +\d+\.\d s  ← image', shown)
    assert cli.ask('restore', 'list', '--limit', '1')[0]['to'] == (
        'new-volume back')


def test_the_second_costs_what_changed(cli, cloud, volume):
    first = cli.ask('backup', 'create', '--volume', volume)
    with open(cloud.volume_path(volume), 'r+b') as f:
        f.seek(3 * MIB)
        f.write(os.urandom(MIB))
    second = cli.ask('backup', 'create', '--volume', volume)
    assert second['parent_id'] == first['id']
    assert second['new_bytes'] == MIB
    assert second['shared_bytes'] == 7 * MIB
    # two backups bear the volume's name now
    done = cli.run('backup', 'show', 'web', code=1)
    assert first['id'] in done.stderr
    assert 'what to do: give the id' in done.stderr
    assert [b['id'] for b in cli.ask('backup', 'list')] == [
        second['id'], first['id']]
    page = cli.ask('backup', 'list', '--limit', '1', '--marker',
                   second['id'])
    assert [b['id'] for b in page] == [first['id']]
    cli.run('backup', 'delete', first['id'])
    collected = cli.ask('target', 'collect', 'local')
    # what the first alone had lay in a pack that the second still needs
    assert collected['status'] == 'done'
    assert collected['freed'] is not None
    assert cli.ask('backup', 'verify', second['id'])['status'] == 'available'


def test_ctrl_c_and_resume(cli, cloud, volume):
    cloud.send_rate = 20 * MIB      # so that the upload lasts
    with open(cloud.volume_path(volume), 'r+b') as f:
        for _ in range(100):
            f.write(os.urandom(MIB))
    running = cli.begin('backup', 'create', '--volume', 'web')
    read_until(running, 'upload')
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130, err
    assert out == ''
    assert 'stopping at the next chunk' in err
    flow = re.search(r'bakflow flow resume (\S+)', err).group(1)
    listed = cli.ask('flow', 'list')
    assert [(f['id'], f['status'], f['resumable']) for f in listed] == [
        (flow, 'queued', True)]
    # the temporaries are there still, and are nobody's mistake
    assert cli.ask('audit') == []
    cloud.send_rate = None
    cli.run('flow', 'resume', flow)
    made = cli.ask('backup', 'show', 'web')
    assert made['status'] == 'available'
    done = cli.run('restore', 'create', 'web', '--to-file', '-', text=False)
    assert hashlib.sha256(done.stdout).hexdigest() == (
        cloud.volume_bytes_sha256(volume))
    assert len(cloud.inventory()['snapshots']) == 0
    assert len(cloud.inventory()['images']) == 0


def test_ctrl_c_and_abandon(cli, cloud, volume):
    cloud.send_rate = 2 * MIB
    running = cli.begin('backup', 'create', '--volume', 'web')
    read_until(running, 'upload')
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130, err
    flow = re.search(r'bakflow flow abandon (\S+)', err).group(1)
    assert cli.ask('flow', 'abandon', flow)['status'] == 'reverted'
    there = cloud.inventory()
    assert (list(there['volumes']), there['snapshots'], there['images']) == (
        [volume], {}, {})
    assert [b['status'] for b in cli.ask('backup', 'list')] == ['error']
    assert cli.ask('audit') == []


def test_a_preview_makes_nothing(cli, cloud, volume):
    before = cloud.inventory()
    found = cli.ask('backup', 'create', '--volume', 'web', '--dry-run')
    assert found['steps'] == ['open', 'snapshot', 'volume', 'image',
                              'upload', 'commit', 'cleanup']
    assert all(q['enough'] for q in found['quotas'])
    assert cloud.inventory() == before
    assert cli.ask('backup', 'list') == []
    assert cli.ask('flow', 'list') == []


def test_names_that_do_not_fit(cli, cloud, volume):
    done = cli.run('backup', 'create', '--volume', 'nope', code=1)
    assert done.stderr.startswith("error: there is no volume 'nope'")
    assert 'what to do:' in done.stderr
    cloud.make_volume('demo', 'web', 1)
    done = cli.run('backup', 'create', '--volume', 'web', code=1)
    assert volume in done.stderr
    assert cli.ask('flow', 'list') == []


def test_a_damage_is_named(cli, cloud, volume):
    cli.run('backup', 'create', '--volume', 'web')
    packs = [p for p in (cli.state / 'targets').rglob('*')
             if p.is_file() and p.stat().st_size > 4 * MIB]
    with open(packs[0], 'r+b') as f:
        f.seek(2 * MIB)
        byte = f.read(1)
        f.seek(2 * MIB)
        f.write(bytes([byte[0] ^ 1]))
    done = cli.run('backup', 'verify', 'web', code=1)
    assert '| damaged ' in done.stdout
    assert packs[0].name in done.stderr
    path = cli.folder / 'disk.img'
    done = cli.run('restore', 'create', 'web', '--to-file', str(path),
                   '--on-failure', 'revert', code=1)
    assert packs[0].name in done.stderr
    assert not path.exists()


def test_a_terminal_has_a_bar_and_stdout_only_the_result(cli, volume):
    ours, theirs = pty.openpty()
    try:
        running = cli.begin('backup', 'create', '--volume', 'web', '-f',
                            'value', '-c', 'status', stderr=theirs)
        os.close(theirs)
        seen = b''
        while running.poll() is None or select.select([ours], [], [], 0)[0]:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    seen += os.read(ours, 65536)
                except OSError:     # Linux's way to say end of file
                    break
        out, _ = running.communicate(timeout=PATIENCE)
    finally:
        os.close(ours)
    assert (running.returncode, out) == (0, 'available\n')
    assert b'\r\x1b[K[' in seen
    assert b'/7] ' in seen
    assert seen.endswith(b'\r\x1b[K')       # nothing of it stays
    assert b'\n' not in seen


def test_the_cloud_can_be_named(cli, cloud, volume):
    """devcloud-other is another project: it has no such volume."""
    done = cli.run('--os-cloud', 'devcloud-other', 'backup', 'create',
                   '--volume', 'web', code=1)
    assert 'there is no volume' in done.stderr
    done = cli.run('--os-cloud', 'nowhere', 'backup', 'create', '--volume',
                   'web', code=1)
    assert 'nowhere' in done.stderr
    assert cloud.password not in done.stderr


def test_secrets_stay_with_their_owner(cli, volume):
    cli.run('target', 'check', 'local')
    for path in cli.state.rglob('*'):
        mode = path.stat().st_mode & 0o077
        assert mode == 0, path
