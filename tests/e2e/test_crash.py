"""No crash and no lost answer leaks a machine, runs a command twice, or changes what comes of a run."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from provisioner.core.record import Run
from provisioner.core.work import Outcome
from provisioner.rehearsal.calls import CONTROL, Call
from provisioner.rehearsal.faults import Effect, Rule, When
from provisioner.rehearsal.machines.script import Script
from provisioner.rehearsal.machines.scripted import ScriptedHost
from tests.e2e.daemons import Daemons
from tests.e2e.rig import Rig, rig

#: The steps are shared among the workers by their number.
SHARES = 4
SCRIPT = Script(command=0.3, output=1000)


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    host = ScriptedHost((SCRIPT,))
    with rig(tmp_path, monkeypatch, host=host, prices=[{"type": "*", "dollars": 1.0}]) as whole:
        yield whole


@dataclass
class Ambush:
    """Strikes at the n-th call of the control plane, as it arrives."""

    at: int
    victim: int = 0
    count: int = 0
    struck: str = ""

    def __post_init__(self) -> None:
        self.sprung = threading.Event()

    def __call__(self, call: Call) -> None:
        if call.principal != CONTROL:
            return
        self.count += 1
        if self.count == self.at and self.victim:
            self.struck = str(call)
            os.kill(self.victim, 9)
            self.sprung.set()


def wait_done(whole: Rig, run: Run) -> Run:
    """Look at the store, without acting, until the run is done."""
    while (found := whole.service.run(run.id)).done_at is None:
        threading.Event().wait(0.02)
    return found


def check(whole: Rig, run: Run, where: str) -> None:
    """The run ended as if nothing had happened: one machine, one execution, its log whole, nothing alive."""
    assert run.verdict is not None, where
    assert (run.verdict.outcome, run.verdict.exit_code, run.attempt) == (Outcome.SUCCEEDED, 0, 1), where
    [node] = whole.service.status(run.id).nodes
    starts = [
        call for call in whole.double.calls.of("s3", "PutObject") if call.resource.endswith(f"{node.box}/started")
    ]
    assert len(starts) == 1, where
    assert len(whole.log(run)) == SCRIPT.output, where
    assert whole.double.alive() == [], where


def steps_of_a_run(whole: Rig, daemons: Daemons) -> int:
    """How many calls the control plane makes from trigger to done, when nothing disturbs it."""
    ambush = Ambush(at=0)
    whole.double.calls.on_call = ambush
    pid = daemons.start(whole.settings)
    wait_done(whole, whole.start("true", name="undisturbed"))
    daemons.kill(pid)
    return ambush.count


@pytest.mark.parametrize("share", range(SHARES))
def test_killed_at_every_call(scripted: Rig, share: int) -> None:
    """kill -9 of the control plane at any call, then a new one: the run ends on the same machine."""
    with Daemons() as daemons:
        steps = steps_of_a_run(scripted, daemons)
        assert steps >= 30
        machines = len(scripted.double.history())
        for at in range(1 + share, steps + 1, SHARES):
            ambush = Ambush(at)
            scripted.double.calls.on_call = ambush
            ambush.victim = pid = daemons.start(scripted.settings)
            run = scripted.start("true", name="killed")
            # A quick run may be over before so many calls were made.
            while not ambush.sprung.is_set() and scripted.service.run(run.id).done_at is None:
                threading.Event().wait(0.01)
            daemons.kill(pid)
            second = daemons.start(scripted.settings)
            done = wait_done(scripted, run)
            daemons.kill(second)
            check(scripted, done, f"killed at call {at}: {ambush.struck}")
            machines += 1
            assert len(scripted.double.history()) == machines, f"call {at}: {ambush.struck}"


@pytest.mark.parametrize("share", range(SHARES))
def test_every_answer_lost(scripted: Rig, share: int) -> None:
    """The answer to any one call of the control plane is lost after the deed: nothing changes but time."""
    with Daemons() as daemons:
        steps = steps_of_a_run(scripted, daemons)
    machines = len(scripted.double.history())
    for at in range(share, steps, SHARES):
        scripted.double.faults.clear()
        scripted.double.faults.add(Rule(Effect.RESET, When.AFTER, principal=CONTROL, skip=at, times=1))
        [done] = scripted.done(scripted.start("true", name="deaf"))
        check(scripted, done, f"answer {at} lost")
        machines += 1
        assert len(scripted.double.history()) == machines, f"answer {at} lost"


def test_every_answer_to_an_agent_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to any one call of a real agent is lost after the deed: its run ends as if nothing had happened."""
    with rig(tmp_path, monkeypatch) as whole:
        [plain] = whole.done(whole.start("echo fine"))
        [node] = whole.service.status(plain.id).nodes
        steps = len(whole.double.calls.of(principal=node.box))
        assert steps >= 8
        met: dict[str, int] = {}
        meeting = threading.Lock()

        def lose(call: Call) -> None:
            """The n-th machine to be met loses the answer to its n-th call."""
            with meeting:
                if call.principal not in (CONTROL, node.box, *met):
                    met[call.principal] = len(met)
                    rule = Rule(Effect.RESET, When.AFTER, principal=call.principal, skip=met[call.principal], times=1)
                    whole.double.faults.add(rule)

        whole.double.calls.on_call = lose
        whole.start("echo fine", name="deaf")
        runs = [whole.service.start("deaf", {}) for _ in range(steps - 1)]
        for done in whole.done(*runs):
            where = f"answer {met.get(whole.service.status(done.id).nodes[0].box)} lost: {done.verdict}"
            assert done.verdict is not None, where
            assert (done.verdict.outcome, done.verdict.exit_code, done.attempt) == (Outcome.SUCCEEDED, 0, 1), where
            assert whole.log(done) == b"fine\n", where
        assert whole.double.alive() == []
