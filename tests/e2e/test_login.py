"""A login that expires in the middle of the work and comes back, and an account that AWS verifies."""

import math
import re
from pathlib import Path

import pytest

from provisioner.core.protocol.words import Outcome
from provisioner.core.run import launch_answers
from provisioner.core.run.states import State, Waiting
from provisioner.faces.api.saturn import attempts
from provisioner.faces.cli.terminal import screen
from provisioner.rehearsal.ec2.conditions import Lapse
from provisioner.rehearsal.machines.script import Script
from provisioner.rehearsal.machines.scripted import ScriptedHost
from tests.e2e.rig import rig


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(launch_answers.FIRST, Waiting.OPERATOR, 0.2)


def test_login_that_expires_while_a_job_runs_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job goes on, a new run waits and says what to do, and both succeed after the next login."""
    host = ScriptedHost((Script(command=3.0),))
    with rig(tmp_path, monkeypatch, host=host) as whole:
        runs = whole.service.runs
        first = whole.start("true", name="first")
        whole.until(lambda: runs.record(first.id).state is State.RUNNING)
        second = whole.start("true", name="second")
        whole.double.change(lapses=(Lapse(0.0, math.inf),))
        whole.until(lambda: runs.record(second.id).waiting is Waiting.OPERATOR)
        view = runs.get(second.id)
        said = screen.phase(view, None)
        # EC2 and S3 have different codes for it.
        assert re.match("queued, operator: (RequestExpired|ExpiredToken): .* renew the control plane's AWS", said)
        assert [attempt.status for attempt in attempts.of(view, ())] == ["pending"]
        assert "renew the control plane's AWS credentials" in whole.service.operator.hindrance()
        whole.double.change(lapses=())
        done = whole.done(first, second)
        assert [run.verdict and run.verdict.outcome for run in done] == [Outcome.SUCCEEDED] * 2
        assert [run.attempt for run in done] == [1, 1]
        assert whole.service.operator.hindrance() == ""
        assert whole.double.calls.unimplemented == []


def test_run_waits_until_aws_has_verified_the_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EC2 names the offers, and UnfulfillableCapacity beside them; none goes dry."""
    host = ScriptedHost((Script(command=0.1),))
    with rig(tmp_path, monkeypatch, host=host, verifications=[{"ends": "99h"}]) as whole:
        run = whole.start("true", use_spot_instance=True)
        whole.until(lambda: whole.service.runs.record(run.id).waiting is Waiting.OPERATOR)
        tried = whole.service.runs.record(run.id).tried
        assert {each.code for each in tried} == {"PendingVerification"}
        assert whole.service.installation.store.live().droughts == ()
        whole.double.change(verifications=())
        [done] = whole.done(run)
        assert done.verdict
        assert done.verdict.outcome is Outcome.SUCCEEDED
