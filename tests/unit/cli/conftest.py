"""Fixtures of the command line's tests."""

from __future__ import annotations

import logging

import pytest
from clikit import World


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    """The application adds handlers to the root logger."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def world():
    return World()
