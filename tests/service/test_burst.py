"""Runs that are triggered faster than passes run."""

import pytest

from provisioner.core.errors import NoAnswer
from provisioner.core.run.states import State, Waiting
from provisioner.ports.store import RunFilter
from tests.service.trouble import Call, Fate
from tests.service.world import World


def bursting(runs: int) -> tuple[World, list[float]]:
    """Return a world with a new run every 0.05 s, in which a launch takes 0.3 s, and the times of its launches."""

    def slow(call: Call) -> Fate:
        if (call.port, call.method) == ("cloud", "launch"):
            launched_at.append(call.at - world.began)
            world.advance(0.3)
        return Fate.NONE

    launched_at: list[float] = []
    world = World(fates=slow, busy=10.0)
    world.start()
    for number in range(1, runs):
        world.plan(number * 0.05, world.start)
    return world, launched_at


def test_a_burst_of_runs_is_two_launches_and_waits_for_no_interval() -> None:
    """The first run is launched at once, the others together right after the burst."""
    world, launched_at = bursting(30)
    _, service = world.incarnate()
    service.operator.drive(lambda: world.now() > world.began + 5)
    first, second = launched_at
    assert first == 0.0
    assert 1.45 <= second < 2.0
    assert {run.state for run in world.store.runs(RunFilter(limit=100))} == {State.BOOTING}


def test_a_burst_without_an_end_is_launched_all_the_same() -> None:
    """No run waits longer than a few seconds for the end of the burst."""
    world, launched_at = bursting(400)
    _, service = world.incarnate()
    service.operator.drive(lambda: world.now() > world.began + 15)
    waiting = [run for run in world.store.runs(RunFilter(limit=500)) if run.state is State.QUEUED]
    assert all(world.now() - run.created_at < 3.0 for run in waiting)
    assert 3 < len(launched_at) < 10


def test_one_run_that_a_pass_missed_is_no_burst() -> None:
    """The run waits only for the pass that missed it."""
    world, launched_at = bursting(1)
    world.plan(0.1, world.start)
    _, service = world.incarnate()
    service.operator.drive(lambda: world.now() > world.began + 5)
    assert launched_at == pytest.approx([0.0, 0.3], abs=0.05)


def test_launch_whose_answer_cannot_be_read_is_no_lack_of_capacity(monkeypatch: pytest.MonkeyPatch) -> None:
    """The launch is replayed, then looked up; the run waits with another cause, and no offer becomes dry."""
    world = World(busy=10.0)
    run = world.start()

    def unread(_: object) -> None:
        raise NoAnswer("empty")

    monkeypatch.setattr(world.cloud, "launch", unread)
    _, service = world.incarnate()
    service.operator.drive(
        lambda: bool((found := world.store.run(run.id)) and found.tried) or world.now() > world.began + 1000
    )
    found = world.store.run(run.id)
    assert found
    assert found.waiting is Waiting.THROTTLE
    assert [each.code for each in found.tried] == ["NoAnswer"]
    assert world.store.live().droughts == ()
