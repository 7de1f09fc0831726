"""A flow drawn as lines of text: one for each step, and what was made.

Pure functions of the API's dictionaries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bakflow.cli import text

_MARKS = {
    'SUCCESS': ('✔', '+'), 'RUNNING': ('▶', '>'), 'FAILURE': ('✘', 'x'),
    'REVERTING': ('↩', '<'), 'REVERTED': ('↩', '<'),
    'REVERT_FAILURE': ('✘', 'x'), 'STOPPED': ('■', '='),
}
_NOTHING = ('·', '.')
_ARROW = ('←', '<-')
_WORDS = {
    'SUCCESS': 'done', 'RUNNING': 'running', 'FAILURE': 'failed',
    'REVERTING': 'undoing', 'REVERTED': 'undone',
    'REVERT_FAILURE': 'undo failed', 'PENDING': '', 'IGNORE': 'left out',
    'STOPPED': 'stopped',
}


def in_order(steps: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Steps after those that they wait for; else as they came."""
    left = list(steps)
    done: set[str] = set()
    names = {s['name'] for s in steps}
    ordered: list[Mapping[str, Any]] = []
    while left:
        ready = next((s for s in left if not
                      (set(s.get('after') or ()) & names) - done), left[0])
        left.remove(ready)
        done.add(ready['name'])
        ordered.append(ready)
    return ordered


def draw(flow: Mapping[str, Any], unicode: bool) -> Iterator[str]:
    """Lines of the graph, then the error and the temporaries."""
    steps = in_order(flow.get('steps') or ())
    if steps:
        yield 'Steps'
        yield from _steps(steps, flow, unicode)
    yield from _error(flow.get('error'))
    temporaries = flow.get('temporaries') or ()
    if temporaries:
        yield 'Temporaries'
        yield from _temporaries(temporaries)


def _steps(steps: Sequence[Mapping[str, Any]], flow: Mapping[str, Any],
           unicode: bool) -> Iterator[str]:
    pick = 0 if unicode else 1
    names = max(len(s['name']) for s in steps)
    for step in steps:
        state = state_of(step, flow)
        mark = _MARKS.get(state, _NOTHING)[pick]
        word = _WORDS.get(state, state.lower())
        spent = step.get('seconds')
        took = '' if spent is None else f'{spent:.1f} s'
        after = ', '.join(step.get('after') or ())
        line = f'  {mark} {step["name"]:<{names}}  {word:<11}  {took:>9}'
        line += f'  {_ARROW[pick]} {after}' if after else ''
        yield text.clean(line).rstrip()
        if step['state'] in ('RUNNING', 'REVERTING'):
            yield from _now(flow, step['name'])
        if step.get('error'):
            yield '      ' + message_of(step['error'])


def state_of(step: Mapping[str, Any], flow: Mapping[str, Any]) -> str:
    """The state of a step; one that was told to stop has not failed."""
    state = str(step['state'])
    if (state == 'FAILURE' and not step.get('error')
            and not flow.get('error') and flow.get('status') == 'queued'):
        return 'STOPPED'
    return state


def _now(flow: Mapping[str, Any], name: str) -> Iterator[str]:
    progress = flow.get('progress') or {}
    if progress.get('step') == name and progress.get('total'):
        yield '      ' + amounts(progress)
    if flow.get('waits_for'):
        yield '      waits for ' + text.clean(flow['waits_for'])


def _error(error: Any) -> Iterator[str]:
    if not error:
        return
    yield 'Error'
    yield '  ' + message_of(error)
    if isinstance(error, Mapping):
        for key, label in (('resource', 'resource'),
                           ('request_id', 'request id'),
                           ('hint', 'what to do')):
            if error.get(key):
                yield f'  {label}: {text.clean(str(error[key]))}'


def _temporaries(temporaries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = [[text.clean(text.plain(t.get(key))) for key in (
        'role', 'status', 'kind', 'cloud_id', 'name')] for t in temporaries]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    for row, temporary in zip(rows, temporaries, strict=True):
        yield ('  ' + '  '.join(
            cell.ljust(width) for cell, width in zip(
                row, widths, strict=True))).rstrip()
        if temporary.get('last_error'):
            yield '      ' + message_of(temporary['last_error'])


def message_of(error: Any) -> str:
    """The message of an error that is a dictionary or just text."""
    if isinstance(error, Mapping):
        error = error.get('message') or error.get('code')
    return text.clean(text.plain(error))


def amounts(progress: Mapping[str, Any]) -> str:
    """``56 %, 602 MiB of 1.00 GiB, 300 MiB empty, 120 MiB stored``."""
    total, position = progress.get('total'), progress.get('position') or 0
    parts = []
    if total:
        parts.append(f'{100 * min(position, total) // total} %')
        parts.append(f'{text.size(position)} of {text.size(total)}')
    elif position:
        parts.append(text.size(position))
    for key, word in (('read', 'read'), ('skipped', 'empty'),
                      ('stored', 'stored')):
        if progress.get(key):
            parts.append(f'{text.size(progress[key])} {word}')
    return ', '.join(parts)
