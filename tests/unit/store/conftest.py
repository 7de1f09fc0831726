"""Fixtures of the store's tests; what they are made of is in storekit."""

import pytest
from storekit import make_house


@pytest.fixture
def house(tmp_path):
    return make_house(tmp_path / 'store')
