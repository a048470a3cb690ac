"""No placement group is leaked, and none that is needed is deleted."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.cloud.machines import MachineState
from provisioner.core.cloud.placement_groups import placement_group_of
from provisioner.core.cloud.tags import LAUNCH_TAG
from provisioner.core.errors import Misconfigured, Transient
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.placement_groups import LIST_AGAIN
from provisioner.core.run.records import Run
from provisioner.core.run.states import State, Waiting
from provisioner.rehearsal.ec2.conditions import Capacity, Conditions
from provisioner.rehearsal.ec2.instance import FleetAnswer, FleetRequest
from provisioner.service.collectors.placement_groups import AGAIN, GroupCollector, expect
from provisioner.service.control_loop.launches import REPLAY
from provisioner.service.control_loop.takeover import Takeover
from tests.service.agents import Script
from tests.service.alone import Alone
from tests.service.trouble import Crash
from tests.service.world import World


def gang(world: World, **spec: Any) -> Run:
    placement = {"group": "cluster", **spec.pop("placement", {})}
    return world.start(scale=2, placement=placement, **spec)


def groups(world: World) -> list[str]:
    return [group.name for group in world.model.groups.shown()]


def calls(world: World, method: str) -> int:
    return sum(call.method == method for call in world.calls)


# Whole runs


def test_group_of_a_run_lives_as_long_as_its_machines() -> None:
    """While the run works, no call is made for its group. Later, one listing finds it, and the next one lacks it."""
    world = World(scripts=lambda _: Script(command=900))
    run = gang(world)
    _, service = world.incarnate()
    service.operator.step()
    [launch] = {one.tags[LAUNCH_TAG] for one in world.model.alive(world.now())}
    assert groups(world) == [placement_group_of(launch)]
    assert {one.group for one in world.model.alive(world.now())} == {placement_group_of(launch)}
    service.operator.drive(lambda: world.now() > world.began + 600)
    assert world.runs.record(run.id).state is State.RUNNING
    assert calls(world, "placement_groups") == 0
    service.operator.drive(lambda: world.runs.record(run.id).done_at is not None)
    assert groups(world) == []
    world.run()
    world.check()
    assert (calls(world, "placement_groups"), calls(world, "delete_placement_group")) == (2, 1)


def test_installation_without_groups_makes_no_call_for_them() -> None:
    """An older policy of the control plane does not allow the calls."""
    world = World()
    world.start(scale=2)
    world.run()
    world.check()
    assert not [call.method for call in world.calls if "placement_group" in call.method]


def test_group_of_a_launch_without_machines_is_deleted() -> None:
    """The next launch makes its own. A run that waits for days must not use up the limit of 500 groups."""
    world = World(Conditions(capacity=(Capacity(1), Capacity(None, at=5000.0))))
    run = gang(world)
    _, service = world.incarnate()
    most = 0
    while world.runs.record(run.id).attempt == 0:
        service.operator.step()
        most = max(most, len(groups(world)))
        world.advance(10)
    assert calls(world, "launch") > 5
    assert most <= 3
    world.run()
    world.check()
    assert groups(world) == []


def test_group_of_a_refused_launch_is_deleted() -> None:
    world = World()
    world.cloud.types = {name: replace(kind, cluster=True) for name, kind in world.cloud.types.items()}
    run = gang(world, instance_type="t3.small", placement={"gpu": "none"})
    world.run()
    verdict = world.runs.record(run.id).verdict
    assert verdict
    assert verdict.outcome is Outcome.REFUSED
    assert "Cluster placement groups are not supported by the 't3.small' instance type" in verdict.reason
    assert groups(world) == []


def test_run_waits_for_the_limit_of_groups() -> None:
    """It is the account's limit, so the run waits and shows what to do."""
    world = World(Conditions(placement_groups=0))
    run = gang(world)
    _, service = world.incarnate()
    service.operator.step()
    waiting = world.runs.record(run.id)
    assert waiting.waiting is Waiting.QUOTA
    assert "delete placement groups that have no machines" in waiting.waiting_for


@pytest.mark.parametrize("downtime", [1.0, REPLAY + 1])
def test_crash_between_the_group_and_its_machines_leaks_no_group(downtime: float) -> None:
    """The launch is repeated, with the same group, or given up; then the next launch makes a group of its own."""
    world = World()
    run = gang(world)
    create, crashes = world.model.create_fleet, [1]

    def dying(request: FleetRequest, now: float) -> FleetAnswer:
        if crashes:
            crashes.pop()
            assert len(groups(world)) == 1
            raise Crash
        return create(request, now)

    world.model.create_fleet = dying  # type: ignore[method-assign]
    world.run(lambda: downtime)
    world.check()
    assert not crashes
    done = world.runs.record(run.id)
    assert done.verdict
    assert (done.verdict.outcome, done.attempt) == (Outcome.SUCCEEDED, 1)
    assert groups(world) == []
    assert len({one.tags[LAUNCH_TAG] for one in world.model.every()}) == 1


# The collector alone


@pytest.fixture
def alone() -> Alone:
    return Alone()


