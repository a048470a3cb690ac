"""Runs in capacity reservations, from the recipe to the receipt."""

from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.cloud.caps.budget import NO_CAPS, Caps
from provisioner.core.cloud.offers import Market
from provisioner.core.cloud.reserved.reservations import ENDS_EARLY
from provisioner.core.errors import Invalid, Transient
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Run
from provisioner.core.run.states import State, Waiting
from provisioner.rehearsal.ec2.conditions import Capacity, Conditions, PriceRule, Reserved
from provisioner.rehearsal.ec2.instance import Instance
from provisioner.rehearsal.machines.script import CommandScript
from tests.service.agents import Script
from tests.service.world import World

GROUP = "arn:aws:resource-groups:us-east-1:123456789012:group/ours"
ZONE = "us-east-1b"
ODCR = Reserved("cr-0a", "g5.xlarge", ZONE, 2, group=GROUP)
HOUR = 3600.0
OURS: dict[str, Any] = {"placement": {"reservation": ODCR.id}}


def world(*rules: Reserved, seconds: float = 60, caps: Caps = NO_CAPS, **conditions: Any) -> World:
    """Return a world with reservations, and without any other capacity."""
    given = Conditions(reservations=rules, capacity=(Capacity(0),), prices=(PriceRule(1.2),), **conditions)
    script = Script(command=seconds, commands=CommandScript(seconds=seconds))
    return World(given, scripts=lambda _: script, caps=caps)


def saved(played: World, run: Run) -> Run:
    found = played.store.run(run.id)
    assert found
    return found


def machines(played: World) -> list[Instance]:
    return list(played.model.every())


def after(played: World, seconds: float, run: Run) -> Run:
    """Let a control plane act for this long; return the run then."""
    _, service = played.incarnate()
    end = played.now() + seconds
    service.operator.drive(lambda: played.now() >= end)
    return saved(played, run)


def ended(played: World, run: Run) -> Run:
    played.run()
    played.check()
    return saved(played, run)


def test_run_whose_recipe_names_a_reservation_is_launched_into_it() -> None:
    """EC2 has no other capacity for the type. Status and receipt say that the machine is paid for."""
    played = world(ODCR)
    run = ended(played, played.start(**OURS))
    assert run.verdict
    assert run.verdict.outcome is Outcome.SUCCEEDED
    [machine] = machines(played)
    assert (machine.reservation, machine.offer.zone, machine.offer.market) == (ODCR.id, ZONE, Market.RESERVED)
    [shown] = played.runs.status(run.id).machines
    assert (shown.reservation, shown.market, shown.price and shown.price.dollars) == (ODCR.id, Market.ON_DEMAND, 1.2)
    [bill] = played.runs.receipt(run.id).machines
    assert (bill.reservation, bill.market) == (ODCR.id, "reserved")
    assert bill.dollars_at_most
    assert bill.dollars_at_most > 0


def test_machine_of_a_capacity_block_has_no_price_by_the_hour() -> None:
    played = world(replace(ODCR, block=True, ends=48 * HOUR))
    run = ended(played, played.start(**OURS))
    [bill] = played.runs.receipt(run.id).machines
    assert (bill.reservation, bill.price, bill.dollars_at_most) == (ODCR.id, None, None)


@pytest.mark.parametrize("block", [False, True])
def test_reserved_machines_count_nothing_against_caps(block: bool) -> None:
    """They are paid for already. A Capacity Block has no price, which a cap refuses in other markets."""
    played = world(replace(ODCR, block=block, ends=48 * HOUR), caps=Caps(0.01), seconds=300)
    run = played.start(limits={"cost": 0.01}, placement={"reservation": ODCR.id, "max_price": 0.01})
    after(played, 200, run)
    shown = played.runs.overview(1)
    assert (shown.machines, shown.dollars_an_hour, shown.unpriced) == (1, 0.0, 0)
    assert shown.budget
    assert (shown.budget.spent, shown.budget.committed) == (0.0, 0.0)
    whole = ended(played, run)
    assert whole.verdict
    assert whole.verdict.outcome is Outcome.SUCCEEDED


