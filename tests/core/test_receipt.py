"""Time and money between bounds that contain the truth."""

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.launch import Price
from provisioner.core.receipt import MINIMUM_SECONDS, receipt
from provisioner.core.record import Held, KnownMachine, Node, Verdict
from provisioner.core.work import Outcome, Report, Result, Span, Step
from tests.core.made import NOW, at_work, machine, node, run

PRICE = Price(3.6, "test", NOW)
ENDED = at_work(verdict=Verdict(Outcome.FAILED, "why", NOW + 100, 3), ended_at=NOW + 100)


def spans(*times: float) -> dict[str, Span]:
    """Boot from LaunchTime until the first time, then one step after the other."""
    steps = (Step.BOOT, Step.PULL, Step.COMMAND)
    return {step.value: Span(*pair) for step, pair in zip(steps, zip((NOW, *times), times, strict=False), strict=False)}


def told(*times: float) -> Result:
    return Result("r1", 1, 0, "p", Outcome.FAILED, Step.COMMAND, 3, "why", times[-1], spans(*times))


def test_bounds_come_from_what_was_recorded() -> None:
    """At most from LaunchTime to our first sight of the end; at least between the agent's first and last sign."""
    mine = machine(price=PRICE, ending_at=NOW + 500, ended_at=NOW + 560)
    made = receipt(ENDED, [Held(node(result=told(NOW + 40, NOW + 60, NOW + 440)), mine)], NOW + 1000)
    (bill,) = made.machines
    assert (bill.seconds_at_least, bill.seconds_at_most) == (400, 501)
    assert (made.dollars_at_least, made.dollars_at_most) == (0.4, 0.501)
    assert (made.outcome, made.exit_code, made.provisional) == (Outcome.FAILED, 3, False)


def test_a_machine_that_never_spoke_may_have_cost_nothing() -> None:
    """It may never have been `running`: from nothing to everything until its end was seen."""
    made = receipt(ENDED, [Held(node(), machine(price=PRICE, ended_at=NOW + 100))], NOW + 1000)
    assert (made.machines[0].seconds_at_least, made.machines[0].seconds_at_most) == (0, 101)


def test_a_short_life_costs_a_minute() -> None:
    """EC2's minimum, on both sides."""
    mine = machine(price=PRICE, ending_at=NOW + 5, ended_at=NOW + 6)
    (bill,) = receipt(ENDED, [Held(node(result=told(NOW + 1, NOW + 2, NOW + 3)), mine)], NOW + 9).machines
    assert bill.seconds_at_least == bill.seconds_at_most == MINIMUM_SECONDS


def test_an_unknown_price_is_unknown() -> None:
    """Never a guess, and never left out of a sum."""
    known = Held(node(), machine(price=PRICE, ended_at=NOW + 9))
    unknown = Held(node(id="r1.2.0", attempt=2), machine(id="i-2", ended_at=NOW + 9))
    made = receipt(ENDED, [known, unknown], NOW + 1000)
    assert (made.dollars_at_least, made.dollars_at_most) == (None, None)
    assert [bill.dollars_at_most is None for bill in made.machines] == [False, True]


def test_a_receipt_is_provisional_while_anything_lives() -> None:
    """A machine that is not listed as terminated, or a run without its outcome."""
    gone, alive = machine(ended_at=NOW + 9), machine()
    assert not receipt(ENDED, [Held(node(), gone)], NOW + 10).provisional
    assert receipt(ENDED, [Held(node(), alive)], NOW + 10).provisional
    assert receipt(at_work(), [Held(node(), gone)], NOW + 10).provisional
    assert receipt(at_work(), [Held(node(), alive)], NOW + 10).machines[0].seconds_at_most == MINIMUM_SECONDS