def made(alone: Alone, *launches: str) -> None:
    for launch in launches:
        alone.cloud.model.groups.create(placement_group_of(launch), {LAUNCH_TAG: launch}, alone.clock.now())


def left(alone: Alone) -> list[str]:
    return [group.tags[LAUNCH_TAG] for group in alone.cloud.model.groups.shown()]


def expected(alone: Alone, *ids: str, closed: bool = True) -> None:
    for id in ids:
        launch = alone.launched(id, closed=closed)
        expect(alone.installation, [replace(launch, request=replace(launch.request, placement_group=f"group of {id}"))])


def collect(alone: Alone, collector: GroupCollector | None = None, foreign: Sequence[str] = ()) -> None:
    machines = [alone.shown(f"i-{launch}", launch) for launch in foreign]
    (collector or GroupCollector(alone.installation)).collect(alone.live, machines)


def test_needed_groups_are_kept(alone: Alone) -> None:
    """The listing may show groups of launches that the store does not have."""
    made(alone, "open", "alive", "ended", "foreign", "lost")
    expected(alone, "open", closed=False)
    expected(alone, "alive", "ended")
    alone.known("i-1", "alive", state=MachineState.SHUTTING_DOWN)
    alone.known("i-2", "ended", ended_at=alone.clock.now())
    collect(alone, foreign=["foreign"])
    assert left(alone) == ["open", "alive", "foreign"]


def test_one_group_that_cannot_be_deleted_does_not_keep_the_others(alone: Alone) -> None:
    """The error is reported, and the group is tried again a minute later."""
    expected(alone, "a", "b")
    made(alone, "a", "b")
    collector, delete = GroupCollector(alone.installation), alone.cloud.delete_placement_group
    failing = [placement_group_of("a")]

    def once(name: str) -> bool:
        if name in failing:
            failing.remove(name)
            raise Transient("try again")
        return delete(name)

    alone.cloud.delete_placement_group = once  # type: ignore[method-assign]
    with pytest.raises(Transient):
        collect(alone, collector)
    assert left(alone) == ["a"]
    collect(alone, collector)
    assert left(alone) == ["a"]
    alone.clock.step(AGAIN)
    collect(alone, collector)
    assert left(alone) == []


def test_group_that_is_still_in_use_is_tried_again_a_minute_later(alone: Alone) -> None:
    """EC2 may count a machine for some time after a listing shows its end."""
    expected(alone, "a")
    made(alone, "a")
    collector, delete, tries = GroupCollector(alone.installation), alone.cloud.delete_placement_group, list[str]()

    def in_use(name: str) -> bool:
        tries.append(name)
        return delete(name) if len(tries) > 1 else False

    alone.cloud.delete_placement_group = in_use  # type: ignore[method-assign]
    for _ in range(3):
        collect(alone, collector)
    assert (left(alone), len(tries)) == (["a"], 1)
    alone.clock.step(AGAIN)
    for _ in range(3):
        collect(alone, collector)
    assert (left(alone), len(tries)) == ([], 2)


def test_group_that_a_late_process_made_is_found_within_a_day(alone: Alone) -> None:
    """A process may hang before its call, while another one closes the launch and deletes the group."""
    collector = GroupCollector(alone.installation)
    expected(alone, "a")
    collect(alone, collector)
    made(alone, "a")
    alone.clock.step(LIST_AGAIN - 1)
    collect(alone, collector)
    assert left(alone) == ["a"]
    alone.clock.step(1)
    collect(alone, collector)
    assert left(alone) == []


def test_launch_is_noted_before_it_is_stored() -> None:
    """A process may be killed between the two steps, and another process then makes the stored launch."""
    world = World()
    gang(world)
    _, service = world.incarnate()
    service.operator.step()
    steps = [call for call in world.calls if call.port == "store" and call.method in ("remember", "save")]
    noted = next(call.number for call in steps if call.about == "placement groups")
    assert noted < next(call.number for call in steps if "Launch" in call.about)


def test_groups_of_a_lost_store_are_found_after_a_takeover(alone: Alone) -> None:
    """Groups of machines that still work are kept until the machines have ended."""
    made(alone, "lost", "foreign")
    collect(alone)
    assert left(alone) == ["lost", "foreign"]
    Takeover(alone.installation, alone.sites).take()
    collect(alone, foreign=["foreign"])
    assert left(alone) == ["foreign"]
    collect(alone)
    assert left(alone) == []


def test_takeover_needs_no_right_for_groups_that_were_never_made(alone: Alone) -> None:
    """With the policy of an earlier version, the listing is denied. It is tried once, and reported for known groups."""
    denied = Misconfigured("DescribePlacementGroups is denied", "UnauthorizedOperation")
    Takeover(alone.installation, alone.sites).take()
    alone.cloud.fail_next.append(denied)
    collect(alone)
    collect(alone)
    assert alone.cloud.fail_next == []
    expected(alone, "a")
    alone.cloud.fail_next.append(denied)
    with pytest.raises(Misconfigured):
        collect(alone)
