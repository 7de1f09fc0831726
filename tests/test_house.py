"""The house itself: imports point one way, and what is shipped is whole."""

from __future__ import annotations

import ast
import configparser
import pathlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / 'bakflow'

BOTTOM = {'errors', 'states', 'fault'}
CLIENT = BOTTOM | {'conf', 'context', 'rpc', 'threading_backend'}
STEPS = BOTTOM | {'conf', 'cloud', 'store', 'db', 'qcow2'}
#: Who may import what: the first name below ``bakflow``, or a longer one
#: where one module is an exception. Imports point up this list only.
ARROWS: dict[str, set[str]] = {
    'errors': set(),
    'states': set(),
    'fault': set(),
    'threading_backend': set(),
    'context': {'errors'},
    'qcow2': {'errors'},
    'conf': {'errors', 'states'},
    'policies': {'errors', 'conf'},
    'store': {'errors'},
    'devcloud': {'errors', 'conf', 'qcow2'},
    'cloud': BOTTOM | {'conf', 'qcow2'},
    # naming is pure: what a name and its metadata look like
    'db': BOTTOM | {'conf', 'cloud.naming', 'migrations'},
    # a digest of a head is all that a row knows of a store
    'db.records': BOTTOM | {'conf', 'cloud.naming', 'store'},
    'tasks': STEPS,
    'flows': STEPS | {'tasks'},
    'engine': STEPS | {'tasks', 'flows'},
    'rpc': BOTTOM | {'conf', 'context', 'threading_backend'},
    'conductor': STEPS | {'tasks', 'flows', 'engine', 'policies', 'context',
                          'rpc', 'threading_backend'},
    'cli': CLIENT,
    'cli.embedded': CLIENT | {'conductor', 'db', 'policies'},
    'cmd.bakflow': {'cli'},
    'cmd.manage': BOTTOM | {'conf', 'db', 'threading_backend'},
    'cmd.devcloud': {'devcloud', 'errors'},
    # plays the user and the cloud: the command line does the rest
    'cmd.demo': {'devcloud', 'cli', 'errors', 'cmd', 'store'},
    'migrations': {'db'},
}

#: Who alone may import these libraries.
LIBRARIES: dict[str, set[str]] = {
    'openstack': {'cloud'},
    'keystoneauth1': {'cloud'},
    'requests': {'cloud'},
    'urllib3': {'cloud'},
    'sqlalchemy': {'db', 'engine', 'conductor', 'migrations'},
    'alembic': {'db', 'migrations'},
    'taskflow': {'db', 'tasks', 'flows', 'engine', 'conductor'},
    'oslo_messaging': {'rpc', 'conductor', 'cli.embedded'},
    'cliff': {'cli'},
    'cryptography': {'store'},
    'zstandard': {'store', 'qcow2', 'devcloud'},
}


def modules() -> Iterator[tuple[str, pathlib.Path]]:
    """``cli.app`` and its file, for every module that is installed."""
    for base, prefix in ((PACKAGE, ()), (ROOT / 'migrations',
                                         ('migrations',))):
        for path in sorted(base.rglob('*.py')):
            parts = prefix + path.relative_to(base).with_suffix('').parts
            if parts[-1] == '__init__':
                parts = parts[:-1]
            yield '.'.join(parts), path


