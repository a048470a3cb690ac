"""Runs with several machines, end to end: their ranks find each other, start together and stop together."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.core.protocol.keys import rank_name
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Run, Verdict
from provisioner.core.run.states import State
from tests.e2e.rig import Rig, rig
from tests.polling import until


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with rig(tmp_path, monkeypatch) as made:
        yield made


def test_launchers_find_the_ranks_by_variables(whole: Rig) -> None:
    """The command has the variables of launchers; the start script has not, because it may start a launcher itself."""
    shown = "env | grep -E '^(MASTER|PET|NODE|RANK|WORLD|LOCAL|SATURN|PROVISION_(RANK|SCALE))' | sort"
    run = whole.start(shown, scale=2, start_script=shown, environment_variables={"MASTER_PORT": "4242"})
    [done] = whole.done(run)
    assert done.verdict
    assert done.verdict.outcome is Outcome.SUCCEEDED
    store = whole.service.installation.store
    [leader] = store.machines([store.nodes(run.id)[0].instance_id])
    known = leader.address if leader.address.startswith("127.") else rank_name(run.id, 0)
    for rank in (0, 1):
        told = dict(line.split("=", 1) for line in whole.log(run, rank=rank).decode().splitlines())
        assert {told[name] for name in ("MASTER_ADDR", "SATURN_JOB_LEADER", "PET_MASTER_ADDR")} == {known}
        assert (told["NODE_RANK"], told["PET_NODE_RANK"], told["RANK"]) == (str(rank),) * 3
        assert (told["PET_NNODES"], told["PROVISION_SCALE"], told["WORLD_SIZE"]) == ("2", "2", "2")
        assert told["MASTER_PORT"] == "4242"
        name = f"{told['SATURN_JOB_RUN']}-1.{told['SATURN_INTERNAL_SUBDOMAIN']}.{told['SATURN_NAMESPACE']}"
        assert f"{name}.svc.cluster.local" == rank_name(run.id, 1)
        prepared = whole.log(run, "setup", rank=rank).decode()
        assert "SATURN_JOB_LEADER=" in prepared
        assert not any(line.startswith(("PET_", "WORLD", "RANK", "NODE")) for line in prepared.splitlines())


def test_ranks_wait_at_the_barrier_while_no_control_plane_runs(whole: Rig) -> None:
    """The ranks stay at the barrier until a control plane has read that all are ready."""
    run = whole.start("echo together", scale=2)
    store = whole.service.installation.store
    whole.until(lambda: len(store.nodes(run.id)) == 2 and all(node.peers_put_at for node in store.nodes(run.id)))
    boxes = [node.box for node in store.nodes(run.id)]

    def ready() -> bool:
        objects = whole.double.account.objects(whole.double.bucket)
        return all(
            any(key.startswith(f"inbox/{box}/") and b'"barrier"' in data for key, data in objects.items())
            for box in boxes
        )

    until(ready, "all ranks at the barrier")
    assert whole.service.runs.record(run.id).start_order == 0
    [done] = whole.done(run)
    assert done.verdict
    assert (done.verdict.outcome, done.attempt) == (Outcome.SUCCEEDED, 1)


def interrupted(whole: Rig, run: Run, rank: int) -> tuple[Run, Verdict]:
    """Give this rank's machine a spot notice when all ranks have printed "up"; return the done run and its verdict."""
    whole.pace = 0.2
    whole.until(lambda: all(b"up" in whole.log(run, rank=each) for each in range(run.scale)))
    whole.double.interrupt(whole.service.installation.store.nodes(run.id)[rank].instance_id, notice=60)
    [done] = whole.done(run)
    assert done.verdict
    return done, done.verdict


def test_notice_stops_all_ranks_at_one_instant(whole: Rig) -> None:
    """The ranks save one common checkpoint, and the run is tried again."""
    command = "test $PROVISION_ATTEMPT = 2 || { trap 'date +%s.%N; exit 0' TERM; echo up; sleep 600 & wait; }"
    run = whole.start(command, scale=3, use_spot_instance=True)
    done, verdict = interrupted(whole, run, rank=1)
    assert (verdict.outcome, done.attempt, done.retries_used) == (Outcome.SUCCEEDED, 2, 0)
    times = [float(whole.log(run, attempt=1, rank=rank).split()[1]) for rank in range(3)]
    assert max(times) - min(times) < 1.5
    first = [node for node in whole.service.installation.store.nodes(run.id) if node.attempt == 1]
    assert {node.verdict.outcome for node in first if node.verdict} == {Outcome.INTERRUPTED}


def test_only_the_interrupted_machine_is_replaced(whole: Rig) -> None:
    """The other machines work for the next attempt, from a fresh working directory, and are billed once."""
    command = "ls; touch file; echo attempt $PROVISION_ATTEMPT; test $PROVISION_ATTEMPT = 2 || { echo up; sleep 600; }"
    run = whole.start(command, scale=3, use_spot_instance=True)
    done, verdict = interrupted(whole, run, rank=1)
    assert (verdict.outcome, done.attempt, done.kept_until) == (Outcome.SUCCEEDED, 2, None)
    nodes = {(node.attempt, node.rank): node.instance_id for node in whole.service.installation.store.nodes(run.id)}
    assert [nodes[1, rank] == nodes[2, rank] for rank in range(3)] == [True, False, True]
    for rank in range(3):
        assert whole.log(run, attempt=1, rank=rank) == b"attempt 1\nup\n"
        assert whole.log(run, attempt=2, rank=rank) == b"attempt 2\n"
    receipt = whole.service.runs.receipt(run.id)
    assert {bill.instance_id: bill.attempt for bill in receipt.machines} == {
        **{nodes[1, rank]: 1 for rank in range(3)},
        nodes[2, 1]: 2,
    }
    assert {phase.rank for phase in receipt.phases if phase.name == "kept"} == {0, 2}
    assert whole.double.alive() == []


def test_recipe_may_release_the_other_machines(whole: Rig) -> None:
    command = "test $PROVISION_ATTEMPT = 2 || { echo up; sleep 600; }"
    run = whole.start(command, scale=2, use_spot_instance=True, gang={"survivors": "release"})
    done, verdict = interrupted(whole, run, rank=1)
    assert (verdict.outcome, done.attempt) == (Outcome.SUCCEEDED, 2)
    assert len(whole.service.runs.receipt(run.id).machines) == 4


def test_done_file_of_every_rank_ends_an_interrupted_run(whole: Rig) -> None:
    command = "trap ': >\"$PROVISION_DONE_FILE\"; exit 0' TERM; echo up; sleep 600 & wait"
    run = whole.start(command, scale=2, use_spot_instance=True)
    done, verdict = interrupted(whole, run, rank=0)
    assert (verdict.outcome, done.attempt) == (Outcome.SUCCEEDED, 1)


def test_stop_of_a_user_ends_all_ranks(whole: Rig) -> None:
    run = whole.start("echo up; sleep 600", scale=3)
    whole.until(lambda: whole.service.runs.record(run.id).state is State.RUNNING)
    whole.service.runs.stop(run.id)
    [done] = whole.done(run)
    assert done.verdict
    assert done.verdict.outcome is Outcome.CANCELLED
    assert whole.double.alive() == []