def test_a_run_without_a_machine_costs_nothing_and_shows_its_wait() -> None:
    """From its trigger to its end."""
    made = receipt(run(verdict=ENDED.verdict, ended_at=NOW + 50), [], NOW + 60)
    assert (made.dollars_at_least, made.dollars_at_most, made.machines) == (0.0, 0.0, ())
    assert [(each.name, each.began, each.ended) for each in made.phases] == [("queued", NOW, NOW + 50)]


def test_phases_follow_one_another() -> None:
    """Queued, boot, the steps, the ending; a second attempt waits from the end of the first."""
    first = Held(node(result=told(NOW + 40, NOW + 60, NOW + 440)), machine(ended_at=NOW + 460))
    second = Held(node(id="r1.2.0", attempt=2), machine(id="i-2", launch_time=NOW + 500))
    made = receipt(ENDED, [second, first], NOW + 1000)
    assert [(each.attempt, each.name, each.began - NOW, each.ended and each.ended - NOW) for each in made.phases] == [
        (1, "queued", 0, 0),
        (1, "boot", 0, 40),
        (1, "pull", 40, 60),
        (1, "command", 60, 440),
        (1, "ending", 440, 460),
        (2, "queued", 460, 500),
        (2, "boot", 500, None),
    ]


AGES = st.floats(0, 10**6)


@given(
    running=AGES,
    lives=AGES,
    seen_late=AGES,
    skew=st.floats(-(10**5), 10**5),
    signs=st.lists(st.floats(0, 1), max_size=4).map(sorted),
    dollars=st.floats(0, 100),
)
def test_the_bounds_contain_the_truth(
    running: float, lives: float, seen_late: float, skew: float, signs: list[float], dollars: float
) -> None:
    """However long it was pending, however late we saw its end, and however wrong its own clock."""
    began, ended = NOW + running, NOW + running + lives
    truth = max(MINIMUM_SECONDS, lives)
    mine = machine(price=Price(dollars, "test", NOW), ending_at=ended + seen_late, ended_at=ended + seen_late)
    times = [began + sign * lives + skew for sign in signs]
    held = Held(node(report=_report(times) if times else None), mine)
    (bill,) = receipt(ENDED, [held], NOW).machines
    # A float of seconds since 1970 is exact to a quarter of a microsecond.
    assert bill.seconds_at_least <= truth + 1e-3
    assert truth <= bill.seconds_at_most
    assert (bill.dollars_at_least or 0.0) <= truth * dollars / 3600 + 1e-6
    assert truth * dollars / 3600 <= (bill.dollars_at_most or 0.0)


def _report(times: list[float]) -> Report:
    """The machine's clock tells of boot, then of each later sign."""
    told = {Step.BOOT.value: Span(NOW, times[0])}
    told |= {step.value: Span(at) for step, at in zip((Step.PULL, Step.COMMAND), times[1:], strict=False)}
    return Report(1, times[-1], "p", Step.PULL, told)


def test_the_sum_rounds_up() -> None:
    """A millionth of a dollar at a time, never down."""
    cheap = Price(1e-7, "test", NOW)
    made = receipt(ENDED, [Held(node(), machine(price=cheap, ended_at=NOW + 100))], NOW)
    assert made.dollars_at_most == 1e-6
    assert made.dollars_at_least == 0.0
    assert math.isfinite(made.dollars_at_most)
    assert replace(made).machines == made.machines


def test_absurd_times_of_a_hostile_machine_stay_its_own() -> None:
    """It can make its own lower bound wrong, but not leave the upper one, nor break the receipt."""
    for hostile in (-(2.0**53), 2.0**53):
        report = Report(1, -hostile, "p", Step.COMMAND, {"boot": Span(hostile, hostile), "command": Span(-hostile)})
        mine: tuple[Node, KnownMachine] = node(report=report), machine(ended_at=NOW + 100)
        (bill,) = receipt(ENDED, [Held(*mine)], NOW).machines
        assert 0 <= bill.seconds_at_least <= bill.seconds_at_most == 101
