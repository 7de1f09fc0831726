"""A simulated cloud, and the command line on it."""

from __future__ import annotations

import pytest
from running import Cli

from bakflow.devcloud import DevCloud


@pytest.fixture
def cloud(tmp_path):
    with DevCloud(tmp_path / 'cloud', delay=0.02, hashes=False) as made:
        yield made


@pytest.fixture
def cli(tmp_path, cloud):
    return Cli(tmp_path, cloud)
