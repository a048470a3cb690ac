"""Fixtures: a world with one list of commands, whose machine the test plays."""

import pytest

from tests.service.listed import Listed, Machine


@pytest.fixture
def listed() -> Listed:
    return Listed()


@pytest.fixture
def machine(listed: Listed) -> Machine:
    return listed.machine()
