"""How sizes, times, names and rows are written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakflow.cli import table, text


@pytest.mark.parametrize(('count', 'shown'), [
    (None, ''), (0, '0 B'), (1, '1 B'), (1023, '1023 B'),
    (1024, '1.00 KiB'), (1536, '1.50 KiB'), (10 << 10, '10.0 KiB'),
    ((1 << 20) - 1, '1.00 MiB'), (1 << 30, '1.00 GiB'),
    (100 << 30, '100 GiB'), (1 << 60, '1.00 EiB'), (1 << 70, '1024 EiB')])
def test_sizes(count, shown):
    assert text.size(count) == shown


@given(st.integers(min_value=0, max_value=1 << 62))
def test_a_size_is_short_and_near(count):
    number, unit = text.size(count).split()
    factor = 1024 ** ('B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB',
                      'EiB').index(unit)
    assert len(number) <= 5
    assert abs(float(number) * factor - count) <= max(0.006 * count, 0.5)


@pytest.mark.parametrize(('stamp', 'shown'), [
    (None, ''), ('2026-01-02T03:04:05Z', '2026-01-02T03:04:05Z'),
    ('2026-01-02T03:04:05.678901+00:00', '2026-01-02T03:04:05Z'),
    ('2026-01-02T03:04:05+02:00', '2026-01-02T01:04:05Z'),
    ('2026-01-02 03:04:05', '2026-01-02T03:04:05Z'),
    ('never\x1b[31m', 'never?[31m')])
def test_times(stamp, shown):
    assert text.when(stamp) == shown


@given(st.text())
def test_nothing_reaches_the_terminal(name):
    shown = text.clean(name)
    assert len(shown) == len(name)
    assert '\x1b' not in shown
    assert '\n' not in shown
    assert '\x9b' not in shown
    assert '\u202e' not in shown    # writes backwards from here


@pytest.mark.parametrize(('seconds', 'shown'), [
    (0, '0:00'), (7.4, '0:07'), (59.6, '1:00'), (3600, '1:00:00'),
    (11105, '3:05:05'), (-1, '0:00')])
def test_clocks(seconds, shown):
    assert text.clock(seconds) == shown


FIELDS = (table.Field('name', 'Name', width=8),
          table.Field('size_bytes', 'Size (logical)', 'size'),
          table.Field('tags', 'Tags'))
ROW = {'name': 'a-very-long-name', 'size_bytes': 1 << 30,
       'tags': {'a': None}, 'more': 1}


def test_a_table_shows_and_others_tell():
    names, rows = table.many(FIELDS, [ROW], 'table')
    assert names == ['Name', 'Size (logical)', 'Tags']
    assert [c.human_readable() for c in rows[0]] == [
        'a-very-…', '1.00 GiB', '{"a": null}']
    names, rows = table.many(FIELDS, [ROW], 'json')
    assert (names, rows) == (['name', 'size_bytes', 'tags'],
                             [['a-very-long-name', 1 << 30, {'a': None}]])
    _, rows = table.many(FIELDS, [ROW, {}], 'csv')
    assert rows == [['a-very-long-name', 1 << 30, '{"a": null}'],
                    ['', '', '']]


def test_one_shows_what_is_known_and_tells_all():
    names, values = table.one(FIELDS, {'name': 'x', 'tags': None,
                                       'more': [1]}, 'table')
    assert names == ['Name']
    assert [v.human_readable() for v in values] == ['x']
    names, values = table.one(FIELDS, {'name': 'x', 'more': [1]}, 'json')
    assert json.dumps(dict(zip(names, values, strict=True))) == (
        '{"name": "x", "size_bytes": null, "tags": null, "more": [1]}')


def test_sizes_are_sorted_by_number():
    cells = [table.many(FIELDS, [{'size_bytes': n}], 'table')[1][0][1]
             for n in (9 << 20, None, 10 << 10, 1 << 40)]
    assert [c.machine_readable() for c in sorted(cells)] == [
        None, 10 << 10, 9 << 20, 1 << 40]


@pytest.mark.parametrize('word', ['size', 'Size', 'size_bytes',
                                  'Size (logical)', ' SIZE '])
def test_columns_go_by_label_or_name(word):
    assert table.asked([word], FIELDS, 'table') == ['Size (logical)']
    assert table.asked([word], FIELDS, 'json') == ['size_bytes']
