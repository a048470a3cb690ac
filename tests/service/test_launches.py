"""From queued runs to bound machines: limits, lost answers, spare machines."""

from dataclasses import replace

import pytest

from provisioner.core.cloud.launches import LaunchAnswer, LaunchRequest
from provisioner.core.errors import Conflict, NoAnswer
from provisioner.core.run.records import Run
from provisioner.core.run.states import State, Waiting
from provisioner.service.control_loop.launches import LIST_AGAIN, REPLAY
from tests.service.alone import Alone
from tests.service.world import World


@pytest.fixture
def world() -> World:
    return World()


def alive(world: World) -> int:
    return len(world.model.alive(world.now()))


def states(world: World) -> list[State]:
    return sorted(run.state for run in world.store.live().runs)


# max_machines


def test_the_machine_limit_counts_groups_that_are_launched_in_one_pass() -> None:
    """Two jobs make two launches, which together must stay within the limit."""
    world = World(max_machines=3)
    for name in ("one", "two"):
        for _ in range(2):
            world.start(name)
    _, service = world.incarnate()
    service.operator.step()
    assert alive(world) == 3
    assert [run.waiting for run in world.store.live().runs if run.state is State.QUEUED] == [Waiting.LIMIT]


def test_the_machine_limit_counts_owners_with_profiles_of_their_own() -> None:
    """Instance profiles are planned separately, but the limit is the installation's."""
    world = World(max_machines=3)
    for owner in ("tester", "rich"):
        for _ in range(2):
            world.start(owner=owner)
    _, service = world.incarnate()
    service.operator.step()
    assert alive(world) == 3


def test_the_machine_limit_counts_launches_without_an_answer() -> None:
    """The machines of such a launch may exist already: a lost answer must not double the cost."""
    world = World(max_machines=2)
    for _ in range(2):
        world.start("one")
    world.cloud.lose_answer_of.append("launch")
    _, service = world.incarnate()
    service.operator.step()
    world.cloud.lose_answer_of += ["launch"] * 3
    world.start("two")
    service.operator.step()
    assert alive(world) == 2


def test_the_machine_limit_counts_machines_that_are_not_yet_gone() -> None:
    """An ending machine is billed until it has ended."""
    world = World(max_machines=1)
    first = world.start()
    _, service = world.incarnate()
    service.operator.step()
    world.runs.stop(first.id)
    world.start()
    service.operator.step()
    assert alive(world) == 1
    world.run()
    world.check()
    assert len(world.agents) == 2


# Answers that come late or never


def test_a_run_that_is_stopped_before_its_work_order_is_put_gets_none(world: World) -> None:
    """The command must not begin after the user has seen the run as cancelled."""
    run = world.start()
    puts: list[str] = []
    real = world.bucket.put

    def put(key: str, data: bytes, *, if_absent: bool = False) -> bool:
        if key.endswith("/work"):
            puts.append(key)
        return real(key, data, if_absent=if_absent)

    world.bucket.put = put  # type: ignore[method-assign]
    world.cloud.lose_answer_of.append("launch")
    _, service = world.incarnate()
    service.operator.step()
    world.runs.stop(run.id)
    world.run()
    world.check()
    assert puts == []


