"""The drawn flow and the progress of one that runs."""

from __future__ import annotations

import pytest
from clikit import MIB, Stream, flow, steps, told

from bakflow.cli import graph, progress


def drawn(unicode: bool = True, **values) -> list[str]:
    return list(graph.draw(flow(**values), unicode))


def test_a_flow_at_work():
    lines = drawn(
        status='running', waits_for='image 7 to become active',
        steps=steps('SUCCESS', 'SUCCESS', 'SUCCESS', 'RUNNING'))
    assert lines == [
        'Steps',
        '  ✔ open      done             1.2 s',
        '  ✔ snapshot  done             1.2 s  ← open',
        '  ✔ volume    done             1.2 s  ← snapshot',
        '  ▶ image     running                 ← volume',
        '      waits for image 7 to become active',
        '  · upload                            ← image',
        '  · commit                            ← upload',
        '  · cleanup                           ← commit']


def test_ascii_where_the_terminal_knows_no_more():
    lines = drawn(False, steps=steps('SUCCESS', 'FAILURE'), error=told())
    assert '\n'.join(lines).isascii()
    assert lines[2].startswith('  x snapshot  failed')
    assert lines[2].endswith('<- open')


def test_a_failure_tells_all_that_is_known():
    lines = drawn(status='held', error=told(),
                  steps=steps('SUCCESS', 'FAILURE', error=told()))
    assert '      the quota of volumes is used up' in lines
    assert lines[-5:] == [
        'Error', '  the quota of volumes is used up',
        '  resource: volume 123', '  request id: req-42',
        '  what to do: ask for more']


def test_what_was_stopped_has_not_failed():
    assert '  ■ upload    stopped                 ← image' in drawn(
        status='queued', steps=steps(*['SUCCESS'] * 4, 'FAILURE'))
    assert any('✘ upload' in line for line in drawn(
        status='held', steps=steps(*['SUCCESS'] * 4, 'FAILURE')))


def test_temporaries_with_their_errors():
    lines = drawn(temporaries=[
        {'role': 'snapshot', 'kind': 'snapshot', 'name': 'bakflow-1-s',
         'cloud_id': 'c1', 'status': 'orphaned', 'last_error': 'is\x1bbusy'},
        {'role': 'image', 'kind': 'image', 'name': 'bakflow-1-i',
         'cloud_id': None, 'status': 'gone', 'last_error': None}])
    assert lines[-4:] == [
        'Temporaries',
        '  snapshot  orphaned  snapshot  c1  bakflow-1-s',
        '      is?busy',
        '  image     gone      image         bakflow-1-i']


def test_steps_come_after_those_that_they_wait_for():
    def step(name, *after):
        return {'name': name, 'state': 'PENDING', 'after': list(after)}
    # two branches and a join, told in the wrong order; a stranger waits
    # for something that is not there, and two wait for each other
    mixed = [step('join', 'a', 'b'), step('b', 'open'), step('a', 'open'),
             step('open'), step('s', 'x'), step('l', 'm'), step('m', 'l')]
    assert [s['name'] for s in graph.in_order(mixed)] == [
        'open', 'b', 'a', 'join', 's', 'l', 'm']


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def uploading(position, **values):
    return flow(status='running', steps=steps(*['SUCCESS'] * 4, 'RUNNING'),
                progress={'step': 'upload', 'total': 1024 * MIB,
                          'position': position, 'read': position // 2,
                          'skipped': 0, 'new': 1, 'stored': position // 4},
                **values)


def test_lines_at_each_step_and_every_ten_seconds():
    out, clock = Stream(), Clock()
    lines = progress.Lines(out, clock)
    lines.show(flow(status='running'))
    lines.show(flow(status='running', steps=steps('SUCCESS', 'RUNNING')))
    for _ in range(25):
        lines.show(uploading(int(clock.now - 100) * 32 * MIB))
        clock.now += 1
    lines.show(flow(status='running', steps=steps(*['SUCCESS'] * 5)))
    lines.show(flow(status='done'))
    assert out.getvalue().splitlines() == [
        'volume-backup: [2/7] snapshot',
        'volume-backup: [5/7] upload, 0 %, 0 B of 1.00 GiB',
        'volume-backup: [5/7] upload, 31 %, 320 MiB of 1.00 GiB, '
        '160 MiB read, 80.0 MiB stored',
        'volume-backup: [5/7] upload, 62 %, 640 MiB of 1.00 GiB, '
        '320 MiB read, 160 MiB stored']


def test_a_retry_says_why():
    out = Stream()
    progress.Lines(out).show(flow(
        status='queued', attempts=1, error=told(),
        waits_for='its next attempt at 2026-01-02T03:04:05Z'))
    assert out.getvalue() == (
        'volume-backup: queued, waits for its next attempt at '
        '2026-01-02T03:04:05Z; after: the quota of volumes is used up\n')


def bar(width: int, encoding: str = 'utf-8') -> str:
    out, clock = Stream(True, encoding), Clock()
    terminal = progress.Terminal(out, clock, lambda: width)
    terminal.show(uploading(0))
    clock.now += 2
    terminal.show(uploading(256 * MIB))
    return out.getvalue().rpartition('\x1b[K')[2]


def test_the_bar():
    assert bar(150) == (
        '[5/7] upload  ━━━━━───────────────   25 %  256 MiB/1.00 GiB  '
        'read 128 MiB  empty 0 B  stored 64.0 MiB  128 MiB/s  ETA 0:06')


@pytest.mark.parametrize('width', [20, 40, 79, 80, 110, 200])
def test_the_bar_never_wraps(width):
    assert len(bar(width)) < width


def test_the_bar_in_ascii():
    assert bar(120, 'ANSI_X3.4-1968').isascii()


def test_clear_leaves_the_line_free():
    out = Stream(True)
    progress.Terminal(out).clear()
    assert out.getvalue() == '\r\x1b[K'


def test_undoing_is_told():
    out = Stream()
    progress.Lines(out).show(flow(
        status='running', direction='revert',
        steps=steps('SUCCESS', 'SUCCESS', 'REVERTING', 'REVERTED')))
    assert out.getvalue() == 'volume-backup: undoing volume\n'


def test_the_rate_sinks_while_nothing_moves():
    rate = progress.Rate()
    rate.add(0, 'upload', 0)
    assert rate.now(5) is None
    rate.add(1, 'upload', 100)
    assert rate.now(1) == 100
    rate.add(4, 'upload', 100)
    assert rate.now(4) == 25
    rate.add(5, 'commit', 0)
    assert rate.now(6) is None


def test_renderers_fit_the_stream():
    assert type(progress.renderer(Stream(True), 1)) is progress.Terminal
    assert type(progress.renderer(Stream(), 1)) is progress.Lines
    assert type(progress.renderer(Stream(True), 0)) is progress.Quiet
