"""The takeover of a bucket: data of a lost store's machines is kept, data of known machines is left alone."""

import pytest

from provisioner.core.errors import WrongStore
from provisioner.core.logs import archive
from provisioner.core.protocol.codec import encode
from provisioner.core.protocol.keys import chunk_key, result_key, work_key
from provisioner.core.protocol.messages import Result
from provisioner.core.protocol.words import Engine, Outcome, Step
from provisioner.core.run.work_order import work_order
from provisioner.service.control_loop.loop import Intervals, Loop
from provisioner.service.control_loop.ownership import claim
from provisioner.service.control_loop.reconciler import Reconciler
from provisioner.service.control_loop.takeover import Takeover
from tests.service.alone import Alone
from tests.support import samples


@pytest.fixture
def alone() -> Alone:
    return Alone()


def leave(alone: Alone, box: str, later: int = 0, *, result: bool = True) -> None:
    """Write a work order to a mailbox, and a result if its machine has finished."""
    run, attempt = samples.run("run-1"), later or 1
    order = work_order(
        run, samples.recipe(), attempt=attempt, rank=0, gpus=0, engine=Engine.PROCESS, terms=alone.policy.terms
    )
    alone.bucket.put(work_key(box, later), encode(order))
    if result:
        done = Result("run-1", attempt, 0, "p", Outcome.SUCCEEDED, Step.COMMAND, 0, "exited with 0", alone.clock.now())
        alone.bucket.put(result_key(box, later), encode(done))


def test_the_mailboxes_of_machines_that_this_store_knows_are_left_alone(alone: Alone) -> None:
    """Their runs are live: emptying their mailboxes would lose results and logs."""
    alone.launched()
    alone.known("i-1")
    leave(alone, "A:i-1")
    before = {key for key in alone.bucket.objects if key.startswith("machines/")}
    assert Takeover(alone.installation, alone.sites).take() == []
    assert {key for key in alone.bucket.objects if key.startswith("machines/")} == before


def test_a_finished_mailbox_of_an_unknown_machine_is_archived_and_emptied(alone: Alone) -> None:
    """The run of the lost store is archived with log and result."""
    leave(alone, "A:i-9")
    (line,) = Takeover(alone.installation, alone.sites).take()
    assert "i-9" in line
    assert archive.kept_result_key("run-1", 1, 0) in alone.bucket.objects
    assert not [key for key in alone.bucket.objects if key.startswith("machines/")]


def test_a_mailbox_whose_machine_is_still_at_work_is_archived_once_it_has_finished(alone: Alone) -> None:
    """Nothing is removed from the mailbox of a working machine."""
    leave(alone, "A:i-9", result=False)
    takeover = Takeover(alone.installation, alone.sites)
    takeover.take()
    assert work_key("A:i-9") in alone.bucket.objects
    takeover.sweep()
    assert work_key("A:i-9") in alone.bucket.objects
    leave(alone, "A:i-9")
    takeover.sweep()
    assert archive.kept_result_key("run-1", 1, 0) in alone.bucket.objects
    assert work_key("A:i-9") not in alone.bucket.objects


def test_logs_of_all_attempts_on_an_unknown_machine_are_archived(alone: Alone) -> None:
    """The machine worked for two attempts. While it still executes the second one, nothing is deleted."""
    leave(alone, "A:i-9")
    leave(alone, "A:i-9", 2, result=False)
    alone.bucket.put(chunk_key("A:i-9", "output", 0), b"first")
    alone.bucket.put(chunk_key("A:i-9", "output", 0, 2), b"second")
    takeover = Takeover(alone.installation, alone.sites)
    (line,) = takeover.take()
    assert "no result yet" in line
    assert chunk_key("A:i-9", "output", 0) in alone.bucket.objects
    leave(alone, "A:i-9", 2)
    takeover.sweep()
    logs = [alone.bucket.objects[archive.kept_chunk_key("run-1", attempt, 0, "output", 0)][0] for attempt in (1, 2)]
    assert logs == [b"first", b"second"]
    assert not [key for key in alone.bucket.objects if key.startswith("machines/")]


def test_a_long_log_of_an_unknown_machine_is_archived_in_several_sweeps(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of its mailbox is deleted before the whole log is archived."""
    monkeypatch.setattr("provisioner.service.control_loop.takeover.STEPS", 5)
    leave(alone, "A:i-9")
    chunks = [chunk_key("A:i-9", "output", number * 5) for number in range(300)]
    for key in chunks:
        alone.bucket.put(key, b"xxxxx")
    takeover, copied = Takeover(alone.installation, alone.sites), 0
    (line,) = takeover.take()
    assert "its log is being copied" in line
    while archive.manifest_key("run-1", 1, 0) not in alone.bucket.objects:
        before, copied = copied, sum(key.startswith("runs/run-1/1/0/log/") for key in alone.bucket.objects)
        assert copied > before
        assert set(chunks) <= alone.bucket.objects.keys()
        takeover.sweep()
    assert sum(key.startswith("runs/run-1/1/0/log/") for key in alone.bucket.objects) == 300
    assert not [key for key in alone.bucket.objects if key.startswith("machines/")]


def test_the_store_that_had_the_bucket_may_not_act_after_a_takeover(alone: Alone) -> None:
    """Two stores on one bucket would end each other's machines."""
    other = Alone()
    other.store.store_id = "f" * 32
    other.bucket.objects = alone.bucket.objects
    claim(alone.installation)
    with pytest.raises(WrongStore):
        claim(other.installation)
    Takeover(other.installation, other.sites).take()
    claim(other.installation)
    with pytest.raises(WrongStore):
        claim(alone.installation)


def test_the_holder_of_the_lease_stops_when_another_store_takes_the_bucket_over(alone: Alone) -> None:
    """The holder stops within half a minute, although the lease in its own store does not expire."""
    loop = Loop(alone.installation, Reconciler(alone.installation, alone.sites), "first", "daemon", Intervals())
    alone.store.release(alone.lease)
    assert loop.acquire()
    other = Alone()
    other.store.store_id = "f" * 32
    other.bucket.objects = alone.bucket.objects
    Takeover(other.installation, other.sites).take()
    alone.clock.step(Intervals().owner)
    with pytest.raises(WrongStore):
        loop.acquire()
    assert not loop.acting


def test_an_unfinished_list_of_a_restored_store_is_stopped(alone: Alone) -> None:
    """The restored store would hand commands out that have run since: the run ends as lost."""
    runs = [samples.run("list", commands=3), samples.run("single"), samples.run("ended", commands=3, ended_at=1.0)]
    alone.store.save(runs)
    Takeover(alone.installation, alone.sites).take()
    stops = {run.id: run.stop for run in alone.live().runs}
    assert {id for id, stop in stops.items() if stop} == {"list"}
    assert stops["list"]
    assert stops["list"].outcome is Outcome.LOST
    assert "restored from a backup" in stops["list"].reason
