"""``bakflow status``: where this installation keeps things, and how it is."""

from __future__ import annotations

import argparse
from typing import Any

from bakflow.cli import base
from bakflow.cli.table import Field


class ShowStatus(base.Show):
    """Show the deployment: database, conductors, flows, backups."""

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        with self.client() as client:
            found = client.api.status()
        named = tuple(
            Field(name, name.replace('_', ' ').capitalize(),
                  'size' if name.endswith('_bytes') else
                  'time' if name.endswith('_at') else 'text')
            for name in found)
        return self.row(parsed_args, named, found)
