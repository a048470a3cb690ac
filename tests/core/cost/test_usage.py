"""Usage: a machine's bill, divided by day and by use."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.cloud.machines import Ending
from provisioner.core.cloud.offers import Market, Offer, Price
from provisioner.core.cost.receipt import bills_of
from provisioner.core.cost.usage import month, unattributed, usage_of
from provisioner.core.protocol.messages import Span
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.records import Assignment, Verdict
from provisioner.core.usage.amounts import MILLI, NANO, Amounts, MachineUsage, Use, total
from tests.support.samples import NOW, at_work, machine, node, result

DAY = 86400
#: A midnight in UTC.
MIDNIGHT = (NOW // DAY + 1) * DAY
DOLLAR = Price(3600.0, "test", NOW)
VERDICT = Verdict(Outcome.SUCCEEDED, "why", NOW + 400, 0)


def ended(begins: float, seconds: float, **fields: Any) -> Any:
    """Return a machine that ran for these seconds, as listings of every second show it; it costs a dollar a second."""
    told = {
        "launch_time": begins - 5,
        "running_at": begins,
        "alive_at": begins + seconds - 1,
        "ending_at": begins + seconds,
        "ended_at": begins + seconds + 30,
        "price": DOLLAR,
        **fields,
    }
    return machine(**told)


def used(*held: Assignment, now: float = NOW + 10 * DAY) -> MachineUsage:
    (found,) = usage_of(at_work(started_by="t1"), held, bills_of(held, {}, now), {"team": "x"}, now)
    return found


def by_use(item: MachineUsage) -> dict[Use, float]:
    """Return the expected dollars of the machine by use."""
    return {
        use: sum(part.amounts.dollars for part in item.parts if part.use is use) / NANO
        for use in {part.use for part in item.parts}
    }


def test_a_machine_costs_what_it_ran_between_the_first_listings_of_its_begin_and_end() -> None:
    (part,) = used(Assignment(node(verdict=VERDICT), ended(NOW, 500))).parts
    assert (part.day, part.use) == (int(NOW // DAY), Use.SUCCEEDED)
    assert (part.amounts.seconds, part.amounts.dollars) == (500 * MILLI, 500 * NANO)
    assert part.amounts.dollars_at_least < part.amounts.dollars < part.amounts.dollars_at_most


def test_a_machine_costs_at_least_a_minute() -> None:
    (part,) = used(Assignment(node(verdict=VERDICT), ended(NOW, 7))).parts
    assert part.amounts.dollars == 60 * NANO


def test_each_day_has_the_seconds_that_were_used_on_it() -> None:
    item = used(Assignment(node(verdict=VERDICT), ended(MIDNIGHT - 100, 400)))
    assert [(part.day, part.amounts.seconds) for part in item.parts] == [
        (MIDNIGHT // DAY - 1, 100 * MILLI),
        (MIDNIGHT // DAY, 300 * MILLI),
    ]


def test_uses_are_the_outcomes_of_attempts_the_wait_for_peers_and_the_time_between_attempts() -> None:
    """The machine waited 50 s for its peers in its first attempt, which was interrupted after 200 s, and was kept."""
    spans = {Step.BARRIER.value: Span(NOW + 30, NOW + 80), Step.COMMAND.value: Span(NOW + 80, NOW + 200)}
    lost = Verdict(Outcome.INTERRUPTED, "a peer was taken", NOW + 205)
    first = node(verdict=lost, result=replace(result(Outcome.INTERRUPTED, spans=spans), at=NOW + 200))
    again = node(id="r1.2.0", attempt=2, reused=True, bound_at=NOW + 260, verdict=VERDICT)
    mine = ended(NOW, 500)
    assert by_use(used(Assignment(first, mine), Assignment(again, mine))) == {
        Use.INTERRUPTED: 150.0,
        Use.WAITING: 50.0,
        Use.KEPT: 60.0,
        Use.SUCCEEDED: 240.0,
    }


def test_a_run_that_is_not_done_costs_what_it_used_until_now() -> None:
    live = ended(NOW, 500, ending_at=None, ended_at=None, alive_at=None)
    assert by_use(used(Assignment(node(), live), now=NOW + 90)) == {Use.UNFINISHED: 90.0}


def test_a_spot_machine_that_aws_interrupts_in_its_first_hour_is_free_but_not_its_disk() -> None:
    """EC2 User Guide, "Billing for interrupted Spot Instances"."""
    spot = ended(NOW, 3000, ending=Ending.INTERRUPTED, disk_price=Price(8.0, "test", NOW))
    amounts = total(part.amounts for part in used(Assignment(node(), spot)).parts)
    assert (amounts.dollars_at_least, amounts.dollars, amounts.dollars_at_most) == (0, 0, 0)
    assert amounts.seconds == 3000 * MILLI
    assert amounts.disk_dollars_at_least > 0
    for other in (
        ended(NOW, 3700, ending=Ending.INTERRUPTED),
        ended(NOW, 3000, ending=Ending.ASKED),
        ended(NOW, 3000, ending=Ending.INTERRUPTED, offer=Offer(Market.ON_DEMAND, "g5.xlarge", "a")),
    ):
        assert sum(by_use(used(Assignment(node(), other))).values()) > 2900


def test_an_interruption_that_may_be_within_the_first_hour_has_a_lower_bound_of_zero() -> None:
    amounts = total(
        part.amounts for part in used(Assignment(node(), ended(NOW, 3610, ending=Ending.INTERRUPTED))).parts
    )
    assert amounts.dollars_at_least == 0
    assert amounts.dollars_at_most > 3610 * NANO


def test_a_disk_costs_its_share_of_the_present_month() -> None:
    """It exists from the launch until the machine is terminated."""
    item = used(Assignment(node(), ended(NOW, 500, disk_price=Price(8.0, "test", NOW))))
    amounts = total(part.amounts for part in item.parts)
    assert amounts.disk_dollars == round(535 * 8.0 / (31 * DAY) * NANO)
    assert amounts.disk_dollars_at_least <= amounts.disk_dollars <= amounts.disk_dollars_at_most
    assert month(int(NOW // DAY)) == 31 * DAY


def test_an_unknown_price_is_no_dollars_but_hours_without_a_price() -> None:
    amounts = total(part.amounts for part in used(Assignment(node(), ended(NOW, 500, price=None))).parts)
    assert amounts == Amounts(
        seconds_at_least=amounts.seconds_at_least,
        seconds=500 * MILLI,
        seconds_at_most=amounts.seconds_at_most,
        unpriced_seconds=500 * MILLI,
        unpriced_disk_seconds=535 * MILLI,
    )


def test_a_machine_in_a_reservation_costs_nothing_more() -> None:
    mine = ended(NOW, 500, reservation="cr-1")
    amounts = total(part.amounts for part in used(Assignment(node(), mine)).parts)
    assert (amounts.reserved_dollars, amounts.dollars_at_most, amounts.unpriced_seconds) == (500 * NANO, 0, 0)


def test_after_an_outage_the_end_is_dated_by_the_cloud_or_by_the_last_message() -> None:
    """The control plane was away for two hours while the machine ended after 500 s."""
    away = {"ending_at": NOW + 7200, "ended_at": NOW + 7200, "alive_at": NOW + 100}
    dated = Assignment(node(verdict=VERDICT), ended(NOW, 500, **away, transition_at=NOW + 500))
    told = replace(result(Outcome.SUCCEEDED), at=NOW + 500)
    said = Assignment(node(verdict=VERDICT, result=told), ended(NOW, 500, **away))
    assert sum(by_use(used(dated)).values()) == 500.0
    assert sum(by_use(used(said)).values()) == 500.0


def test_a_machine_that_never_ran_has_hours_only_at_most() -> None:
    never = ended(NOW, 500, running_at=None, alive_at=None)
    amounts = total(part.amounts for part in used(Assignment(node(), never)).parts)
    assert (amounts.dollars_at_least, amounts.dollars) == (0, 0)
    assert amounts.dollars_at_most >= 505 * NANO


def test_a_machine_without_a_run_is_unattributed() -> None:
    item = unattributed(ended(NOW, 500), None, NOW + 1000)
    assert (item.run, item.owner, item.job) == ("", "", "")
    assert by_use(item) == {Use.UNATTRIBUTED: 500.0}


@given(
    st.floats(0, 3 * DAY),
    st.floats(0, 3 * DAY),
    st.lists(st.floats(-DAY, 4 * DAY), max_size=3),
    st.floats(0.01, 100),
)
def test_the_parts_sum_up_to_the_bill_whatever_the_messages_say(
    begins: float, seconds: float, times: list[float], price: float
) -> None:
    """Times in messages are those of a machine's clock, which may be wrong."""
    spans = {Step.BARRIER.value: Span(NOW + times[0], NOW + times[-1])} if times else {}
    said = [replace(result(Outcome.FAILED, 1, spans=spans), at=NOW + at) for at in times or (0.0,)]
    disk = Price(8.0, "test", NOW)
    mine = ended(NOW + begins, seconds, price=Price(price, "test", NOW), disk_price=disk)
    held = [
        Assignment(node(id=f"n{number}", attempt=number + 1, bound_at=NOW + number * 50, result=each), mine)
        for number, each in enumerate(said)
    ]
    (bill,) = bills_of(held, {}, NOW + 10 * DAY)
    amounts = total(part.amounts for part in used(*held).parts)
    assert amounts.seconds_at_most == bill.seconds_at_most * MILLI
    assert amounts.seconds_at_least == bill.seconds_at_least * MILLI
    assert amounts.dollars_at_least == round((bill.dollars_at_least or 0) * NANO)
    assert amounts.dollars_at_most == round((bill.dollars_at_most or 0) * NANO)
    assert amounts.dollars_at_least <= amounts.dollars <= amounts.dollars_at_most
    assert amounts.disk_dollars_at_least <= amounts.disk_dollars <= amounts.disk_dollars_at_most
