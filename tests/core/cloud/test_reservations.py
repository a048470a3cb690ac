"""Which reservation a launch uses, and what is said if it can use none."""

from dataclasses import replace

import pytest

from provisioner.core.cloud.reserved.choice import FULL_EVERY, FUTURE_EVERY, choose
from provisioner.core.cloud.reserved.reservations import ENDS_EARLY, Reservation
from tests.support.samples import NOW

HOUR = 3600.0
ODCR = Reservation("cr-1", "g5.xlarge", "a", "active", 4, 2, starts_at=NOW - HOUR)
BLOCK = replace(ODCR, block=True, ends_at=NOW + 24 * HOUR)
OFFERED = {("g5.xlarge", "a"), ("g6.xlarge", "a"), ("g5.xlarge", "b")}


def test_reservation_with_room_is_used_even_for_its_last_machine() -> None:
    assert choose([ODCR], OFFERED, 2, HOUR, NOW).reservation == ODCR
    full = choose([ODCR], OFFERED, 3, HOUR, NOW)
    assert (full.reservation, full.full, full.again_at) == (None, True, NOW + FULL_EVERY)
    assert full.reason == "the reservation cr-1 has 2 of 4 machines free, but a run needs 3 at once"


def test_reservation_of_a_group_with_the_most_room_is_used() -> None:
    others = [replace(ODCR, id="cr-2", available=4), replace(ODCR, id="cr-3", available=0)]
    chosen = choose([ODCR, *others], OFFERED, 1, HOUR, NOW).reservation
    assert chosen
    assert chosen.id == "cr-2"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"state": "expired"}, "the reservation cr-1 is expired"),
        ({"state": "a word that AWS invents later"}, "the reservation cr-1 is a word that AWS invents later"),
        (
            {"zone": "c"},
            "the reservation cr-1 is for g5.xlarge in c, but the job may use only g5.xlarge in a or g5.xlarge in b or",
        ),
        ({"total": 1}, "the reservation cr-1 has 1 machine, but a run needs 2 at once"),
        ({"platform": "Windows"}, "the reservation cr-1 is for the platform Windows, but machines have Linux/UNIX"),
        ({"tenancy": "dedicated"}, "the reservation cr-1 is for the tenancy dedicated, but machines have the tenancy"),
        ({"interruptible": True}, "the reservation cr-1 is interruptible, which is not supported"),
        ({"placement_group": "arn:x"}, "the reservation cr-1 is in a placement group, which is not supported"),
    ],
)
def test_reservation_that_can_never_be_used_is_refused(fields: dict[str, object], reason: str) -> None:
    choice = choose([replace(ODCR, **fields)], OFFERED, 2, HOUR, NOW)  # type: ignore[arg-type]
    assert (choice.reservation, choice.again_at) == (None, None)
    assert choice.reason.startswith(reason)


def test_group_is_refused_only_if_none_of_its_reservations_can_be_used() -> None:
    """The reason is that of a reservation that is not over: it says what the job could change."""
    over, elsewhere, full = replace(ODCR, state="expired"), replace(ODCR, zone="c"), replace(ODCR, available=0)
    assert "is for g5.xlarge in c" in choose([over, elsewhere], OFFERED, 1, HOUR, NOW).reason
    assert choose([over, elsewhere, full], OFFERED, 1, HOUR, NOW).full
    assert choose([over, elsewhere, ODCR], OFFERED, 1, HOUR, NOW).reservation == ODCR
    assert choose([], OFFERED, 1, HOUR, NOW).again_at is None


@pytest.mark.parametrize(
    ("starts", "again"), [(60.0, 60.0), (FUTURE_EVERY - 1, FUTURE_EVERY - 1), (30 * HOUR, FUTURE_EVERY)]
)
def test_future_reservation_is_tried_when_it_begins(starts: float, again: float) -> None:
    """It may be delayed, so a reservation that begins much later is looked at meanwhile."""
    future = replace(ODCR, state="scheduled", available=0, starts_at=NOW + starts)
    choice = choose([future], OFFERED, 1, HOUR, NOW)
    assert (choice.full, choice.again_at) == (False, NOW + again)
    assert choice.reason.startswith("the reservation cr-1 begins on 2027-01-1")


def test_reservation_whose_start_is_over_is_looked_at_soon() -> None:
    late = replace(ODCR, state="delayed", available=0, starts_at=NOW - 1)
    choice = choose([late], OFFERED, 1, HOUR, NOW)
    assert (choice.reason, choice.again_at) == ("the reservation cr-1 is delayed", NOW + FULL_EVERY)


def test_run_must_be_able_to_end_before_ec2_ends_the_machines_of_a_block() -> None:
    most = 24 * HOUR - ENDS_EARLY
    assert choose([BLOCK], OFFERED, 1, most, NOW).reservation == BLOCK
    refused = choose([BLOCK], OFFERED, 1, most + 1, NOW)
    assert (refused.reservation, refused.again_at) == (None, None)
    assert refused.reason == (
        "the Capacity Block cr-1 ends on 2027-01-16 08:00 UTC, and EC2 ends its machines 30 minutes before: that "
        "leaves 23 h 30 min, but the limits of a run add up to 23 h 31 min; lower limits.runtime"
    )


def test_run_of_a_future_block_is_measured_from_the_blocks_start() -> None:
    future = replace(BLOCK, state="scheduled", available=0, starts_at=NOW + 12 * HOUR)
    assert choose([future], OFFERED, 1, 11 * HOUR, NOW).again_at
    assert choose([future], OFFERED, 1, 12 * HOUR, NOW).again_at is None


def test_run_in_a_full_block_is_refused_once_too_little_time_is_left() -> None:
    full = replace(BLOCK, available=0)
    assert choose([full], OFFERED, 1, 20 * HOUR, NOW).full
    assert choose([full], OFFERED, 1, 20 * HOUR, NOW + 4 * HOUR).again_at is None


def test_machines_of_an_odcr_outlive_it() -> None:
    """They continue as on-demand machines, so a run may end after the reservation."""
    ending = replace(ODCR, ends_at=NOW + 60)
    assert choose([ending], OFFERED, 1, 26 * HOUR, NOW).reservation == ending
