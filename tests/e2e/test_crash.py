"""No crash and no lost answer leaks a machine, runs a command twice, or changes a run's result."""

import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Run
from provisioner.rehearsal.aws.calls import CONTROL, Call
from provisioner.rehearsal.aws.faults import Effect, Rule, When
from provisioner.rehearsal.machines.script import Script
from provisioner.rehearsal.machines.scripted import ScriptedHost
from tests.e2e.ambush import Aim, Ambush, wait_done
from tests.e2e.daemons import Daemons
from tests.e2e.rig import Rig, rig

#: The number of tests among which the calls to disturb are divided.
SHARES = 4
SCRIPT = Script(command=0.3, output=1000)
#: The number of these calls depends on timing, so tests disturb only the first call of each action.
POLLED = {"DescribeInstances", "DescribeInstanceStatus", "GetObject", "ListObjectsV2", "DeleteObjects"}
#: A machine powers off at about the time of these calls, so the calls may be missing from a run.
RACED = {"TerminateInstances", "GetConsoleOutput"}


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    host = ScriptedHost((SCRIPT,))
    with rig(tmp_path, monkeypatch, host=host, prices=[{"type": "*", "dollars": 1.0}]) as whole:
        yield whole


def check(whole: Rig, run: Run, where: str) -> None:
    """Assert a normal end: one machine, one execution, a complete log, no machine alive."""
    assert run.verdict is not None, where
    assert (run.verdict.outcome, run.verdict.exit_code, run.attempt) == (Outcome.SUCCEEDED, 0, 1), where
    [node] = whole.service.installation.store.nodes(run.id)
    starts = [
        call for call in whole.double.calls.of("s3", "PutObject") if call.resource.endswith(f"{node.box}/started")
    ]
    assert len(starts) == 1, where
    assert len(whole.log(run)) == SCRIPT.output, where
    assert whole.double.alive() == [], where


def aims(counted: Sequence[Mapping[tuple[str, str], int]]) -> list[Aim]:
    """Return the calls that all of these undisturbed runs made."""
    common = set.intersection(*(set(counts) for counts in counted))
    return [
        Aim(service, action, nth)
        for service, action in sorted(common)
        if action not in RACED
        for nth in range(1, 2 if action in POLLED else min(counts[service, action] for counts in counted) + 1)
    ]


def in_a_daemon(whole: Rig, daemons: Daemons) -> Counter[tuple[str, str]]:
    """Count the calls of a new daemon for an undisturbed run."""
    ambush = Ambush()
    whole.double.calls.on_call = ambush
    pid = daemons.start(whole.settings)
    wait_done(whole, whole.start("true", name="undisturbed"))
    daemons.kill(pid)
    return ambush.counts


def in_this_process(whole: Rig) -> Counter[tuple[str, str]]:
    """Count this process's calls for an undisturbed run, after earlier launches."""
    ambush = Ambush()
    whole.double.calls.on_call = ambush
    whole.done(whole.start("true", name="undisturbed"))
    return ambush.counts


@pytest.mark.parametrize("share", range(SHARES))
def test_control_plane_killed_at_any_call_ends_the_run_normally(scripted: Rig, share: int) -> None:
    """The control plane is killed at any call and restarted: the run ends on the same machine."""
    with Daemons() as daemons:
        # The first run has an empty store and makes calls that later runs do not make.
        in_a_daemon(scripted, daemons)
        steps = aims([in_a_daemon(scripted, daemons) for _ in range(2)])
        assert Aim("ec2", "CreateFleet", 1) in steps
        machines = len(scripted.double.history())
        for aim in steps[share::SHARES]:
            ambush = Ambush(aim)
            scripted.double.calls.on_call = ambush
            ambush.victim = pid = daemons.start(scripted.settings)
            run = scripted.start("true", name="killed")
            while not ambush.sprung.is_set():
                assert scripted.service.runs.record(run.id).done_at is None, f"{aim} was not made"
                threading.Event().wait(0.01)
            daemons.kill(pid)
            second = daemons.start(scripted.settings)
            done = wait_done(scripted, run)
            daemons.kill(second)
            check(scripted, done, f"killed at {aim}")
            machines += 1
            assert len(scripted.double.history()) == machines, f"killed at {aim}"


@pytest.mark.parametrize("share", range(SHARES))
def test_lost_answer_to_any_call_changes_only_timing(scripted: Rig, share: int) -> None:
    """The answer to one call is lost after its effect: only the timing changes."""
    in_this_process(scripted)
    steps = aims([in_this_process(scripted) for _ in range(2)])
    assert Aim("ec2", "CreateFleet", 1) in steps
    machines = len(scripted.double.history())
    for aim in steps[share::SHARES]:
        scripted.double.faults.clear()
        rule = Rule(Effect.RESET, When.AFTER, aim.service, aim.action, principal=CONTROL, skip=aim.nth - 1, times=1)
        scripted.double.faults.add(rule)
        [done] = scripted.done(scripted.start("true", name="deaf"))
        assert scripted.double.faults.unfired() == [], f"{aim} was not made"
        check(scripted, done, f"answer of {aim} lost")
        machines += 1
        assert len(scripted.double.history()) == machines, f"answer of {aim} lost"


def kind(call: Call) -> tuple[str, str, str]:
    """Return service, action, and the resource with `BOX` for the mailbox and `*` for numbers."""
    return call.service, call.action, re.sub(r"\d{6,}", "*", call.resource.replace(call.principal, "BOX"))


def test_lost_answer_to_any_agent_call_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to one call of a real agent is lost after its effect: the run ends normally."""
    with rig(tmp_path, monkeypatch) as whole:
        plain = whole.done(whole.start("echo fine", name="plain"), whole.service.runs.start("plain", {}))
        boxes = [node.box for run in plain for node in whole.service.installation.store.nodes(run.id)]
        # The number of reports depends on timing: take the first call of each kind that both machines made.
        seen = [dict.fromkeys(map(kind, whole.double.calls.of(principal=box))) for box in boxes]
        kinds = [each for each in seen[0] if each in seen[1]]
        assert len(kinds) >= 8
        met: dict[str, tuple[str, str, str]] = {}
        meeting = threading.Lock()

        def lose(call: Call) -> None:
            """Make each new machine lose the answer to its first call of the next kind."""
            with meeting:
                if len(met) < len(kinds) and call.principal not in (CONTROL, *boxes, *met):
                    met[call.principal] = service, action, resource = kinds[len(met)]
                    where = resource.replace("BOX", call.principal)
                    rule = Rule(Effect.RESET, When.AFTER, service, action, where, call.principal, times=1)
                    whole.double.faults.add(rule)

        whole.double.calls.on_call = lose
        whole.start("echo fine", name="deaf")
        runs = [whole.service.runs.start("deaf", {}) for _ in range(len(kinds) - 1)]
        for done in whole.done(*runs):
            where = f"answer to {met.get(whole.service.installation.store.nodes(done.id)[0].box)} lost: {done.verdict}"
            assert done.verdict is not None, where
            assert (done.verdict.outcome, done.verdict.exit_code, done.attempt) == (Outcome.SUCCEEDED, 0, 1), where
            assert whole.log(done) == b"fine\n", where
        assert whole.double.alive() == []
        # Each kind of call must have met its fault, otherwise the test proves nothing.
        assert whole.double.faults.unfired() == []
