"""How sizes, times and names are written for people.

Pure functions. Names come from the cloud, so from strangers: control
characters never reach the terminal.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from datetime import UTC, datetime
from typing import Any, TextIO

_UNITS = ('B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB')
_FRACTION = re.compile(r'\.\d+')


def size(count: float | None) -> str:
    """Bytes with three or four digits and a binary unit: ``1.50 GiB``."""
    if count is None:
        return ''
    value = float(count)
    for unit in _UNITS:
        # 1023.95 would be written as 1024
        if abs(value) < 1023.95 or unit == _UNITS[-1]:
            break
        value /= 1024
    if unit == 'B':
        return f'{int(value)} B'
    if abs(value) < 9.995:
        return f'{value:.2f} {unit}'
    return f'{value:.1f} {unit}' if abs(value) < 99.95 else (
        f'{value:.0f} {unit}')


def when(stamp: str | None) -> str:
    """A time of the API as ISO 8601 in UTC, to the second.

    What is not a time is given back as it is.
    """
    if not stamp:
        return ''
    try:
        moment = datetime.fromisoformat(str(stamp))
    except ValueError:
        return clean(str(stamp))
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return moment.strftime('%Y-%m-%dT%H:%M:%SZ')


def clock(seconds: float) -> str:
    """A length of time: ``0:07``, ``12:34``, ``3:05:00``."""
    whole = max(0, int(seconds + 0.5))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f'{hours}:{minutes:02}:{left:02}'
    return f'{minutes}:{left:02}'


def clean(text: str, *, lines: bool = False) -> str:
    """Text without anything that a terminal would act upon.

    :param lines: keep line ends.
    """
    return ''.join(
        c if not unicodedata.category(c).startswith('C')
        or (lines and c == '\n') else '?' for c in text)


def shorten(text: str, width: int) -> str:
    """At most ``width`` characters; what is cut off is marked."""
    if len(text) <= width:
        return text
    mark = '…' if speaks_unicode(sys.stdout) else '~'
    return text[:max(0, width - 1)] + mark


def plain(value: Any) -> str:
    """Any value on one line: nested data as JSON, nothing as nothing."""
    if value is None:
        return ''
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, sort_keys=True,
                          default=str)
    return str(value)


def speaks_unicode(stream: TextIO) -> bool:
    """Whether marks beyond ASCII can be written there."""
    encoding = (getattr(stream, 'encoding', None) or '').lower()
    return encoding.replace('-', '').replace('_', '') == 'utf8'
