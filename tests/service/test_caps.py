"""Caps on cost, with the whole control plane: each kind below and above, starts at the edge, kills at every step."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from provisioner.core.cloud.caps.budget import DAY, Caps
from provisioner.core.cloud.machines import MachineState
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import KnownMachine, Launch, Run
from provisioner.core.run.states import State, Waiting
from provisioner.rehearsal.ec2.conditions import Conditions, Interruption, PriceRule, Where
from tests.service.agents import Script
from tests.service.trouble import At, Fate, Fates, calm
from tests.service.world import World

#: An hour of each machine costs a dollar.
DOLLAR = Conditions(prices=(PriceRule(1.0),))
#: The lifetime of the machine of a run with the limits of a world: boot, pull, setup, runtime, grace, logs.
LIFETIME = 3 * 300.0 + 1200.0 + 10.0 + 600.0
#: What such a machine may cost.
ONE = LIFETIME / 3600
#: What the machines of a gang of three may cost, which also wait for each other.
GANG = 3 * (LIFETIME + 600.0) / 3600


def world(
    most: float | None = None,
    *,
    conditions: Conditions = DOLLAR,
    unknown: bool = False,
    script: Script = Script(command=600.0),  # noqa: B008 - it is frozen
    fates: Fates = calm,
) -> World:
    return World(conditions, lambda _: script, fates, caps=Caps(most, unknown))


def step(world: World) -> None:
    _, service = world.incarnate()
    service.operator.step()


def alive(world: World) -> int:
    return len(world.model.alive(world.now()))


def waiting(world: World) -> list[Run]:
    return [run for run in world.store.live().runs if run.waiting]


def ended(world: World, run: Run) -> tuple[Outcome, str]:
    found = world.store.run(run.id)
    assert found
    assert found.verdict
    return found.verdict.outcome, found.verdict.reason


# One launch below each cap, and one above


@dataclass(frozen=True)
class Kind:
    """A cap, a recipe, and how many machines a pass launches for one run."""

    machines: int
    most: float | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)
    conditions: Conditions = DOLLAR
    unknown: bool = False
    #: A part of the reason, if no machine is launched.
    why: str = ""
    #: Whether the run waits, in place of being refused.
    waits: bool = True


ONE_PRICED = Conditions(prices=(PriceRule(1.0, Where(type="g6.xlarge")),))
SPOT = Conditions(prices=(PriceRule(1.0, Where("on-demand")), PriceRule(0.4, Where("spot"))))
SPOT_OR_LISTED = {"use_spot_instance": True, "placement": {"spot_fallback": True}}
KINDS = {
    "no cap": Kind(1),
    "below the day's cap": Kind(1, ONE + 0.001),
    "at the day's cap": Kind(1, ONE),
    "above the day's cap, on every day": Kind(0, ONE / 2 - 0.001, why="on every day", waits=False),
    "above the day's cap, until midnight": Kind(0, ONE - 0.001, why="it fits at 2027-01-15 23:"),
    "a gang below the day's cap": Kind(3, GANG, {"scale": 3}),
    "a gang above the day's cap": Kind(0, GANG - 0.001, {"scale": 3}, why="3 machines at $1.00 an hour may cost"),
    "a list below the day's cap begins with one machine": Kind(1, ONE, {"scale": 3, "command": ["a", "b"]}),
    "spot below the day's cap": Kind(1, 0.4 * ONE, {"use_spot_instance": True}, SPOT),
    "an unknown price": Kind(0, 100.0, conditions=Conditions(), why="the price of on-demand g5.xlarge is unknown"),
    "an unknown price that the settings allow": Kind(1, 100.0, conditions=Conditions(), unknown=True),
    "an unknown price without a cap": Kind(1, conditions=Conditions()),
    "below max_price": Kind(1, spec={"placement": {"max_price": "1.00"}}),
    "above max_price": Kind(
        0, spec={"placement": {"max_price": "0.99"}}, why="placement.max_price of $0.99 an hour excludes", waits=False
    ),
    "spot above max_price": Kind(
        0, None, {"use_spot_instance": True, "placement": {"max_price": "0.39"}}, SPOT, why="spot g5.xlarge"
    ),
    "only spot below max_price": Kind(1, None, {**SPOT_OR_LISTED, "placement": {"max_price": "0.5"}}, SPOT),
    "an unknown price with max_price": Kind(
        0, None, {"placement": {"max_price": "9"}}, Conditions(), why="placement.max_price needs it"
    ),
    "only another type below max_price": Kind(
        1, None, {"placement": {"max_price": "1", "instance_types": ["g6.xlarge"]}}, ONE_PRICED
    ),
    "limits.cost pays for the shortest run": Kind(1, spec={"limits": {"cost": "0.04"}}),
    "limits.cost pays for nothing": Kind(
        0,
        spec={"limits": {"cost": "0.03"}},
        why="limits.cost of $0.03 does not pay for 130 s of a machine",
        waits=False,
    ),
    "limits.cost with an unknown price": Kind(
        0, None, {"limits": {"cost": "5"}}, Conditions(), why="limits.cost needs it"
    ),
    "limits.cost with an unknown price that the settings allow": Kind(
        1, None, {"limits": {"cost": "5"}}, Conditions(), unknown=True
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_launch_within_every_cap_is_made_and_one_beyond_is_not(name: str) -> None:
    kind = KINDS[name]
    here = world(kind.most, conditions=kind.conditions, unknown=kind.unknown)
    run = here.start(**kind.spec)
    step(here)
    assert alive(here) == kind.machines
    stored = here.store.run(run.id)
    assert stored
    if kind.machines:
        assert stored.waiting is None
    elif kind.waits:
        assert (stored.state, stored.waiting) == (State.QUEUED, Waiting.LIMIT)
        assert kind.why in stored.waiting_for
        assert stored.next_try_at > here.now()
    else:
        outcome, reason = ended(here, run)
        assert outcome is Outcome.REFUSED
        assert kind.why in reason


# At the edge


@pytest.mark.parametrize("names", [("one", "one"), ("one", "two")])
@pytest.mark.parametrize("owners", [("tester", "tester"), ("tester", "rich")])
def test_of_two_starts_at_the_edge_only_one_gets_a_machine(names: tuple[str, str], owners: tuple[str, str]) -> None:
    """The runs of one job share a launch; other jobs and other profiles have launches of their own."""
    here = world(2 * ONE - 0.001)
    for name, owner in zip(names, owners, strict=True):
        here.start(name, owner=owner)
    step(here)
    assert alive(here) == 1
    (waits,) = waiting(here)
    assert waits.waiting is Waiting.LIMIT
    assert "may cost $0.7528 on 2027-01-15 UTC: with $0.00 spent and $0.7528 committed" in waits.waiting_for


@pytest.mark.parametrize(("most", "machines"), [(1.9, 1), (2.0, 2), (2.9, 2), (3.0, 3)])
def test_a_list_gets_as_many_further_machines_as_fit(most: float, machines: int) -> None:
    """Its machines work alone, so a part of them is worth its price."""
    slow = replace(Script(), commands=replace(Script().commands, seconds=120.0))
    here = world(most * ONE, script=slow)
    run = here.start(scale=3, command=[f"echo {number}" for number in range(30)])
    _, service = here.incarnate()
    most_alive = 0
    for _ in range(20):
        service.operator.step()
        here.advance(10.0)
        most_alive = max(most_alive, alive(here))
    assert most_alive == machines
    found = here.store.run(run.id)
    assert found
    assert found.joining
    assert found.joining.waiting is (None if machines == 3 else Waiting.LIMIT)


def test_a_run_is_launched_when_another_ends_before_its_lifetime() -> None:
    """The hours that a machine did not use are free again; the run waits a minute longer at most."""
    here = world(ONE + 0.2)
    first, second = here.start("one"), here.start("two")
    here.run()
    here.check()
    ends = {each.id: each for each in here.store.runs()}
    assert [ended(here, run)[0] for run in (first, second)] == [Outcome.SUCCEEDED] * 2
    assert 600.0 < ends[second.id].ended_at - here.began < 1500.0  # type: ignore[operator]


def test_machines_that_have_ended_count_until_midnight() -> None:
    """Each run uses a sixth of an hour: after two, the day has no room for a lifetime, although no machine is alive."""
    here = world(ONE + 0.2)
    here.advance(DAY - here.now() % DAY - 7200.0)
    runs = [here.start(f"job-{number}") for number in range(3)]
    here.run()
    here.check()
    assert {ended(here, run)[0] for run in runs} == {Outcome.SUCCEEDED}
    *_, last = sorted(one.launch_time % DAY for one in here.model.every())
    # Then the rest of the day has room for its own part of the lifetime.
    assert last > DAY - LIFETIME


def test_a_machine_that_runs_over_midnight_counts_on_both_days() -> None:
    """Its hours of today do not count against tomorrow."""
    here = world(ONE)
    here.advance(DAY - here.now() % DAY - 600.0)
    here.start("one")
    step(here)
    here.start("two")
    step(here)
    # Ten minutes of the first are today. Ten minutes of the second are, too, but tomorrow has no room for both.
    assert alive(here) == 1
    assert "on 2027-01-16 UTC" in waiting(here)[0].waiting_for


def test_a_launch_without_an_answer_counts() -> None:
    """Its machine may exist already."""
    here = world(2 * ONE - 0.001)
    here.start("one")
    here.cloud.lose_answer_of.append("launch")
    step(here)
    here.cloud.lose_answer_of += ["launch"] * 3
    here.start("two")
    step(here)
    assert alive(here) == 1
    assert [each.hourly_at_most for each in here.store.live().launches] == [1.0]


def test_the_launch_is_stored_with_what_it_counts_for() -> None:
    """A process that is killed before the call finds the commitment in the launch that it repeats."""
    here = world(ONE)
    saved: list[Any] = []
    real = here.store.save

    def save(records: Any, **options: Any) -> Any:
        saved.extend(records)
        return real(records, **options)

    here.store.save = save  # type: ignore[method-assign]
    here.start()
    step(here)
    first = next(each for each in saved if isinstance(each, Launch))
    assert (first.hourly_at_most, first.request.lifetime, first.closed_at) == (1.0, LIFETIME, None)
    # Before any listing has shown its tag.
    machine = next(each for each in saved if isinstance(each, KnownMachine))
    assert (machine.hourly_at_most, machine.lifetime) == (1.0, LIFETIME)


def _edge(fates: Fates = calm) -> World:
    here = world(2 * ONE - 0.001, script=Script(command=60.0), fates=fates)
    for name in ("one", "two"):
        here.start(name)
    return here


#: The calls that change something. A kill at a read is the same as one after the last change before it.
CHANGES = {("store", "save"), ("cloud", "launch"), ("cloud", "terminate"), ("bucket", "put")}


def _changes() -> list[int]:
    calm_world = _edge()
    calm_world.run()
    return [call.number for call in calm_world.calls if (call.port, call.method) in CHANGES]


@pytest.mark.parametrize("fate", [Fate.CRASH_BEFORE, Fate.CRASH_AFTER, Fate.HANG])
def test_killed_at_any_step_the_control_plane_stays_within_the_cap(fate: Fate) -> None:
    """The world's rules compare the cap with the machines that EC2 has, after each launch."""
    for number in _changes():
        here = _edge(At(fate, number))
        try:
            here.run()
            here.check()
        except BaseException as error:
            error.add_note(f"{fate} at call {number}: {here.calls[number]}")
            raise
        assert [ended(here, run)[0] for run in here.store.runs()] == [Outcome.SUCCEEDED] * 2


