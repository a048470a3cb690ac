"""Launches into reservations, and waits for them."""

import itertools
from dataclasses import replace
from typing import Any

from provisioner.core.cloud.launches import Refusal
from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.cloud.reserved.choice import FULL_EVERY
from provisioner.core.cloud.reserved.reservations import Reservation
from provisioner.core.errors import NoCapacity
from provisioner.core.recipe.recipe import Recipe
from provisioner.core.run.launch_answers import FIRST, answered
from provisioner.core.run.launching import LaunchPlan, plan_launches
from provisioner.core.run.records import Drought, Launch, Run
from provisioner.core.run.states import State, Waiting
from tests.support.samples import NOW, kind, recipe, run, site

SITE = site(kind(), kind("g6.xlarge"))
ODCR = Reservation("cr-1", "g6.xlarge", "b", "active", 8, 3)
RESERVED = recipe(placement={"instance_types": ["g6.xlarge"], "reservation": "cr-1"})
OFFER = Offer(Market.RESERVED, "g6.xlarge", "b")


def plan(
    waiting: list[tuple[Run, Recipe]], *reserved: Reservation, room: int | None = None, **health: Any
) -> LaunchPlan:
    found = {run.id: reserved for run, _ in waiting}
    return plan_launches(waiting, SITE, {}, health, room, NOW, (f"l{n}" for n in itertools.count()), reserved=found)


def test_launch_into_a_reservation_has_its_type_and_zone_and_a_template_that_names_it() -> None:
    """The reservation's type need not be the recipe's first one."""
    [launch] = plan([(run("a"), RESERVED)], ODCR).launches
    request = launch.request
    assert (request.market, request.offers, request.subnets) == (Market.RESERVED, (OFFER,), {"b": "subnet-b"})
    template = request.template
    assert (template.capacity_reservation, template.reservation) == ("capacity-reservations-only", "cr-1")
    assert not template.capacity_block
    [block] = plan([(run("a"), RESERVED)], replace(ODCR, block=True)).launches
    assert block.request.template.capacity_block
    assert len({SITE.template.name, template.name, block.request.template.name}) == 3


def test_run_without_a_reservation_avoids_all() -> None:
    [launch] = plan([(run("a"), recipe())]).launches
    assert launch.request.market is Market.ON_DEMAND
    assert (launch.request.template.capacity_reservation, launch.request.template.reservation) == ("none", "")


def test_runs_beyond_the_free_machines_wait() -> None:
    """Runs of different jobs share the room: their launches of one pass count."""
    other = recipe(name="other", placement=RESERVED.spec.placement.model_dump())
    made = plan([(run("a"), RESERVED), (run("b"), RESERVED), (run("c", job_name="other"), other)], ODCR)
    assert [launch.request.count for launch in made.launches] == [2, 1]
    more = [(run(f"{name}", job_name=f"{name}"), RESERVED) for name in "abcde"]
    waits = [each for each in plan(more, ODCR).runs if each.state is State.QUEUED]
    assert [each.id for each in waits] == ["d", "e"]
    assert {(each.waiting, each.next_try_at) for each in waits} == {(Waiting.CAPACITY, NOW + FULL_EVERY)}
    [late, *_] = plan([(run(name), RESERVED) for name in "abcd"], ODCR).runs
    assert late.waiting_for == "the other runs use all that the reservation cr-1 has free"


def test_machines_that_start_together_need_one_reservation_for_all() -> None:
    gang = recipe(scale=4, placement=RESERVED.spec.placement.model_dump())
    split = (ODCR, replace(ODCR, id="cr-2", available=3))
    [waits] = plan([(run("a", scale=4), gang)], *split).runs
    assert (waits.state, waits.waiting) == (State.QUEUED, Waiting.CAPACITY)
    [launch] = plan([(run("a", scale=4), gang)], *split, replace(ODCR, id="cr-3", available=4)).launches
    assert (launch.request.template.reservation, launch.request.together) == ("cr-3", True)


def test_future_reservation_is_a_limit_and_one_that_is_over_refuses_the_run() -> None:
    future = replace(ODCR, state="scheduled", starts_at=NOW + 60, available=0)
    [waits] = plan([(run("a"), RESERVED)], future).runs
    assert (waits.state, waits.waiting, waits.next_try_at) == (State.QUEUED, Waiting.LIMIT, NOW + 60)
    [(refused, reason)] = plan([(run("a"), RESERVED)], replace(ODCR, state="cancelled")).refused
    assert (refused.id, reason) == ("a", "the reservation cr-1 is cancelled")


def test_limit_on_machines_applies_to_reserved_machines() -> None:
    made = plan([(run(name), RESERVED) for name in "abc"], ODCR, room=1)
    assert [launch.request.count for launch in made.launches] == [1]
    assert {each.waiting for each in made.runs if each.state is State.QUEUED} == {Waiting.LIMIT}


def test_refusal_of_a_reservation_makes_no_offer_dry() -> None:
    """Another reservation of the same type may have room. The run waits: it has no other offer."""
    [launch] = plan([(run("a"), RESERVED)], ODCR).launches
    going = run("a", state=State.LAUNCHING, launch=launch.id, recipe=RESERVED.dump())
    refusal = Refusal(NoCapacity("full", "ReservationCapacityExceeded"), OFFER)
    records = answered(launch, [going], [], [refusal], {}, 1, NOW)
    assert not [each for each in records if isinstance(each, Drought)]
    [waits] = [each for each in records if isinstance(each, Run)]
    assert (waits.state, waits.waiting) == (State.QUEUED, Waiting.CAPACITY)
    assert waits.next_try_at == NOW + FIRST[Waiting.CAPACITY]
    assert waits.tried[-1].what == "reserved g6.xlarge in b"
    assert [each.closed_at for each in records if isinstance(each, Launch)] == [NOW]
