"""What is stored just before the loop rests: however late, it does not wait for the next interval."""

from collections.abc import Callable

import pytest

from provisioner.core.run.records import Live
from provisioner.ports.control.logs import LogQuery
from provisioner.rehearsal.ec2.conditions import Capacity, Conditions, Where
from provisioner.rehearsal.fakes.clock import CountingIds
from tests.service.memory_store import MemoryStore
from tests.service.trouble import Call, Fate
from tests.service.world import World
from tests.support.schedules import apply, runs, until

#: Longer than passes are apart while something is alive, and far shorter than the idle interval.
SOON = 15.0


class Enough(BaseException):
    """Nothing more is to be seen."""


class Late(MemoryStore):
    """Lets something be stored right behind one of its looks."""

    def __init__(self) -> None:
        super().__init__(CountingIds())
        self.looks = 0
        self.behind: dict[int, Callable[[], object]] = {}

    def live(self) -> Live:
        found = super().live()
        self.looks += 1
        self.behind.pop(self.looks, lambda: None)()
        return found


def test_a_run_that_is_stored_behind_a_pass() -> None:
    """Between its last look and the rest is time for a trigger."""
    world = World()
    _, service = world.incarnate()
    began: list[float] = []

    def told(_: object) -> None:
        if not began:
            began.append(world.now())
            world.start()

    service.operator.drive(lambda: bool(world.agents) or world.now() > world.began + 300, told)
    assert world.now() - began[0] < SOON


def test_a_run_that_is_stored_behind_the_pass_of_a_follower() -> None:
    """Who follows a log acts between its looks where no daemon does."""

    def followed(late: int | None) -> tuple[World, list[int]]:
        """A world in which one run waits, and another is stored behind that look; looks made by each pause."""
        store, looks = Late(), list[int]()
        world = World(Conditions(capacity=(Capacity(0, Where(type="g6.xlarge")),)), store=store)
        waiting = world.start("waiting", instance_type="g6.xlarge")
        if late:
            store.behind[late] = world.start

        def looked(_: object) -> None:
            looks.append(store.looks)
            # The next note of who follows would end any rest.
            if world.now() > world.began + 3:
                raise Enough

        _, service = world.incarnate()
        with pytest.raises(Enough):
            list(service.logs.follow(waiting.id, LogQuery(("output",)), looked))
        return world, looks

    _, looks = followed(None)
    world, _ = followed(looks[0])
    assert world.agents


def test_a_stop_that_comes_behind_the_look_that_would_act_on_it() -> None:
    """A run that waits for a machine is over soon, not when its next try is due."""
    looked: list[float] = []

    def stopping(call: Call) -> Fate:
        # The first passes follow each other, while the run tries what is left to try.
        if call.method == "machines" and call.at > world.began + 30:
            looked.append(call.at)
        elif call.method == "changes" and len(looked) == 1:
            looked.append(call.at)
            world.runs.stop(run.id)
        return Fate.NONE

    world = World(Conditions(capacity=(Capacity(0),)), fates=stopping)
    run = world.start()
    _, service = world.incarnate()
    service.operator.drive(lambda: not world.store.live().runs or world.now() > world.began + 300)
    assert world.now() - looked[0] < SOON


def test_a_schedule_that_comes_behind_the_alarm() -> None:
    """Cron alone: between its look at the schedules and its rest is time for another one."""
    looked: list[Call] = []

    def scheduling(call: Call) -> Fate:
        if call.method == "scheduled":
            looked.append(call)
        elif call.method == "changes" and len(looked) == 1:
            looked.append(call)
            apply(world, schedule="* * * * *")
        return Fate.NONE

    world = World(fates=scheduling)
    world.advance(30.0)
    _, service = world.incarnate()
    service.operator.ring(until(world, 80.0))
    assert [run.created_at - world.began for run in runs(world)] == [60.0]
