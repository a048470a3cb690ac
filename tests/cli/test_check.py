"""The command `check`: its lines, its exit code, and its run on a machine."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from provisioner.core.errors import Transient
from provisioner.faces.cli.commands.account import trial
from provisioner.rehearsal.aws.calls import CONTROL
from provisioner.rehearsal.aws.faults import Effect, Rule
from tests.cli.conftest import HERE, Provision
from tests.e2e.rig import Rig

pytestmark = HERE

DENIED = Rule(Effect.ERROR, action="RunInstances", principal=CONTROL, code="UnauthorizedOperation", status=403)


@pytest.fixture
def denied(whole: Rig) -> Any:
    """Deny launches by RunInstances while the test runs."""
    whole.double.faults.add(DENIED)
    yield
    whole.double.faults.clear()


@pytest.mark.usefixtures("whole")
def test_check_of_a_sound_account_ends_with_0(provision: Provision) -> None:
    done = provision("check")
    lines = done.out.decode().splitlines()
    assert (done.code, done.last_line) == (0, "nothing is wrong, 0 warnings")
    assert lines[:2] == ["login", f"  ok       {login(lines)}"]
    heads = [line for line in lines if not line.startswith(" ")]
    assert heads == ["login", "clock", "bucket", "roles", "network", "AMI", "quotas", "spot", "objects"]


def login(lines: list[str]) -> str:
    return lines[1].removeprefix("  ok       ")


@pytest.mark.usefixtures("denied")
def test_what_is_wrong_is_shown_with_its_fix_and_ends_with_1(provision: Provision) -> None:
    done = provision("check")
    lines = done.out.decode().splitlines()
    at = next(index for index, line in enumerate(lines) if "RunInstances is denied" in line)
    assert lines[at].startswith("  wrong    ")
    assert lines[at + 1] == "           fix: give the control plane's role the policy of `provision iam control`"
    assert (done.code, done.last_line) == (1, "1 wrong, 0 warnings")


@pytest.mark.usefixtures("denied")
def test_json_has_every_line_and_the_counts(provision: Provision) -> None:
    done = provision("check", "--json")
    found = json.loads(done.out)
    assert (done.code, found["wrong"], found["warnings"], done.err) == (1, 1, 0, "")
    assert {line["level"] for line in found["lines"]} == {"ok", "wrong"}
    assert all(bool(line["fix"]) == (line["level"] != "ok") for line in found["lines"])


@pytest.mark.usefixtures("denied")
def test_no_machine_is_launched_while_something_is_wrong(whole: Rig, provision: Provision) -> None:
    before = len(whole.double.history())
    done = provision("check", "--machine")
    assert "no machine is launched" in done.out.decode()
    assert (done.code, len(whole.double.history())) == (1, before)


def machines(whole: Rig) -> set[str]:
    """Return the ids of all machines that ever existed."""
    return set(whole.double.history())


def test_machine_runs_a_job_and_shows_its_phases_and_cost(whole: Rig, provision: Provision) -> None:
    before = machines(whole)
    done = provision("check", "--machine")
    text = done.out.decode()
    assert done.code == 0
    assert "ok       a job ran on one t3.micro: " in text
    assert "ok       it cost " in text
    assert len(machines(whole) - before) == 1
    assert nothing_left(whole)


def nothing_left(whole: Rig) -> bool:
    """Return whether the job of the check is deleted, and no machine lives."""
    return not whole.double.alive() and trial.NAME not in {job.name for job in whole.service.jobs.all()}


def test_job_that_does_not_succeed_is_wrong(whole: Rig, provision: Provision, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripted machines fail the commands of jobs named `bad`."""
    monkeypatch.setattr(trial, "NAME", "bad")
    monkeypatch.setitem(trial.RECIPE["spec"], "name", "bad")
    done = provision("check", "--machine")
    assert done.code == 1
    assert "wrong    the job on one t3.micro did not succeed: failed (" in done.out.decode()
    assert not whole.double.alive()


def test_run_that_does_not_end_in_time_is_stopped(
    whole: Rig, provision: Provision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "LONGEST", 0.0)
    done = provision("check", "--machine")
    assert done.code == 1
    assert "did not succeed: cancelled" in done.out.decode()
    assert nothing_left(whole)


def test_machine_is_ended_after_an_error(whole: Rig, provision: Provision, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first wait fails, as if a pass failed; the second one, which waits for the end, works."""
    wait: Callable[..., None] = trial._until  # noqa: SLF001
    waits = iter([True])

    def until(*arguments: Any) -> None:
        if next(waits, False):
            wait(*arguments[:2], 0.0)
            raise Transient("no network")
        wait(*arguments)

    monkeypatch.setattr(trial, "_until", until)
    done = provision("check", "--machine")
    assert done.code == 75
    assert "no network" in done.err
    assert nothing_left(whole)
