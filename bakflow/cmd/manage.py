"""``bakflow-manage``: what operators do to the database itself."""

from __future__ import annotations

import argparse
import sys

import bakflow.threading_backend  # noqa: F401  isort: skip - first
from bakflow import conf, errors
from bakflow.db import engine


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(
        prog='bakflow-manage', description='Looks after bakflow\'s database.')
    parser.add_argument('--config-file', action='append',
                        help='configuration file; may be given again')
    nouns = parser.add_subparsers(dest='noun', required=True)
    database = nouns.add_parser('db', help='the database')
    verbs = database.add_subparsers(dest='verb', required=True)
    verbs.add_parser('upgrade', help='bring the schema to this version')
    verbs.add_parser('check', help='exit 0 when the schema is current')
    args = parser.parse_args(argv)
    try:
        return _run(args)
    except errors.BakflowError as exc:
        print(f'bakflow-manage: {exc}', file=sys.stderr)
        if exc.hint:
            print(f'  {exc.hint}', file=sys.stderr)
        return 1


def _run(args: argparse.Namespace) -> int:
    options = conf.setup([], args.config_file)
    db = engine.connect(engine.url_of(options))
    try:
        shown = db.engine.url.render_as_string(hide_password=True)
        if args.verb == 'upgrade':
            engine.upgrade(db)
            print(f'{shown} is current')
            return 0
        current = engine.is_current(db)
        print(f'{shown} is {"current" if current else "not current: run "}'
              f'{"" if current else "bakflow-manage db upgrade"}')
        return 0 if current else 1
    finally:
        db.close()


if __name__ == '__main__':
    sys.exit(main())
