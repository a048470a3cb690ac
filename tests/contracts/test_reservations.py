"""The contract of `ports/cloud.py` for capacity reservations."""

from dataclasses import replace

import pytest

from provisioner.core import errors
from provisioner.core.cloud.launches import LaunchRequest
from provisioner.core.cloud.machines import MachineState
from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.cloud.reserved.reservations import ENDS_EARLY
from provisioner.rehearsal.ec2.conditions import Capacity, Quota, Reserved
from tests.contracts.stage import TYPE, Raise, Stage, ids
from tests.polling import until

GROUP = "arn:aws:resource-groups:us-east-1:123456789012:group/ours"
ODCR = Reserved("cr-0000000a", TYPE, "us-east-1a", 2, group=GROUP)
BLOCK = Reserved("cr-0000000b", TYPE, "us-east-1b", 2, ends=7200, block=True)
LATER = Reserved("cr-0000000c", TYPE, "us-east-1c", 4, at=600, ends=900, group=GROUP)
ALL = (ODCR, BLOCK, LATER)


def request(up: Stage, rule: Reserved, token: str = "launch-1", count: int = 1, **fields: str) -> LaunchRequest:
    plain = up.request(token, market=Market.RESERVED, count=count)
    only = "capacity-reservations-only"
    template = replace(plain.template, capacity_reservation=only, reservation=rule.id, capacity_block=rule.block)
    offers = (Offer(Market.RESERVED, fields.get("type", rule.type), fields.get("zone", rule.zone)),)
    return replace(plain, template=template, offers=offers)


def test_reservation_is_described(stage: Raise) -> None:
    up = stage(reservations=ALL)
    [odcr] = up.cloud.reservations(ODCR.id)
    assert (odcr.id, odcr.instance_type, odcr.zone, odcr.state) == (ODCR.id, TYPE, "us-east-1a", "active")
    assert (odcr.total, odcr.available, odcr.block, odcr.ends_at) == (2, 2, False, None)
    [block] = up.cloud.reservations(BLOCK.id)
    assert (block.block, block.starts_at, block.ends_at) == (True, up.clock.now(), up.clock.now() + 7200)
    [later] = up.cloud.reservations(LATER.id)
    assert (later.state, later.available, later.starts_at) == ("scheduled", 0, up.clock.now() + 600)
    up.clock.step(900)
    [over] = up.cloud.reservations(LATER.id)
    assert over.state == "expired"


def test_group_has_its_reservations(stage: Raise) -> None:
    up = stage(reservations=ALL)
    assert [each.id for each in up.cloud.reservations(GROUP)] == [ODCR.id, LATER.id]
    assert up.cloud.reservations(f"{GROUP}-of-others") == ()


def test_unknown_reservation_is_misconfigured(stage: Raise) -> None:
    up = stage(reservations=ALL)
    with pytest.raises(errors.Misconfigured) as caught:
        up.cloud.reservations("cr-0000000d")
    assert caught.value.code == "InvalidCapacityReservationId.NotFound"


@pytest.mark.parametrize("rule", [ODCR, BLOCK])
def test_machine_in_a_reservation_is_listed_with_it(stage: Raise, rule: Reserved) -> None:
    """The launch works with no other capacity and a quota of 0, because the reservation includes both."""
    up = stage(reservations=ALL, capacity=(Capacity(0),), quotas=(Quota(0),))
    asked = request(up, rule)
    [launched] = up.cloud.launch(asked).machines
    machine = up.find(launched.instance_id)
    assert machine.offer == launched.offer == asked.offers[0]
    assert machine.reservation == rule.id
    [now] = up.cloud.reservations(rule.id)
    assert (now.total, now.available) == (2, 1)


@pytest.mark.parametrize(
    ("rule", "code"), [(ODCR, "ReservationCapacityExceeded"), (BLOCK, "InsufficientInstanceCapacity")]
)
def test_full_reservation_is_no_capacity_and_launches_what_fits(stage: Raise, rule: Reserved, code: str) -> None:
    up = stage(reservations=ALL)
    answer = up.cloud.launch(request(up, rule, count=3))
    assert len(answer.machines) == 2
    assert [(type(each.error), each.error.code) for each in answer.refusals] == [(errors.NoCapacity, code)]


def test_machines_that_work_together_are_not_launched_into_too_small_an_odcr(stage: Raise) -> None:
    up = stage(reservations=ALL)
    assert not up.cloud.launch(replace(request(up, ODCR, "three", 3), together=True)).machines
    assert len(up.cloud.launch(replace(request(up, ODCR, "two", 2), together=True)).machines) == 2


def test_future_reservation_has_no_capacity(stage: Raise) -> None:
    up = stage(reservations=ALL)
    refused = up.cloud.launch(request(up, LATER))
    assert {type(each.error) for each in refused.refusals} == {errors.NoCapacity}
    up.clock.step(600)
    assert len(up.cloud.launch(request(up, LATER, "launch-2")).machines) == 1


def test_reservation_of_another_type_has_no_capacity(stage: Raise) -> None:
    up = stage(reservations=ALL)
    refused = up.cloud.launch(request(up, ODCR, zone="us-east-1b"))
    assert {each.error.code for each in refused.refusals} == {"ReservationCapacityExceeded"}


def test_place_of_a_machine_is_free_again_when_the_machine_has_terminated(stage: Raise) -> None:
    up = stage(reservations=ALL, end_delay=120.0)
    [first, _] = ids(up.cloud.launch(request(up, ODCR, count=2)))
    up.cloud.terminate([first])
    assert up.cloud.reservations(ODCR.id)[0].available == 0
    up.clock.step(121)
    up.ended(first)
    assert up.cloud.reservations(ODCR.id)[0].available == 1


def test_machines_of_a_block_end_half_an_hour_before_it(stage: Raise) -> None:
    up = stage(reservations=ALL)
    [block] = ids(up.cloud.launch(request(up, BLOCK)))
    [odcr] = ids(up.cloud.launch(request(up, ODCR, "launch-2")))
    up.clock.step(7200 - ENDS_EARLY - 1)
    assert up.find(block).ending is None
    up.clock.step(1)
    until(lambda: up.find(block).ending is not None, "the end of the block's machine")
    assert up.find(odcr).state in (MachineState.PENDING, MachineState.RUNNING)