def imported(name: str, path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Every module or name that is imported, wherever it stands."""
    package = path.name == '__init__.py'
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                above = ['bakflow', *name.split('.')]
                drop = node.level - (1 if package else 0)
                base = '.'.join(above[:len(above) - drop]
                                + ([base] if base else []))
            for alias in node.names:
                yield node.lineno, f'{base}.{alias.name}'


def rule(name: str, table: dict[str, set[str]]) -> set[str] | None:
    """The longest entry that covers the module."""
    parts = name.split('.')
    for end in range(len(parts), 0, -1):
        if '.'.join(parts[:end]) in table:
            return table['.'.join(parts[:end])]
    return None


def covers(allowed: set[str], target: str) -> bool:
    return any(target == a or target.startswith(a + '.') for a in allowed)


def test_imports_point_one_way() -> None:
    wrong = []
    for name, path in modules():
        if name in ('', 'cmd'):
            continue
        allowed = rule(name, ARROWS)
        assert allowed is not None, f'{name} has no place in ARROWS'
        own = name.split('.')[0]
        own_package = set() if own == 'cmd' else {own}
        for line, target in imported(name, path):
            if not target.startswith('bakflow.'):
                continue
            inner = target.removeprefix('bakflow.')
            if not covers(allowed | own_package, inner):
                wrong.append(f'{path.relative_to(ROOT)}:{line}: {target}')
    assert not wrong, '\n'.join(wrong)


def test_libraries_stay_where_they_belong() -> None:
    wrong = []
    for name, path in modules():
        for line, target in imported(name, path):
            allowed = LIBRARIES.get(target.split('.')[0])
            if allowed is not None and not covers(allowed, name):
                wrong.append(f'{path.relative_to(ROOT)}:{line}: {target}')
    assert not wrong, '\n'.join(wrong)


def test_the_arrow_test_sees_imports(tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'm.py'
    path.write_text('from . import a\nfrom ..b import c\nimport d.e\n'
                    'def f():\n    from g import h\n')
    assert [t for _, t in imported('x.m', path)] == [
        'bakflow.x.a', 'bakflow.b.c', 'd.e', 'g.h']
    path = tmp_path / '__init__.py'
    path.write_text('from . import a\nfrom .. import b\n')
    assert [t for _, t in imported('x', path)] == ['bakflow.x.a',
                                                   'bakflow.b']
    assert not covers({'db'}, 'dbx.y')
    assert covers({'db'}, 'db.y')


HEAVY = ('openstack', 'keystoneauth1', 'sqlalchemy', 'taskflow',
         'oslo_messaging', 'oslo_service', 'zstandard',
         'requests', 'bakflow.store', 'bakflow.conductor')


@pytest.mark.parametrize(('module', 'heavy'), [
    ('bakflow.cmd.bakflow, bakflow.cli.app, bakflow.cli.backups', HEAVY),
    ('bakflow.rpc.api', ('openstack', 'keystoneauth1', 'sqlalchemy',
                         'taskflow', 'zstandard',
                         'bakflow.store', 'bakflow.conductor')),
    ('bakflow.store', ('openstack', 'keystoneauth1', 'sqlalchemy',
                       'taskflow', 'oslo_messaging', 'bakflow.cloud')),
])
def test_light_imports(module: str, heavy: tuple[str, ...]) -> None:
    code = (f'import {module}, sys\n'
            f'print([m for m in {heavy!r} if m in sys.modules])')
    done = subprocess.run([sys.executable, '-c', code], text=True,
                          capture_output=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == '[]'


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / 'setup.cfg')
    return parser


def test_every_package_is_installed() -> None:
    listed = {line for line in setup_cfg()['options']['packages'].split()
              if line.startswith('bakflow')}
    there = {'.'.join(['bakflow', name] if name else ['bakflow'])
             for name, path in modules() if path.name == '__init__.py'}
    assert listed == there
    # a folder of modules without __init__.py would be lost without a word
    for _, path in modules():
        assert (path.parent / '__init__.py').exists(), path


@pytest.mark.timeout(300)
def test_the_wheel_is_whole(tmp_path: pathlib.Path) -> None:
    """Built by setuptools as installed here, from the files of this tree."""
    pytest.importorskip('setuptools.build_meta')
    code = ('import sys, setuptools.build_meta as m\n'
            'print(m.build_wheel(sys.argv[1]))')
    source = tmp_path / 'source'
    tracked = subprocess.run(
        ['git', 'ls-files', '-co', '--exclude-standard'], cwd=ROOT,
        text=True, capture_output=True)
    if tracked.returncode:
        pytest.skip('needs a git clone')
    for name in tracked.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith('tests/'):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, '-c', code, str(tmp_path)], cwd=source,
                   check=True, capture_output=True)
    [wheel] = tmp_path.glob('*.whl')
    names = zipfile.ZipFile(wheel).namelist()
    for name, path in modules():
        inside = 'bakflow/' + name.replace('.', '/')
        assert {f'{inside}.py', f'{inside}/__init__.py',
                'bakflow/__init__.py'} & set(names), path
    for wanted in ('bakflow/migrations/script.py.mako',
                   'data/etc/bakflow/bakflow.conf.sample',
                   'data/etc/bakflow/policy.yaml.sample',
                   'licenses/LICENSE'):
        assert any(n.endswith(wanted) for n in names), wanted


def test_entry_points_lead_somewhere() -> None:
    groups = setup_cfg()['options.entry_points']
    for group in groups:
        for line in groups[group].strip().splitlines():
            module, _, name = line.partition('=')[2].strip().partition(':')
            path = ROOT / (module.replace('.', '/') + '.py')
            if not path.exists():
                path = ROOT / module.replace('.', '/') / '__init__.py'
            defined = {n.name for n in ast.parse(path.read_text()).body
                       if isinstance(n, ast.FunctionDef | ast.ClassDef)}
            assert name in defined, line


@pytest.mark.parametrize(('tool', 'config', 'sample'), [
    ('oslo_config.generator', 'bakflow-config-generator.conf',
     'bakflow.conf.sample'),
    ('oslo_policy.generator', 'bakflow-policy-generator.conf',
     'policy.yaml.sample')])
def test_samples_are_fresh(tool: str, config: str, sample: str,
                           tmp_path: pathlib.Path) -> None:
    call = ('generator.generate_sample' if 'policy' in tool
            else 'generator.main')
    package = tool.partition('.')[0]
    out = tmp_path / sample
    code = (f'import sys; from {package} import generator\n'
            f'{call}(sys.argv[1:])')
    subprocess.run(
        [sys.executable, '-c', code, '--config-file', f'etc/{config}',
         '--output-file', str(out)], cwd=ROOT, check=True,
        capture_output=True)
    assert out.read_text() == (ROOT / 'etc/bakflow' / sample).read_text(), \
        'run `make samples`'


def test_no_path_of_a_build_machine() -> None:
    listed = subprocess.run(['git', 'ls-files'], cwd=ROOT, text=True,
                            capture_output=True)
    if listed.returncode:
        pytest.skip('needs a git clone')
    bad = re.compile(rb'(?<![\w.}$/-])/(work|root|home)/[a-z.]')
    wrong = []
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if not path.is_file() or '/golden/format-' in f'/{name}':
            continue
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if bad.search(line):
                wrong.append(f'{name}:{number}: {line[:80]!r}')
    assert not wrong, '\n'.join(wrong)


def test_constraints_are_exact() -> None:
    lines = [line for line in
             (ROOT / 'constraints.txt').read_text().splitlines()
             if line and not line.startswith('#')]
    for line in lines:
        assert re.fullmatch(r'[A-Za-z0-9._-]+==[A-Za-z0-9._]+', line), line
    pinned = {re.sub(r'[-_.]+', '-', line.partition('==')[0]).lower()
              for line in lines}
    parser = setup_cfg()
    wanted = [parser['options']['install_requires'],
              *parser['options.extras_require'].values()]
    for line in '\n'.join(wanted).split('\n'):
        found = re.match(r'[A-Za-z0-9._-]+', line)
        if found:
            name = re.sub(r'[-_.]+', '-', found[0]).lower()
            assert name in pinned, f'{line}: not in constraints.txt'
