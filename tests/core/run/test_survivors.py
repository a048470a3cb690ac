"""Machines that wait for the next attempt of their run: which are kept, for how long, and how they are used again."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.cloud.launches import LaunchRequest
from provisioner.core.cloud.machines import MachineState
from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.cloud.tags import LIFETIME_TAG
from provisioner.core.protocol.messages import Notice, Report, Span, Stop, WorkOrder
from provisioner.core.protocol.words import Engine, Outcome, Step
from provisioner.core.recipe.defaults import RecipeDefaults
from provisioner.core.recipe.recipe import MACHINE_LIFETIMES, Recipe
from provisioner.core.run.launch_answers import Found, adopted, answered
from provisioner.core.run.launching import LaunchPlan, plan_launches
from provisioner.core.run.plan import Plan
from provisioner.core.run.progress import advance, counts_against_template, orders, orders_digest, wanted_end
from provisioner.core.run.records import Assignment, KnownMachine, Launch, Live, Node, Run, Verdict
from provisioner.core.run.states import State, Waiting
from provisioner.core.run.survivors import LONGEST, SHORTEST, kept, kept_until, may_wait
from provisioner.core.run.work_order import work_order
from tests.support.ranks import gang
from tests.support.samples import NOW, SPOT_A, kind, machine, node, recipe, result, run, site

SPOT = recipe(scale=3, use_spot_instance=True)
WAITS = Report(9, NOW + 60, "p", Step.LOGS, finished=True, waits=True)
LOST = Verdict(Outcome.LOST, "gone", NOW + 60)
TELL = Stop(Outcome.CANCELLED, "rank 2 has ended: lost", NOW + 60, ends_run=False)
#: The run after its attempt was lost, while it waits for a launch of the missing rank.
QUEUED = run(recipe=SPOT.dump(), scale=3, attempt=1, state=State.QUEUED, verdict=LOST, kept_until=NOW + 200)


def survivor(rank: int = 0, outcome: Outcome = Outcome.FAILED, **fields: Any) -> Assignment:
    """Return a rank whose machine waits; `machine` has fields of the machine."""
    spans = {Step.BOOT.value: Span(NOW, NOW + 20), Step.BARRIER.value: Span(NOW + 45)}
    ended = result(outcome, 1, spans=spans)
    of_machine = fields.pop("machine", {})
    whole = {"result": ended, "report": WAITS, "verdict": Verdict(outcome, "", NOW + 50), **fields}
    where = {"id": f"i-{rank}", "address": f"10.0.0.{rank}", **of_machine}
    return Assignment(
        node(id=f"r1.1.{rank}", rank=rank, instance_id=f"i-{rank}", box=f"A:i-{rank}", **whole), machine(**where)
    )


def gone(rank: int) -> Assignment:
    """Return a rank whose machine was lost."""
    return survivor(
        rank, result=None, report=None, verdict=LOST, machine={"state": MachineState.TERMINATED, "ended_at": NOW + 60}
    )


# Which machines are kept


@pytest.mark.parametrize(
    "fields",
    [
        {"result": None},
        {"result": result(Outcome.SUCCEEDED, 0)},
        {"result": result(Outcome.LOST)},
        {"result": result(Outcome.FAILED, 1, notice=Notice(NOW + 90, NOW))},
        {"report": replace(WAITS, waits=False)},
        {"report": replace(WAITS, notice=Notice(NOW + 90, NOW))},
        {"machine": {"state": MachineState.SHUTTING_DOWN}},
        {"machine": {"ended_at": NOW + 60}},
        {"machine": {"end_wanted_at": NOW + 60}},
        {"machine": {"launch_time": None}},
        {"attempt": 2},
    ],
    ids=str,
)
def test_machine_that_may_be_gone_or_broken_is_not_kept(fields: dict[str, Any]) -> None:
    assert may_wait(QUEUED, survivor(), SPOT, NOW + 70)
    assert not may_wait(QUEUED, survivor(**fields), SPOT, NOW + 70)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.CANCELLED, Outcome.INTERRUPTED])
def test_machine_that_another_machine_ended_is_kept(outcome: Outcome) -> None:
    """Its command failed because a peer was gone, or the control plane told it to stop."""
    assert may_wait(QUEUED, survivor(outcome=outcome), SPOT, NOW + 70)


@pytest.mark.parametrize(
    ("fields", "waits"),
    [
        ({"state": State.RUNNING, "verdict": None, "ranks_stop": TELL}, True),
        ({"state": State.RUNNING, "verdict": None}, False),
        ({"state": State.STOPPING}, True),
        ({"state": State.STOPPING, "verdict": Verdict(Outcome.INTERRUPTED, "", NOW)}, True),
        ({"state": State.LAUNCHING}, True),
        ({"state": State.STOPPING, "verdict": Verdict(Outcome.FAILED, "", NOW, 1)}, False),
        ({"state": State.QUEUED, "kept_until": None}, False),
        ({"state": State.STOPPING, "ended_at": NOW + 60}, False),
        ({"state": State.RUNNING, "stop": Stop(Outcome.CANCELLED, "stopped", NOW)}, False),
    ],
    ids=str,
)
def test_machine_is_kept_only_while_another_attempt_may_follow(fields: dict[str, Any], waits: bool) -> None:
    """A machine that no attempt needs costs money, so it is released in every other state."""
    before = replace(QUEUED, **fields)
    assert may_wait(before, survivor(), SPOT, NOW + 70) is waits
    assert bool(wanted_end(before, survivor(), SPOT, NOW + 70)) is not waits


def test_machine_is_not_kept_while_the_verdict_is_open_for_too_long() -> None:
    running = replace(QUEUED, state=State.RUNNING, verdict=None, ranks_stop=TELL)
    assert may_wait(running, survivor(), SPOT, NOW + 50 + LONGEST - 1)
    assert not may_wait(running, survivor(), SPOT, NOW + 50 + LONGEST)


def test_machine_is_kept_only_if_its_lifetime_covers_another_attempt() -> None:
    last = NOW + (MACHINE_LIFETIMES - 1) * SPOT.spec.bounds.lifetime
    assert may_wait(QUEUED, survivor(), SPOT, last)
    assert not may_wait(QUEUED, survivor(), SPOT, last + 1)


def test_machine_of_a_run_whose_recipe_cannot_be_read_is_not_kept() -> None:
    assert not may_wait(QUEUED, survivor(), None, NOW + 70)


@pytest.mark.parametrize(
    ("spec", "keeps"),
    [
        ({"use_spot_instance": True}, True),
        ({}, False),
        ({"gang": {"survivors": "keep"}}, True),
        ({"use_spot_instance": True, "gang": {"survivors": "release"}}, False),
        ({"use_spot_instance": True, "scale": 1}, False),
        ({"use_spot_instance": True, "placement": {"group": "cluster"}}, False),
    ],
    ids=str,
)
def test_spot_machines_are_kept_by_default(spec: dict[str, Any], keeps: bool) -> None:
    """On-demand machines are rarely lost, and waiting for one costs as much as another one."""
    made = recipe(**{"scale": 3, **spec})
    assert made.spec.keeps_survivors is keeps
    assert made.spec.machine_lifetime == made.spec.bounds.lifetime * (3 if keeps else 1)


def _order(made: Recipe, used_before: float = 0.0) -> WorkOrder:
    engine, terms = Engine.CONTAINER, RecipeDefaults()
    return work_order(run(), made, attempt=1, rank=0, gpus=1, engine=engine, terms=terms, used_before=used_before)


def test_work_order_allows_the_wait_and_counts_the_lifetime_from_launch() -> None:
    """The agent sets the fuse to LaunchTime plus this lifetime."""
    assert (_order(SPOT).waiting_limit, _order(recipe(scale=3)).waiting_limit) == (LONGEST, 0.0)
    plain = SPOT.spec.bounds.lifetime
    assert (_order(SPOT).lifetime, _order(SPOT, 500.0).lifetime) == (plain, plain + 500)


# How long they wait


def test_machines_wait_as_long_as_their_attempt_prepared() -> None:
    """A longer wait would cost more than it saves."""

    def prepared(seconds: float) -> Assignment:
        spans = {Step.BOOT.value: Span(NOW, NOW + 20), Step.BARRIER.value: Span(NOW + seconds)}
        return survivor(result=result(Outcome.FAILED, 1, spans=spans))

    assert kept_until([prepared(300), gone(1)], SPOT, NOW + 70) == NOW + 70 + 300
    assert kept_until([prepared(2)], SPOT, NOW + 70) == NOW + 70 + SHORTEST
    assert kept_until([prepared(9000)], SPOT, NOW + 70) == NOW + 70 + LONGEST
    assert kept_until([survivor(result=result(Outcome.FAILED, 1))], SPOT, NOW + 70) == NOW + 70 + SHORTEST
    assert kept_until([gone(0)], SPOT, NOW + 70) is None


def stopping(verdict: Verdict) -> Run:
    return replace(QUEUED, state=State.STOPPING, verdict=verdict, kept_until=None)


def test_next_attempt_keeps_machines_only_after_a_loss() -> None:
    """A failed command is tried again on fresh machines, because its own machine may be the cause."""
    held = [survivor(0), survivor(1), gone(2)]
    again = advance(stopping(LOST), held, SPOT, NOW + 70).run
    assert (again.state, again.kept_until) == (State.QUEUED, NOW + 70 + SHORTEST)
    failed = replace(stopping(LOST), verdict=Verdict(Outcome.FAILED, "", NOW + 60, 1))
    retried = advance(failed, held, recipe(scale=3, use_spot_instance=True, retries=1), NOW + 70).run
    assert (retried.state, retried.kept_until) == (State.QUEUED, None)


def test_machines_are_released_when_they_waited_too_long_and_the_run_is_tried_elsewhere_at_once() -> None:
    dry = replace(QUEUED, waiting=Waiting.CAPACITY, waiting_for="dry", next_try_at=NOW + 900)
    held = [survivor(0), survivor(1), gone(2)]
    assert advance(dry, held, SPOT, NOW + 199).run is dry
    released = advance(dry, held, SPOT, NOW + 200).run
    assert (released.kept_until, released.next_try_at) == (None, NOW + 200)
    assert wanted_end(released, survivor(0), SPOT, NOW + 200)


def test_run_whose_kept_machines_are_all_gone_is_tried_elsewhere() -> None:
    """Otherwise it would wait for capacity near machines that do not exist."""
    dry = replace(QUEUED, waiting=Waiting.CAPACITY, waiting_for="dry", next_try_at=NOW + 900)
    assert advance(dry, [gone(0), gone(1), gone(2)], SPOT, NOW + 80).run.kept_until is None
    calm = advance(replace(QUEUED, next_try_at=NOW + 90), [gone(0)], SPOT, NOW + 80).run
    assert (calm.kept_until, calm.next_try_at) == (None, NOW + 90), "the pause after a loss stays"


# The launch of the missing ranks


def plan(*waiting: tuple[Run, Sequence[Assignment]], recipe: Recipe = SPOT, room: int | None = None) -> LaunchPlan:
    kept = {run.id: each for run, each in waiting}
    due = [(replace(run, next_try_at=NOW), recipe) for run, _ in waiting]
    where = site(kind(), kind("g6.xlarge"))
    return plan_launches(due, where, {}, {}, room, NOW, (f"l{n}" for n in itertools.count(2)), kept)


def test_only_missing_ranks_are_launched_near_the_kept_machines() -> None:
    """The ranks of one attempt are in one zone and have one instance type, in any market that the recipe allows."""
    either = recipe(scale=4, use_spot_instance=True, placement={"spot_fallback": True, "instance_types": ["g6.xlarge"]})
    near = {"offer": Offer(Market.SPOT, "g6.xlarge", "b")}
    made = plan((replace(QUEUED, scale=4), [survivor(1, machine=near), survivor(3, machine=near)]), recipe=either)
    [launch] = made.launches
    assert (launch.ranks, launch.request.count, launch.request.together) == ((0, 2), 2, True)
    assert launch.request.offers == (Offer(Market.SPOT, "g6.xlarge", "b"),)
    assert float(launch.request.tags[LIFETIME_TAG]) == pytest.approx(3 * either.spec.bounds.lifetime, abs=1)
    dry_spot = replace(QUEUED, scale=4, tier=1)
    [launch] = plan((dry_spot, [survivor(1, machine=near)]), recipe=either).launches
    assert launch.request.offers == (Offer(Market.ON_DEMAND, "g6.xlarge", "b"),)


def test_limit_on_machines_counts_only_missing_ranks() -> None:
    waiting = (QUEUED, [survivor(0), survivor(1)])
    assert len(plan(waiting, room=1).launches) == 1
    [waits] = plan(waiting, room=0).runs
    assert (waits.waiting, waits.kept_until) == (Waiting.LIMIT, NOW + 200)


def test_of_runs_that_block_each_other_only_the_oldest_keeps_its_machines() -> None:
    """Each keeps machines and waits for the limit, so none of them would ever start."""
    old = replace(QUEUED, created_at=NOW - 100)
    young = replace(QUEUED, id="r2")
    other = replace(QUEUED, id="r3", kept_until=None)
    made = plan((young, [survivor(0)]), (old, [survivor(0), survivor(1)]), (other, []), room=0)
    assert {each.id: each.kept_until for each in made.runs} == {"r1": NOW + 200, "r2": None, "r3": None}


# The answer


def answer(*machines: str, kept: Sequence[Assignment], ranks: tuple[int, ...] = (2,)) -> list[Any]:
    request = LaunchRequest("l2", site().template, Market.SPOT, (SPOT_A,), {"a": "s"}, len(ranks), {}, together=True)
    launch = Launch(request, ("r1",), NOW, ranks=ranks)
    known = [KnownMachine(id, "l2", SPOT_A, NOW) for id in machines]
    return answered(launch, [replace(QUEUED, state=State.LAUNCHING, launch="l2")], known, (), {}, 7, NOW, kept)


def test_new_and_kept_machines_are_bound_together() -> None:
    held = [survivor(0), survivor(1)]
    records = answer("i-9", kept=held)
    nodes = {each.rank: each for each in records if isinstance(each, Node)}
    assert {rank: (each.instance_id, each.reused, each.later) for rank, each in nodes.items()} == {
        0: ("i-0", True, 2),
        1: ("i-1", True, 2),
        2: ("i-9", False, 0),
    }
    assert all((each.attempt, each.bound_at, each.verdict) == (2, NOW, None) for each in nodes.values())
    assert (nodes[0].launch, nodes[2].launch) == ("l1", "l2"), "a kept machine keeps the launch that paid for its disk"
    [bound] = [each for each in records if isinstance(each, Run)]
    assert (bound.state, bound.attempt, bound.kept_until) == (State.BOOTING, 2, None)
    [event] = [each for each in records if type(each).__name__ == "Event"]
    assert event.text == "attempt 2: i-9, spot g5.xlarge in a; 2 machines of the last attempt work again"


def test_new_machine_is_ended_if_a_kept_one_was_lost_meanwhile() -> None:
    """The launch was for one rank, and now two are missing: all ranks start together or not at all."""
    records = answer("i-9", kept=[survivor(0)])
    [spare] = [each for each in records if isinstance(each, KnownMachine)]
    assert spare.end_wanted_for == "another machine of its run was lost meanwhile"
    assert not [each for each in records if isinstance(each, Node)]
    [waits] = [each for each in records if isinstance(each, Run)]
    assert (waits.state, waits.attempt, waits.kept_until) == (State.QUEUED, 1, NOW + 200)


# The plan


def again(each: Assignment) -> Assignment:
    """Return the node of the second attempt on the same machine."""
    fresh = Node(
        f"r1.2.{each.node.rank}", "r1", 2, each.node.rank, "l1", "t", each.machine.id, each.node.box, NOW + 90, 1
    )
    return replace(each, node=replace(fresh, reused=True, work_put_at=NOW + 90))


def test_machine_that_works_again_is_not_ended_for_its_earlier_attempt() -> None:
    held = [survivor(0), survivor(1), gone(2), again(survivor(0)), again(survivor(1))]
    working = replace(QUEUED, state=State.BOOTING, attempt=2, kept_until=None)
    machines = {each.machine.id: each.machine for each in held}
    live = Live((working,), tuple(each.node for each in held), (), tuple(machines.values()), (), ())
    moves = Plan(live, NOW + 100).moves
    wanted = [each for records in moves.records for each in records if isinstance(each, KnownMachine)]
    assert {each.id for each in wanted} <= {"i-2"}


def test_due_run_is_planned_with_its_kept_machines() -> None:
    held = [survivor(0), gone(1)]
    live = Live((QUEUED,), tuple(each.node for each in held), (), tuple(each.machine for each in held), (), ())
    assert [each.node.rank for each in Plan(live, NOW + 100).kept["r1"]] == [0]
    assert kept(QUEUED, held, SPOT, NOW + 100) == held[:1]


def test_reused_machine_has_its_whole_lifetime_again() -> None:
    """The first attempt's time on the machine does not count against the second."""
    late = NOW + SPOT.spec.bounds.lifetime
    fresh = again(survivor(0))
    held = [replace(fresh, node=replace(fresh.node, bound_at=late, work_put_at=late, result_sought_at=late + 90))]
    working = replace(QUEUED, scale=1, state=State.BOOTING, attempt=2, kept_until=None)
    assert advance(working, held, SPOT, late + 100).run.state is State.BOOTING


def test_kept_machine_that_never_reports_again_does_not_count_against_its_template() -> None:
    """The template is put on probation after machines that never booted, and this one did boot."""
    lost = replace(again(survivor(0)).node, verdict=LOST)
    assert not counts_against_template(lost)
    assert counts_against_template(replace(lost, reused=False))


def test_orders_name_the_attempt_because_a_reused_mailbox_has_older_ones() -> None:
    working = replace(gang(start_order=2), attempt=2)
    assert (orders(working).start, orders(working).attempt) == (2, 2)
    assert orders_digest(orders(gang(start_order=0))) == "", "without an order there is no message"


def test_attempt_on_known_machines_is_adopted_after_a_restore() -> None:
    """A backup from before the second attempt knows the machine, but not its new work order."""
    held = survivor(0)
    records = adopted(QUEUED, [held.node], 2, [Found(0, held.machine, held.node.box, reused=True)], 7, NOW)
    assert [each.kept_until for each in records if isinstance(each, Run)] == [None]
    [taken] = [each for each in records if isinstance(each, Node) and each.attempt == 2]
    assert (taken.reused, taken.later, taken.instance_id) == (True, 2, "i-0")
