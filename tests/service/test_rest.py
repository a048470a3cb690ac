"""Records stored just before the loop pauses must not wait for the next interval."""

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

#: Longer than the interval between busy passes, and far shorter than the idle interval.
SOON = 15.0


class Enough(BaseException):
    """Raised to end a test that has seen enough."""


class Late(MemoryStore):
    """A store that runs an action right after its n-th read of the live records."""

    def __init__(self) -> None:
        super().__init__(CountingIds())
        self.looks = 0
        self.behind: dict[int, Callable[[], object]] = {}

    def live(self) -> Live:
        found = super().live()
        self.looks += 1
        self.behind.pop(self.looks, lambda: None)()
        return found


def test_run_stored_after_a_pass_is_launched_soon() -> None:
    """A trigger may come between a pass's last read and the pause."""
    world = World()
    _, service = world.incarnate()
    began: list[float] = []

    def told(_: object) -> None:
        if not began:
            began.append(world.now())
            world.start()

    service.operator.drive(lambda: bool(world.agents) or world.now() > world.began + 300, told)
    assert world.now() - began[0] < SOON


def test_run_stored_after_a_followers_pass_is_launched_soon() -> None:
    """Without a daemon, a process that follows a log runs passes between its reads."""

    def followed(late: int | None) -> tuple[World, list[int]]:
        """Return a world with a waiting run, and the reads by each pause. Another run is stored after read `late`."""
        store, looks = Late(), list[int]()
        world = World(Conditions(capacity=(Capacity(0, Where(type="g6.xlarge")),)), store=store)
        waiting = world.start("waiting", instance_type="g6.xlarge")
        if late:
            store.behind[late] = world.start

        def looked(_: object) -> None:
            looks.append(store.looks)
            # The follower's next renewal would end any pause.
            if world.now() > world.began + 3:
                raise Enough

        _, service = world.incarnate()
        with pytest.raises(Enough):
            list(service.logs.follow(waiting.id, LogQuery(("output",)), looked))
        return world, looks

    _, looks = followed(None)
    world, _ = followed(looks[0])
    assert world.agents


def test_stop_stored_after_a_pass_takes_effect_soon() -> None:
    """A waiting run ends soon, not at its next try."""
    looked: list[float] = []

    def stopping(call: Call) -> Fate:
        # The first passes follow each other while the run tries the remaining offers.
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


def test_schedule_stored_after_crons_read_starts_on_time() -> None:
    """With cron only, another schedule may come between the read and the pause."""
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
