"""Rows of the API as columns of cliff, for people and for programs.

A table shows labels, readable sizes and shortened names; every other format
has the API's own field names, exact numbers and all of the text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cliff import columns as cliff_columns

from bakflow.cli import text

#: Formats whose cells are text, so that nested data must be written as JSON.
_FLAT = ('value', 'csv', 'shell')


@dataclasses.dataclass(frozen=True)
class Field:
    """One column.

    :param name: key in the API's dictionary; also the name in JSON, CSV ...
    :param label: the heading in a table.
    :param show: how a table writes the value; see :data:`SHOW`.
    :param width: most characters in a list; longer text is cut there.
    :param spare: 0 is always shown; the others leave a list that is too
        wide for the terminal, the highest first.
    """

    name: str
    label: str
    show: str = 'text'
    width: int | None = None
    spare: int = 0


def _one_error(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get('message')
    return text.clean(text.plain(value))


def _seconds(value: Any) -> str:
    return '' if value is None else f'{float(value):.1f} s'


def _sizes(value: Any) -> str:
    return text.size(value)


SHOW: dict[str, Callable[[Any], str]] = {
    'text': lambda value: text.clean(text.plain(value)),
    'lines': lambda value: text.clean(text.plain(value), lines=True),
    'size': _sizes,
    'time': text.when,
    'seconds': _seconds,
    'error': _one_error,
}

#: Shown right-aligned in lists: cliff aligns by Python type only.
_RIGHT = {'size': 8, 'seconds': 8}


class Cell(cliff_columns.FormattableColumn[Any]):
    """A value that a table writes in its own way, sorted by the value."""

    def __init__(self, value: Any, shown: str) -> None:
        super().__init__(value)
        self._shown = shown

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Cell):
            return NotImplemented
        if self._value is None or other._value is None:
            return self._value is None and other._value is not None
        return bool(self._value < other._value)

    def human_readable(self) -> str:
        return self._shown


def _list_cell(field: Field, value: Any) -> Cell:
    shown = SHOW[field.show](value)
    if field.width:
        shown = text.shorten(shown, field.width)
    return Cell(value, shown.rjust(_RIGHT.get(field.show, 0)))


def machine(value: Any, formatter: str) -> Any:
    """A value for programs: flat formats have JSON and empty text."""
    if formatter in _FLAT:
        if value is None:
            return ''
        if isinstance(value, dict | list):
            return text.plain(value)
    return value


def many(fields: Sequence[Field], rows: Iterable[Mapping[str, Any]],
         formatter: str) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows for a Lister."""
    if formatter == 'table':
        return ([f.label for f in fields],
                [[_list_cell(f, row.get(f.name)) for f in fields]
                 for row in rows])
    return ([f.name for f in fields],
            [[machine(row.get(f.name), formatter) for f in fields]
             for row in rows])


def fitting(fields: Sequence[Field], rows: Sequence[Mapping[str, Any]],
            room: int) -> list[Field]:
    """The fields that a terminal of this width has room for.

    A line that wraps is read by nobody, and half an id is of no use.
    """
    kept = [f for f in fields if not f.spare]
    for spare in sorted((f for f in fields if f.spare),
                        key=lambda f: f.spare):
        if _width([*kept, spare], rows) <= room:
            kept.append(spare)
    return [f for f in fields if f in kept]


def _width(fields: Sequence[Field], rows: Sequence[Mapping[str, Any]]
           ) -> int:
    """Of the table as cliff draws it: ``| cell | cell |``."""
    return 1 + sum(3 + max([len(f.label)] + [
        len(_list_cell(f, row.get(f.name)).human_readable())
        for row in rows]) for f in fields)


def one(fields: Sequence[Field], row: Mapping[str, Any], formatter: str
        ) -> tuple[list[str], list[Any]]:
    """Columns and values for a ShowOne.

    Fields of the row that ``fields`` does not name are for programs only.
    """
    if formatter == 'table':
        told = [f for f in fields if row.get(f.name) is not None]
        return ([f.label for f in told],
                [Cell(row[f.name], SHOW[f.show](row[f.name]))
                 for f in told])
    names = [f.name for f in fields]
    names += [name for name in row if name not in names]
    return names, [machine(row.get(name), formatter) for name in names]


def asked(columns: Sequence[str], fields: Sequence[Field], formatter: str
          ) -> list[str]:
    """The ``-c`` of the user, by label or by name, as this format has it."""
    names = {}
    for f in fields:
        right = f.label if formatter == 'table' else f.name
        names[_key(f.label)] = names[_key(f.name)] = right
    return [names.get(_key(c), c) for c in columns]


def _key(name: str) -> str:
    """``Stored (new, compressed)`` may be asked for as ``stored``."""
    return name.partition(' (')[0].strip().lower().replace(' ', '_')