def test_a_restarted_control_plane_counts_the_machines_of_the_one_before() -> None:
    here = world(2 * ONE - 0.001)
    here.start("one")
    step(here)
    here.start("two")
    step(here)
    assert alive(here) == 1


# limits.cost


def test_a_run_is_stopped_before_it_costs_more_than_limits_cost() -> None:
    """It has its grace: the job gets SIGTERM, and its end is reported."""
    here = world(script=Script(command=5000.0))
    run = here.start(limits={"cost": "0.25", "runtime": "20m"})
    here.run()
    here.check()
    outcome, reason = ended(here, run)
    assert outcome is Outcome.TIMED_OUT
    assert reason.startswith("limits.cost of $0.25 is used up: its machines cost $0.2")
    receipt = here.runs.receipt(run.id)
    assert receipt.dollars_at_most is not None
    assert 0.2 < receipt.dollars_at_most <= 0.25
    assert receipt.cost_limit == 0.25
    told = [each.text for each in here.store.events(run.id) if each.text.startswith("stop requested: limits.cost")]
    assert len(told) == 1


@pytest.mark.parametrize("spec", [{"scale": 3}, {"scale": 3, "command": ["a", "b", "c"], "nprocs": 1}])
def test_all_machines_of_a_run_count_for_limits_cost(spec: dict[str, Any]) -> None:
    slow = replace(Script(), commands=replace(Script().commands, seconds=5000.0), command=5000.0)
    here = world(script=slow)
    run = here.start(limits={"cost": "0.3", "runtime": "20m"}, **spec)
    here.run()
    here.check()
    outcome, reason = ended(here, run)
    assert outcome is Outcome.TIMED_OUT
    assert "limits.cost of $0.30 is used up" in reason
    assert (here.runs.receipt(run.id).dollars_at_most or 9.0) <= 0.3


