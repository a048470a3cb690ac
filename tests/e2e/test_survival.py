"""The permanent loss of a part: the store, the agent, or everything but the fuse."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from provisioner import wiring
from provisioner.core.cloud.machines import MachineState
from provisioner.core.errors import WrongStore
from provisioner.core.protocol.words import Outcome
from provisioner.ports.control.logs import LogPiece, LogQuery
from provisioner.rehearsal.aws.faults import Effect, Rule
from tests.e2e.processes import agents
from tests.e2e.rig import Rig, rig


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with rig(tmp_path, monkeypatch) as whole:
        yield whole


def wait(condition: Callable[[], object]) -> None:
    """Wait without running passes."""
    while not condition():
        threading.Event().wait(0.05)


def test_a_lost_store_ends_no_machine(whole: Rig, tmp_path: Path) -> None:
    """A control plane with an empty store ends no machine. The machine ends itself, and takeover keeps its log."""
    go = tmp_path / "go"
    os.mkfifo(go)
    run = whole.start(f"echo before; cat {go}; echo after")
    whole.until(lambda: whole.service.runs.record(run.id).state == "running")
    whole.service.close()

    empty = whole.settings.model_copy(update={"store": tmp_path / "other.db"})
    whole.service = wiring.service(empty)
    with pytest.raises(WrongStore, match="takeover"):
        whole.service.operator.step()
    assert [one.state for one in whole.double.alive()] == [MachineState.RUNNING]

    [told] = whole.service.operator.takeover()
    assert "no result yet" in told
    whole.service.operator.step()
    assert [one.state for one in whole.double.alive()] == [MachineState.RUNNING]
    assert whole.service.operator.foreign() == tuple(one.id for one in whole.double.alive())

    go.write_text("the word\n")
    wait(lambda: not whole.double.alive())
    [told] = whole.service.operator.takeover()
    assert run.id[:12] in told
    assert "succeeded" in told
    objects = whole.double.account.objects(whole.double.bucket)
    kept = b"".join(data for key, data in sorted(objects.items()) if key.startswith(f"runs/{run.id}/1/0/log/output/"))
    assert kept == b"before\nthe word\nafter\n"
    result = json.loads(objects[f"runs/{run.id}/1/0/result"])
    assert (result["outcome"], result["exit_code"]) == ("succeeded", 0)


def test_a_killed_agent_costs_an_attempt(whole: Rig) -> None:
    """Every agent is killed: the machine ends itself, and the next attempt runs on another machine."""
    killing = 'while sleep 0.1; do pkill -9 -f "${HOME%/home/*}/var/lib/provision/[a]gent"; done'
    run = whole.start(f'test "$PROVISION_ATTEMPT" = 2 || {killing}; echo done')
    [done] = whole.done(run)
    assert done.verdict is not None
    assert (done.verdict.outcome, done.attempt) == (Outcome.SUCCEEDED, 2), done.verdict
    first, second = whole.service.installation.store.nodes(run.id)
    assert first.verdict is not None
    assert first.verdict.outcome is Outcome.LOST
    assert first.instance_id != second.instance_id
    assert whole.log(run, attempt=2) == b"done\n"
    assert whole.double.alive() == []


def test_a_run_outlives_its_agent(whole: Rig) -> None:
    """The agent is killed and restarted: log and exit code are complete, in one attempt."""
    suicide = "read -r _ _ _ agent _ </proc/$PPID/stat; echo before; kill -9 $agent; sleep 1; echo after; exit 3"
    [done] = whole.done(whole.start(suicide))
    assert done.verdict is not None
    assert (done.verdict.outcome, done.verdict.exit_code, done.attempt) == (Outcome.FAILED, 3, 1), done.verdict
    pieces = list(whole.service.logs.read(done.id, LogQuery(("output",))))
    assert b"".join(piece.data for piece in pieces if isinstance(piece, LogPiece)) == b"before\nafter\n"
    assert not [piece for piece in pieces if not isinstance(piece, LogPiece)], "a gap"
    assert whole.double.alive() == []


def test_fuse_alone_ends_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With control plane and agents stopped, the machine ends itself when its fuse expires."""
    with rig(tmp_path, monkeypatch, rehearsal={"boot_fuse": 8}) as whole:
        whole.double.faults.add(
            Rule(Effect.ERROR, resource="*/work", principal="control", code="AccessDenied", status=403)
        )
        whole.start("echo never")
        told = whole.service.operator.step()
        [machine] = whole.double.alive() or pytest.fail(str(told))
        whole.service.close()
        folder = tmp_path / "machines" / machine.id
        wait(lambda: agents(folder))
        for pid in agents(folder):
            os.kill(pid, signal.SIGSTOP)
        wait(lambda: not whole.double.alive())
        [life] = whole.double.history().values()
        assert [change.state for change in life][-2:] == [MachineState.SHUTTING_DOWN, MachineState.TERMINATED]