def test_run_waits_for_a_free_machine_of_a_full_reservation() -> None:
    """It starts soon after another machine has terminated, and no on-demand machine is launched meanwhile."""
    played = world(ODCR, seconds=300, end_delay=120.0)
    first, second, third = (played.start(name, **OURS) for name in ("a", "b", "c"))
    waits = after(played, 200, third)
    assert (waits.state, waits.waiting) == (State.QUEUED, Waiting.CAPACITY)
    assert waits.waiting_for == "the reservation cr-0a has 0 of 2 machines free"
    ended(played, third)
    assert [saved(played, run).verdict.outcome for run in (first, second, third)] == [Outcome.SUCCEEDED] * 3  # type: ignore[union-attr]
    *others, last = machines(played)
    assert len(others) == 2
    assert 0 < last.launch_time - min(one.now.at for one in others) < 60


def test_run_waits_until_its_reservation_begins() -> None:
    played = world(replace(ODCR, at=2 * HOUR))
    run = played.start(**OURS)
    waits = after(played, HOUR, run)
    assert (waits.state, waits.waiting) == (State.QUEUED, Waiting.LIMIT)
    assert waits.waiting_for.startswith("the reservation cr-0a begins on 20")
    assert not [call for call in played.calls if call.method == "launch"]
    ended(played, run)
    [machine] = machines(played)
    assert 2 * HOUR <= machine.launch_time - played.began < 2 * HOUR + 60


def test_run_that_cannot_end_before_the_machines_of_a_block_do_is_refused() -> None:
    """It was started in time, but the control plane was away meanwhile."""
    played = world(replace(ODCR, block=True, ends=48 * HOUR))
    run = played.start(**OURS)
    played.advance(47 * HOUR)
    refused = ended(played, run)
    assert refused.verdict
    assert refused.verdict.outcome is Outcome.REFUSED
    assert "the Capacity Block cr-0a ends on" in refused.verdict.reason
    assert "EC2 ends its machines 30 minutes before" in refused.verdict.reason
    assert not machines(played)


def test_run_that_fits_into_a_block_ends_before_its_machines_are_taken() -> None:
    block = replace(ODCR, block=True, ends=48 * HOUR)
    played = world(block)
    run = ended(played, played.start(**OURS))
    assert run.verdict
    assert run.verdict.at - played.began < 48 * HOUR - ENDS_EARLY


def test_machines_that_start_together_share_one_reservation() -> None:
    """While only some of them fit, none is launched: the run waits until all fit."""
    block = replace(ODCR, id="cr-0b", block=True, ends=48 * HOUR, group="")
    played = world(ODCR, block, seconds=400)
    one = played.start("one", **OURS)
    gang = played.start("gang", scale=2, placement={"reservation": GROUP})
    waits = after(played, 300, gang)
    assert (waits.state, waits.waiting, saved(played, one).state) == (State.QUEUED, Waiting.CAPACITY, State.RUNNING)
    assert waits.waiting_for == "the reservation cr-0a has 1 of 2 machines free, but a run needs 2 at once"
    whole = ended(played, gang)
    assert whole.verdict
    assert whole.verdict.outcome is Outcome.SUCCEEDED
    assert [machine.reservation for machine in machines(played)] == ["cr-0a"] * 3


def test_list_uses_as_many_machines_as_its_reservation_has() -> None:
    """It wants four machines: it gets a second one, and finding no room for others is no reason to end it."""
    played = world(ODCR)
    run = ended(played, played.start(scale=4, command=["true"] * 30, **OURS))
    assert run.verdict
    assert run.verdict.outcome is Outcome.SUCCEEDED
    assert [machine.reservation for machine in machines(played)] == [ODCR.id] * 2


# The reservation of the settings