def test_a_run_that_ends_below_limits_cost_is_not_stopped() -> None:
    here = world(script=Script(command=600.0))
    run = here.start(limits={"cost": "0.5"})
    here.run()
    here.check()
    assert ended(here, run)[0] is Outcome.SUCCEEDED


def test_earlier_attempts_count_for_limits_cost() -> None:
    """Interruptions use up no retries, but they cost money."""
    conditions = Conditions(prices=(PriceRule(1.0),), interruptions=(Interruption(300.0, 120.0, times=9),))
    here = world(conditions=conditions, script=Script(command=1100.0))
    run = here.start(use_spot_instance=True, limits={"cost": "0.3", "runtime": "20m"})
    here.run()
    here.check()
    outcome, _ = ended(here, run)
    assert outcome is Outcome.TIMED_OUT
    found = here.store.run(run.id)
    assert found
    assert found.attempt > 1
    assert (here.runs.receipt(run.id).dollars_at_most or 9.0) <= 0.3


def test_a_machine_ends_itself_at_limits_cost_while_the_control_plane_is_away() -> None:
    """Its fuse leaves ten minutes to ship the log, so a control plane that works comes first."""
    here = world(script=Script(command=50_000.0))
    run = here.start(limits={"cost": "0.25", "runtime": "20h"})
    step(here)
    here.advance(20_000.0)
    (machine,) = here.model.every()
    assert machine.state is MachineState.TERMINATED
    assert 900.0 < machine.history[-1].at - machine.launch_time <= 900.0 + 600.0 + 60.0
    here.run()
    assert ended(here, run)[0] is Outcome.TIMED_OUT
    assert len(here.model.every()) == 1


def test_a_user_may_stop_a_run_that_has_a_limit() -> None:
    here = world()
    run = here.start(limits={"cost": "0.5"})
    step(here)
    here.runs.stop(run.id)
    here.run()
    assert ended(here, run)[0] is Outcome.CANCELLED


# What status, receipts and events show


def test_the_overview_shows_the_day() -> None:
    here = world(5.0)
    here.start()
    step(here)
    here.advance(360.0)
    found = here.runs.overview(9).budget
    assert found
    assert (found.date, found.most) == ("2027-01-15", 5.0)
    assert (round(found.spent, 2), round(found.spent + found.committed, 4)) == (0.1, round(ONE, 4))


def test_the_overview_of_an_installation_without_a_cap_shows_no_day() -> None:
    here = world()
    assert here.runs.overview(9).budget is None