class Mute(Alone):
    """A cloud whose launches get no answer; the test lists their machines."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[LaunchRequest] = []
        self.raises: Exception = NoAnswer("lost")

        def launch(request: LaunchRequest) -> LaunchAnswer:
            self.requests.append(request)
            raise self.raises

        self.cloud.launch = launch  # type: ignore[method-assign]


@pytest.fixture
def mute() -> Mute:
    return Mute()


def launching(mute: Mute) -> Run:
    """Store a run whose launch has no answer yet; return it."""
    run = Run("run-1", "j", "job", 1, "tester", "{}", mute.clock.now(), State.LAUNCHING, launch="launch-1")
    (stored,) = mute.store.save([run])
    mute.launched(runs=(run.id,), closed=False)
    return stored


def test_an_unanswered_launch_is_replayed_with_the_very_same_request(mute: Mute) -> None:
    """Another token or other parameters would launch a second machine."""
    launching(mute)
    for _ in range(3):
        mute.perform()
        mute.clock.step(REPLAY / 4)
    (launch,) = mute.live().launches
    assert mute.requests == [launch.request] * 3


def test_a_launch_that_another_process_has_closed_is_not_made(mute: Mute) -> None:
    """A process that hung before its call would launch a machine that no run needs."""
    launching(mute)
    (read_before,) = mute.live().launches
    mute.store.save([replace(read_before, closed_at=mute.clock.now())])
    assert mute.launches.perform(read_before, mute.epoch, again=True) == []
    assert mute.requests == []


def test_after_ten_minutes_a_launch_is_looked_up_by_its_tag_and_adopted(mute: Mute) -> None:
    """The machine was launched; only the answer is lost."""
    launching(mute)
    mute.clock.step(REPLAY + 1)
    mute.shown()
    mute.perform()
    assert mute.requests == []
    (node,) = mute.store.nodes("run-1")
    assert node.instance_id == "i-1"
    assert mute.live().launches == ()


def test_machines_that_no_run_waits_for_are_ended(mute: Mute) -> None:
    """There are more machines than waiting runs; no run holds the spare one, so the launch must end it."""
    launching(mute)
    mute.clock.step(REPLAY + 1)
    mute.shown("i-1")
    mute.shown("i-2")
    mute.perform()
    assert [node.instance_id for node in mute.store.nodes("run-1")] == ["i-1"]
    wanted = {machine.id: machine.end_wanted_at for machine in mute.live().machines}
    assert wanted == {"i-1": None, "i-2": mute.clock.now()}


def test_a_run_that_has_its_machine_gets_no_second_one(mute: Mute) -> None:
    """The late lookup finds the run at work, so the machine it finds is spare."""
    run = launching(mute)
    mute.store.save([replace(run, state=State.RUNNING, attempt=1)])
    mute.clock.step(REPLAY + 1)
    mute.shown()
    mute.perform()
    assert mute.machine().end_wanted_at is not None
    assert mute.live().runs[0].attempt == 1


def test_a_spent_token_is_looked_up_by_its_tag(mute: Mute) -> None:
    """IdempotentParameterMismatch means that the token was used, so a replay cannot help."""
    launching(mute)
    mute.raises = Conflict("IdempotentParameterMismatch")
    mute.shown()
    mute.perform()
    assert [node.instance_id for node in mute.store.nodes("run-1")] == ["i-1"]


def test_one_listing_without_the_machines_does_not_close_a_launch(mute: Mute) -> None:
    """Listings lag: closing at once would launch again while the first machine still boots."""
    launching(mute)
    mute.clock.step(REPLAY + 1)
    mute.perform()
    mute.clock.step(LIST_AGAIN - 1)
    mute.perform()
    assert len(mute.live().launches) == 1
    mute.clock.step(1)
    mute.shown()
    mute.perform()
    assert [node.instance_id for node in mute.store.nodes("run-1")] == ["i-1"]


def test_machines_that_a_listing_does_not_show_yet_are_waited_for(mute: Mute) -> None:
    """A listing may show only some of the machines: closing at once would terminate or forget the others."""
    now = mute.clock.now()
    for id in ("run-1", "run-2"):
        mute.store.save([Run(id, "j", "job", 1, "tester", "{}", now, State.LAUNCHING, launch="launch-1")])
    mute.launched(runs=("run-1", "run-2"), closed=False, count=2)
    mute.clock.step(REPLAY + 1)
    mute.shown("i-1")
    mute.perform()
    assert len(mute.live().launches) == 1
    mute.clock.step(LIST_AGAIN)
    mute.shown("i-2")
    mute.perform()
    assert mute.live().launches == ()
    assert {node.instance_id for node in mute.store.nodes("run-1", "run-2")} == {"i-1", "i-2"}


def test_two_listings_without_the_machines_close_the_launch_and_the_run_waits(mute: Mute) -> None:
    """Nothing was launched, so the run retries with a new token. No lack of capacity is recorded: EC2 reported none."""
    launching(mute)
    mute.clock.step(REPLAY + 1)
    mute.perform()
    mute.clock.step(LIST_AGAIN)
    mute.perform()
    assert mute.live().launches == ()
    (run,) = mute.live().runs
    assert (run.state, run.waiting) == (State.QUEUED, Waiting.THROTTLE)
