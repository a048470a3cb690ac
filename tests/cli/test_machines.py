"""`provision machines` and the filters of `provision audit`."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from provisioner.core.cloud.machines import MachineState
from provisioner.core.run.states import State
from provisioner.core.views import from_records
from provisioner.core.views.codec import moment
from provisioner.core.views.overview import Alive
from provisioner.faces.cli.commands.watching.machines import row
from tests.cli.conftest import Provision
from tests.support import samples
from tests.support.samples import NOW

ALIVE = Alive(
    machine=from_records.machine(samples.machine(id="i-1", launch_time=NOW - 100, state=MachineState.RUNNING)),
    bound_at=moment(NOW - 110),
    lifetime_ends_at=moment(NOW + 3500),
    run="1f9cb11a918f" + "0" * 20,
    job="train",
    owner="ann",
    attempt=1,
    rank=0,
    state=State.RUNNING,
    waits=False,
    step="command",
    heard_at=moment(NOW - 2),
    silent_since=None,
    notice_at=None,
    dollars_at_least=0.02,
    dollars_at_most=0.0278,
    disk_dollars_at_most=None,
)


def test_row_has_the_run_the_end_of_the_lifetime_and_the_cost() -> None:
    shown = row(ALIVE, NOW)
    assert shown[0] == "i-1"
    assert shown[3:] == (
        "running", "1f9cb11a918f", "ann/train", "1 min 40 s", "58 min 20 s", "0.0278", "2 s ago",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("alive", "state"),
    [
        (replace(ALIVE, silent_since=moment(NOW - 300), notice_at=moment(NOW)), "silent"),
        (replace(ALIVE, notice_at=moment(NOW + 100)), "interruption notice"),
        (replace(ALIVE, waits=True), "waits for the next attempt"),
        (replace(ALIVE, machine=replace(ALIVE.machine, state=MachineState.SHUTTING_DOWN)), "shutting-down"),
        (replace(ALIVE, run=None, job=None, owner=None, state=None, lifetime_ends_at=None), "running"),
    ],
)
def test_state_of_a_machine_says_what_needs_attention(alive: Alive, state: str) -> None:
    assert row(alive, NOW)[3] == state


@pytest.mark.usefixtures("whole")
def test_machines_are_listed(provision: Provision) -> None:
    done = provision("machines")
    assert (done.code, done.err) == (0, "no machines\n")
    assert json.loads(provision("machines", "--json").out)["machines"] == []


@pytest.mark.usefixtures("whole")
def test_audit_is_filtered(provision: Provision, recipe: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the server looks at few changes for each request."""
    for name in ("good-a", "good-b", "good-c"):
        provision("apply", recipe(name))
    provision("start", "good-b", "--wait")
    monkeypatch.setattr("provisioner.service.access.tokens.LOOKED", 2)

    def found(*words: str) -> list[str]:
        return [each["target"] for each in json.loads(provision("audit", *words, "--json").out)]

    assert found("--what", "apply", "--target", "good-") == ["good-c", "good-b", "good-a"]
    assert found("--what", "apply", "--target", "good-a", "-n", "1") == ["good-a"]
    assert found("--who", "nobody") == []
