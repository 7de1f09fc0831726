"""What ``--dry-run`` prints: the request as it would be carried out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bakflow.cli import text
from bakflow.cli.table import Field

FIELDS = (
    Field('cloud', 'Cloud'),
    Field('source', 'Source'),
    Field('target', 'Target'),
    Field('destination', 'Destination'),
    Field('size_bytes', 'Size', 'size'),
    Field('parent', 'Compared with'),
    Field('steps', 'Steps'),
    Field('temporaries', 'Temporaries'),
    Field('quotas', 'Limits', 'lines'),
    Field('warnings', 'Warnings', 'lines'),
)


def told(preview: Mapping[str, Any]) -> dict[str, Any]:
    """A preview with its lists in words, for a table."""
    words: dict[str, Any] = dict(preview)
    words['source'] = _thing(preview.get('source'))
    words['target'] = _thing(preview.get('target'))
    words['destination'] = _thing(preview.get('destination'))
    words['parent'] = preview.get('parent') or 'nothing: all is stored'
    if preview.get('kind', 'backup') != 'backup':
        words['parent'] = None
    words['steps'] = ', '.join(
        s if isinstance(s, str) else str(s.get('name'))
        for s in preview.get('steps') or ())
    words['temporaries'] = ', '.join(
        _temporary(t) for t in preview.get('temporaries') or ()) or 'none'
    words['quotas'] = '\n'.join(
        _quota(q) for q in preview.get('quotas') or ()) or None
    words['warnings'] = '\n'.join(preview.get('warnings') or ()) or None
    return words


def short_of(preview: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The limits that do not suffice."""
    return [q for q in preview.get('quotas') or ()
            if q.get('enough') is False]


def _thing(value: Any) -> str | None:
    if isinstance(value, Mapping):
        kind = value.get('kind') or ''
        name = value.get('name') or ''
        ident = (value.get('id') or value.get('volume_id')
                 or value.get('path') or '')
        return ' '.join(p for p in (kind, name, ident) if p)
    return None if value is None else text.plain(value)


def _temporary(item: Mapping[str, Any]) -> str:
    gib = item.get('size_gib')
    return f'{item.get("kind")}' + (f' of {gib} GiB' if gib else '')


def _quota(item: Mapping[str, Any]) -> str:
    free = item.get('free')
    state = ' (NOT ENOUGH)' if item.get('enough') is False else ''
    return (f'{item.get("what")}: {item.get("needed")} needed, '
            f'{"any number" if free is None else free} free{state}')
