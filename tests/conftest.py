"""For every test: the threading backend first, and an honest summary.

At the end of a run over all of ``tests`` (``make test``, ``.ci/run``) it is
said which suites ran, which did not, and the command that would run them.
With ``BAKFLOW_TEST_SUMMARY`` the totals are also appended to that file.
"""

from __future__ import annotations

import collections
import os
import pathlib

import pytest

import bakflow.threading_backend  # noqa: F401  isort: skip - first

HERE = pathlib.Path(__file__).parent
REAL = os.environ.get('BAKFLOW_TEST_CLOUD')
HOW_REAL = 'make test-real BAKFLOW_TEST_CLOUD=NAME'
#: suites that need more than this machine has by itself
HOW = {'cloud': HOW_REAL}
#: suites that run on the simulated cloud and, when one is named, a real one
ON_BOTH = ('contract', 'functional/cloud')

#: said by libraries about themselves; nothing that a test here could mend
NOISE = (
    'The _compute_attributes method is deprecated',
    'The ignore_missing parameter of all find_',
    'Support for InfluxDB requires',
    "The 'service_type' parameter is unnecesary",
    'eventletutils module is deprecated',
    r'\s*Eventlet is deprecated',
    r'Using fork\(\) is a bad idea',
)

Counts = collections.Counter[str]


def pytest_configure(config: pytest.Config) -> None:
    for message in NOISE:
        config.addinivalue_line('filterwarnings', f'ignore:{message}')


def suite_of(path: str) -> str:
    """The folder of a test module, at most two deep: ``unit/store``."""
    parts = pathlib.PurePath(path).parts
    parts = parts[parts.index('tests') + 1:-1] if 'tests' in parts else ()
    return '/'.join(parts[:2]) or 'house'


def all_suites() -> list[str]:
    """Every folder that has tests."""
    return sorted({suite_of(str(p.relative_to(HERE.parent)))
                   for p in HERE.rglob('test_*.py')})


def _counted(reporter: pytest.TerminalReporter) -> dict[str, Counts]:
    found: dict[str, Counts] = collections.defaultdict(collections.Counter)
    for outcome, kind in (('passed', 'passed'), ('failed', 'failed'),
                          ('error', 'failed'), ('skipped', 'skipped'),
                          ('xfailed', 'skipped')):
        for report in reporter.stats.get(outcome, []):
            if outcome == 'passed' and report.when != 'call':
                continue
            found[suite_of(report.nodeid.partition('::')[0])][kind] += 1
    return found


def _is_whole(config: pytest.Config) -> bool:
    return any(pathlib.Path(a.partition('::')[0]).resolve() == HERE
               for a in config.args)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter,
                            config: pytest.Config) -> None:
    if hasattr(config, 'workerinput'):
        return      # the controller of pytest-xdist has all results
    counts = _counted(terminalreporter)
    total: Counts = sum(counts.values(), collections.Counter())
    summary = os.environ.get('BAKFLOW_TEST_SUMMARY')
    if summary:
        with open(summary, 'a') as file:
            print(total['passed'], total['failed'], total['skipped'],
                  file=file)
    if config.option.collectonly or not _is_whole(config):
        return
    write = terminalreporter.write_line
    terminalreporter.section('suites')
    for suite in all_suites():
        count = counts.get(suite)
        if count and count['passed'] + count['failed']:
            numbers = ', '.join(f'{count[k]} {k}' for k in (
                'passed', 'failed', 'skipped') if count[k])
            write(f'ran      {suite:24} {numbers}',
                  red=bool(count['failed']))
        else:
            how = HOW.get(suite, f'make test, or pytest tests/{suite}')
            write(f'NOT RUN  {suite:24} {how}', yellow=True)
    if not REAL:
        for suite in ON_BOTH:
            write(f'NOT RUN  {suite + " (real)":24} {HOW_REAL}',
                  yellow=True)
