"""kill -9 in every step of a backup, forward and back."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from tests.crash.conftest import House, points, until

FORWARD = points(
    'snapshot:created volume:intended volume:recorded image:created '
    'upload:segment:9 commit:head image:deleted settle:forward',
    'open:begin open:end '
    'snapshot:begin snapshot:intended snapshot:recorded snapshot:usable '
    'snapshot:end volume:begin volume:created volume:usable volume:end '
    'image:begin image:intended image:recorded image:usable image:end '
    'upload:begin upload:started upload:segment upload:segment:20 '
    'upload:end commit:begin commit:end cleanup:begin '
    'image:releasing image:released volume:releasing volume:deleted '
    'volume:released snapshot:releasing snapshot:deleted '
    'snapshot:released cleanup:end')


@pytest.mark.parametrize('point', FORWARD)
def test_killed_and_resumed(house: House, point: str) -> None:
    flow = house.die_in_backup(point)
    house.run('flow', 'resume', flow)
    house.only_source()
    house.whole_backup()
    house.clean()


@pytest.mark.parametrize('point', points(
    'volume:created upload:segment:9 commit:begin',
    'open:begin snapshot:intended snapshot:created snapshot:usable '
    'volume:intended volume:recorded image:intended image:created '
    'image:recorded image:usable upload:started upload:segment '
    'upload:end'))
def test_killed_and_abandoned(house: House, point: str) -> None:
    flow = house.die_in_backup(point)
    house.run('flow', 'abandon', flow)
    assert house.data('flow', 'show', flow)['status'] == 'reverted'
    house.only_source()
    house.clean()
    house.no_backup()


def test_a_head_that_was_not_announced_is_taken_back(house: House) -> None:
    flow = house.die_in_backup('commit:head')
    assert len(house.objects('b')) == 1
    house.run('flow', 'abandon', flow)
    house.only_source()
    house.clean()
    house.no_backup()


@pytest.mark.parametrize('point', points(
    'volume:deleted', 'commit:end cleanup:begin image:releasing '
    'snapshot:released settle:forward'))
def test_abandoning_what_is_committed_only_cleans_up(
        house: House, point: str) -> None:
    flow = house.die_in_backup(point)
    house.run('flow', 'abandon', flow)
    assert house.data('flow', 'show', flow)['status'] == 'done'
    house.only_source()
    house.whole_backup()
    house.clean()


@pytest.mark.parametrize('point', points(
    'upload:reverted volume:deleted settle:revert',
    'upload:reverting image:reverting image:releasing image:deleted '
    'image:released image:reverted volume:reverting volume:releasing '
    'volume:released volume:reverted snapshot:reverting '
    'snapshot:releasing snapshot:deleted snapshot:released '
    'snapshot:reverted open:reverting open:reverted'))
def test_killed_while_abandoned(house: House, point: str) -> None:
    flow = house.die_in_backup('upload:segment:9')
    house.die(point, 'flow', 'abandon', flow)
    assert house.stopped() == flow
    house.run('flow', 'resume', flow)
    assert house.data('flow', 'show', flow)['status'] == 'reverted'
    house.only_source()
    house.clean()
    house.no_backup()


def test_killed_again_and_again(house: House) -> None:
    """Each run comes a little further than the one before."""
    flow = house.die_in_backup('volume:created')
    for point in ('image:created', 'upload:segment:3', 'upload:segment:3',
                  'commit:head', 'image:releasing', 'volume:deleted',
                  'settle:forward'):
        house.die(point, 'flow', 'resume', flow)
    house.run('flow', 'resume', flow)
    house.only_source()
    house.whole_backup()
    house.clean()


def test_a_second_backup_after_a_kill_shares(house: House) -> None:
    """What a killed and abandoned one stored does no harm to the next."""
    house.run('flow', 'abandon', house.die_in_backup('upload:segment:9'))
    house.run('backup', 'create', '--volume', 'source', '--name', 'c')
    house.run('target', 'collect', 'local')
    house.run('backup', 'verify', 'c')
    house.only_source()
    house.clean()


def test_a_process_of_its_own(house: House) -> None:
    """The plain command, as users start it; and SHA-256 of every byte."""
    def bakflow(*args: str, fault: str = '') -> int:
        environment = {**house.environment, 'BAKFLOW_FAULT': fault}
        return subprocess.run(
            [sys.executable, '-m', 'bakflow.cmd.bakflow', '--config-file',
             str(house.config), *args], env=environment, check=False,
            stdout=subprocess.DEVNULL, timeout=120).returncode

    house.configure('raw')
    assert bakflow('backup', 'create', '--volume', 'source', '--name', 'b',
                   fault='upload:segment:30') == -signal.SIGKILL
    assert bakflow('flow', 'resume', house.stopped()) == 0
    path = house.folder / 'restored'
    assert bakflow('restore', 'create', 'b', '--to-file', str(path)) == 0
    with open(path, 'rb') as file:
        assert (hashlib.file_digest(file, 'sha256').hexdigest()
                == house.cloud.volume_bytes_sha256(house.source))
    house.only_source()


# -- stopped politely -----------------------------------------------------

def test_ctrl_c_in_mid_upload(house: House) -> None:
    """One Ctrl-C: 130, nothing lost, nothing read again."""
    house.configure('raw')
    house.cloud.requests.clear()
    hold = house.cloud.faults.add('hold', 'image.download', when='body',
                                  after_bytes=700 << 20)
    running = house.start('backup', 'create', '--volume', 'source',
                          '--name', 'b')
    hold.wait_held(60)
    running.interrupt()
    hold.release()
    ran = running.wait()
    assert ran.code == 130, ran
    flow = house.stopped()
    assert f'bakflow flow resume {flow}' in ran.err
    assert f'bakflow flow abandon {flow}' in ran.err
    house.cloud.requests.clear()
    house.run('flow', 'resume', flow)
    starts = [int((r.range or 'bytes=0-')[6:].partition('-')[0])
              for r in house.cloud.requests.find('image.download')]
    assert starts
    assert min(starts) >= 64 << 20, 'read from the start'
    house.only_source()
    house.whole_backup()
    house.clean()


def test_a_flow_runs_in_one_process_only(house: House) -> None:
    """A second resume is refused while the first one works."""
    flow = house.die_in_backup('image:usable')
    hold = house.cloud.faults.add('hold', 'image.download')
    first = house.start('flow', 'resume', flow)
    hold.wait_held(60)
    for what in ('resume', 'abandon'):
        second = house.run('flow', what, flow, code=1)
        assert f'is run by {os.uname().nodename}:{first.pid}' in second.err
        assert 'bakflow flow cancel' in second.err
    hold.release()
    assert first.wait().code == 0
    house.only_source()
    house.whole_backup()
    house.clean()


def test_cancelled_by_another_process(house: House) -> None:
    hold = house.cloud.faults.add('hold', 'image.download', when='body',
                                  after_bytes=4 << 20)
    running = house.start('backup', 'create', '--volume', 'source',
                          '--name', 'b')
    hold.wait_held(60)
    flow = until(lambda: house.data('flow', 'list'), 'the flow')[0]['id']
    canceller = house.start('flow', 'cancel', flow)
    with contextlib.closing(sqlite3.connect(
            house.state / 'bakflow.db')) as db:
        until(lambda: db.execute('SELECT cancel FROM flows').fetchone()[0],
              'the wish to cancel')
        # A conductor hears of it when it renews its lease.
        for _ in range(2):
            seen, = db.execute('SELECT lease_until FROM flows').fetchone()
            until(lambda seen=seen: db.execute(
                'SELECT lease_until FROM flows').fetchone()[0] > seen,
                'a renewal')
    hold.release()
    assert running.wait().code == 1
    assert canceller.wait().code == 0
    assert house.data('flow', 'show', flow)['status'] == 'reverted'
    house.only_source()
    house.clean()
    house.no_backup()