def test_on_demand_jobs_of_its_type_use_the_reservation_of_the_settings() -> None:
    """Spot jobs, jobs of other types, and jobs that say `none` do not."""
    played = World(Conditions(reservations=(ODCR,)), reservation=ODCR.id)
    ours = played.start("ours")
    played.start("spot", use_spot_instance=True)
    played.start("other", instance_type="g6.xlarge")
    played.start("free", placement={"reservation": "none"})
    ended(played, ours)
    used = [machine for machine in machines(played) if machine.reservation]
    assert [machine.offer.market for machine in used] == [Market.RESERVED]
    assert len(machines(played)) == 4


def test_jobs_wait_for_the_operator_when_the_reservation_of_the_settings_is_over() -> None:
    """No run is refused for a mistake in the settings, and jobs that cannot use it go on."""
    for rule, reservation, text in (
        (replace(ODCR, ends=60.0), ODCR.id, "the reservation cr-0a is expired: name another `reservation`"),
        (ODCR, "cr-0f", "correct `reservation` in the settings"),
    ):
        played = World(Conditions(reservations=(rule,)), reservation=reservation)
        played.advance(HOUR)
        run, other = played.start("ours"), played.start("spot", use_spot_instance=True)
        waits = after(played, 60, run)
        assert (waits.state, waits.waiting) == (State.QUEUED, Waiting.OPERATOR)
        assert text in waits.waiting_for
        assert saved(played, other).waiting is None
        played.runs.stop(run.id)


def test_run_waits_while_its_reservation_cannot_be_looked_up() -> None:
    played = world(ODCR)
    run = played.start(**OURS)
    _, service = played.incarnate()
    played.cloud.fail_next = [Transient("connection refused")]
    service.operator.step()
    waits = saved(played, run)
    assert (waits.state, waits.waiting) == (State.QUEUED, Waiting.THROTTLE)
    assert ended(played, run).verdict


# Recipes


@pytest.mark.parametrize(
    ("placement", "spec", "reason"),
    [
        ({"reservation": "cr_1"}, {}, "write a reservation's id"),
        ({"reservation": "arn:aws:ec2:us-east-1:1:x"}, {}, "write a reservation's id"),
        ({"reservation": "cr-0f"}, {}, "InvalidCapacityReservationId.NotFound"),
        ({"reservation": "cr-0a"}, {"use_spot_instance": True}, "spot machines cannot use a reservation"),
        ({"reservation": "cr-0a", "group": "cluster"}, {"scale": 2}, "cannot be in a placement group"),
        (
            {"reservation": "cr-0a"},
            {"instance_type": "g6.xlarge"},
            "is for g5.xlarge in us-east-1b, but the job may use",
        ),
        ({"reservation": "cr-0a", "zones": ["us-east-1a"]}, {}, "is for g5.xlarge in us-east-1b, but the job may use"),
        ({"reservation": "cr-0a"}, {"scale": 3}, "has 2 machines, but a run needs 3 at once"),
        ({"reservation": "cr-0b"}, {"limits": {"runtime": "24h"}}, "the Capacity Block cr-0b ends on"),
        ({"reservation": f"{GROUP}-empty"}, {}, "the group has no capacity reservation"),
    ],
)
def test_recipe_that_no_reservation_can_run_is_refused(
    placement: dict[str, Any], spec: dict[str, Any], reason: str
) -> None:
    played = world(ODCR, replace(ODCR, id="cr-0b", block=True, ends=24 * HOUR, group=""))
    with pytest.raises(Invalid, match="placement") as caught:
        played.start(placement=placement, **spec)
    assert reason in str(caught.value)
    assert not played.jobs.all()


def test_apply_says_that_runs_will_wait() -> None:
    played = world(replace(ODCR, at=HOUR))
    played.start(**OURS)
    assert played.jobs.all()
    recipe = '{"type": "job", "spec": {"name": "a", "image": "i", "instance_type": "g5.xlarge", "command": "true", '
    recipe += '"placement": {"reservation": "cr-0a"}}}'
    [warning] = played.jobs.apply(recipe, "f").warnings
    assert warning.startswith("runs wait: the reservation cr-0a begins on 20")
