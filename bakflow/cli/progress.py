"""What a running flow does, told on stderr while a command waits.

On a terminal one line that is written over; elsewhere a line at each new
step and every ten seconds. Never on stdout, which is for the result.
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from bakflow.cli import graph, text

_BUSY = ('RUNNING', 'REVERTING')
_ENDED = ('SUCCESS', 'REVERTED', 'IGNORE')
_EVERY = 10.0
_WINDOW = 15.0


class Rate:
    """Bytes a second over the last quarter of a minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, str, int]] = deque()

    def add(self, moment: float, step: str, position: int) -> None:
        """Note where a step is; another step begins anew."""
        if self._seen and (self._seen[-1][1] != step
                           or self._seen[-1][2] > position):
            self._seen.clear()
        if not self._seen or self._seen[-1][2] != position:
            self._seen.append((moment, step, position))
        while len(self._seen) > 2 and moment - self._seen[0][0] > _WINDOW:
            self._seen.popleft()

    def now(self, moment: float) -> float | None:
        """None until it can be known; it sinks while nothing moves."""
        if len(self._seen) < 2:
            return None
        began, _, first = self._seen[0]
        spent = moment - began
        if spent < 0.5:
            return None
        return (self._seen[-1][2] - first) / spent


class Told:
    """One look at a flow, in words.

    :ivar key: changes when the flow comes to another step.
    """

    def __init__(self, flow: Mapping[str, Any]) -> None:
        self.flow = flow
        steps = graph.in_order(flow.get('steps') or ())
        self.count = len(steps)
        busy = [s['name'] for s in steps if s['state'] in _BUSY]
        self.back = flow.get('direction') == 'revert'
        self.number = 1 + sum(s['state'] in _ENDED for s in steps)
        if busy and not self.back:
            self.number = 1 + [s['name'] for s in steps].index(busy[0])
        self.step = ', '.join(busy)
        progress = flow.get('progress') or {}
        self.progress = progress if progress.get('step') in busy else {}
        self.waits = flow.get('waits_for') or ''
        self.key = (flow['status'], self.back, self.step, flow['attempts'])

    def head(self) -> str:
        """``[5/7] upload``, or what the flow does instead of a step."""
        if not self.step:
            return ('starting' if self.flow['status'] == 'running'
                    else str(self.flow['status']))
        if self.back:
            return f'undoing {self.step}'
        return f'[{self.number}/{self.count}] {self.step}'

    def tail(self) -> str:
        """What it waits for, and why it comes again."""
        parts = [f'waits for {self.waits}'] if self.waits else []
        error = self.flow.get('error')
        if error and self.flow['status'] == 'queued':
            parts.append('after: ' + graph.message_of(error))
        return '; '.join(parts)


class Quiet:
    """Tells nothing."""

    def show(self, flow: Mapping[str, Any]) -> None:
        """One look at the flow."""

    def clear(self) -> None:
        """Leave the line free for something else."""


class Lines(Quiet):
    """For logs: whole lines, few of them."""

    def __init__(self, out: TextIO,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._key: object = None
        self._last = 0.0

    def show(self, flow: Mapping[str, Any]) -> None:
        told = Told(flow)
        moment = self._clock()
        if told.key == self._key and moment - self._last < _EVERY:
            return
        if not told.step and flow['status'] not in ('queued', 'held'):
            return      # between two steps: the next look tells more
        self._key, self._last = told.key, moment
        parts = (told.head(), graph.amounts(told.progress), told.tail())
        self._out.write(text.clean(
            f'{flow["kind"]}: ' + ', '.join(p for p in parts if p)) + '\n')
        self._out.flush()


class Terminal(Quiet):
    """One line that is written over; :meth:`clear` takes it away."""

    def __init__(self, out: TextIO,
                 clock: Callable[[], float] = time.monotonic,
                 width: Callable[[], int] | None = None) -> None:
        self._out = out
        self._clock = clock
        self._width = width or (
            lambda: shutil.get_terminal_size((80, 24)).columns)
        self._rate = Rate()
        self._key: object = None
        self._since = clock()
        self._full, self._empty = ('━', '─') if text.speaks_unicode(out) \
            else ('#', '-')

    def show(self, flow: Mapping[str, Any]) -> None:
        told = Told(flow)
        moment = self._clock()
        if (not told.step and self._key is not None
                and flow['status'] == 'running'):
            return      # between two steps
        if told.key != self._key:
            self._key, self._since = told.key, moment
        line = text.clean(self._line(told, moment))
        room = max(1, self._width() - 1)
        self._out.write('\r\x1b[K' + line[:room])
        self._out.flush()

    def clear(self) -> None:
        self._out.write('\r\x1b[K')
        self._out.flush()

    def _line(self, told: Told, moment: float) -> str:
        parts = [told.head()]
        total = told.progress.get('total')
        if total:
            parts += self._bar(told, moment, total)
        else:
            parts.append(text.clock(moment - self._since))
        parts.append(told.tail())
        return '  '.join(p for p in parts if p)

    def _bar(self, told: Told, moment: float, total: int) -> Sequence[str]:
        progress = told.progress
        position = min(progress.get('position') or 0, total)
        self._rate.add(moment, told.step, position)
        cells = 20 if self._width() >= 110 else 10
        full = cells * position // total
        parts = [self._full * full + self._empty * (cells - full),
                 f'{100 * position // total:>3} %',
                 f'{text.size(position)}/{text.size(total)}']
        parts += [f'{word} {text.size(progress[key])}' for key, word in (
            ('read', 'read'), ('skipped', 'empty'), ('stored', 'stored'))
            if progress.get(key) is not None]
        rate = self._rate.now(moment)
        if rate:
            parts += [f'{text.size(rate)}/s',
                      f'ETA {text.clock((total - position) / rate)}']
        return parts


def renderer(out: TextIO, verbose: int) -> Quiet:
    """What fits the stream; ``-q`` is verbosity 0."""
    if verbose == 0:
        return Quiet()
    return Terminal(out) if out.isatty() else Lines(out)
