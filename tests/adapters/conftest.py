"""The double, with faults to order."""

from collections.abc import Callable, Iterator

import pytest

from provisioner.rehearsal.conditions import Conditions
from provisioner.rehearsal.double import Double
from provisioner.rehearsal.host import Guest
from provisioner.rehearsal.scenario import Scenario


class Idle:
    """A host whose machines do nothing."""

    def boot(self, guest: Guest, powered_off: Callable[[str], None]) -> None:
        pass

    def end(self, instance_id: str) -> None:
        pass

    def console(self, instance_id: str) -> str:  # noqa: ARG002 - they all say the same
        return "booted\n"

    def capture(self, instance_id: str, image_id: str) -> None:
        pass

    def forget(self, image_id: str) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    with Double(Scenario(Conditions()), Idle()) as up:
        for name, value in up.environment().items():
            monkeypatch.setenv(name, value)
        yield up
