"""A receipt: bounds of time and money that contain the truth."""

import math
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.cloud.launches import LaunchRequest
from provisioner.core.cloud.offers import Price
from provisioner.core.cost.phases import LISTING_LAG, Bound, Phase, Source
from provisioner.core.cost.receipt import MINIMUM_SECONDS, Receipt, advice
from provisioner.core.cost.receipt import receipt as whole_receipt
from provisioner.core.protocol.messages import Report, Result, Span
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.records import Assignment, KnownMachine, Launch, Node, Run, Verdict
from tests.support.samples import NOW, SPOT_A, at_work, machine, node, run, site

PRICE = Price(3.6, "test", NOW)
ENDED = at_work(verdict=Verdict(Outcome.FAILED, "why", NOW + 100, 3), ended_at=NOW + 100)


def receipt(run: Run, held: Sequence[Assignment], now: float, *launches: Launch) -> Receipt:
    return whole_receipt(run, held, {launch.id: launch for launch in launches}, now)


def spans(*times: float) -> dict[str, Span]:
    """Return the spans of the steps: boot until the first of `times`, and each later step until the next of them."""
    steps = (Step.BOOT, Step.PULL, Step.COMMAND)
    return {step.value: Span(*pair) for step, pair in zip(steps, zip((NOW, *times), times, strict=False), strict=False)}


def told(*times: float) -> Result:
    return Result("r1", 1, 0, "p", Outcome.FAILED, Step.COMMAND, 3, "why", times[-1], spans(*times))


def test_bounds_come_from_what_was_recorded() -> None:
    """The upper bound counts from LaunchTime to the first listing of the end.

    The lower bound counts from the first to the last time that the agent recorded.
    """
    mine = machine(price=PRICE, ending_at=NOW + 500, ended_at=NOW + 560)
    made = receipt(ENDED, [Assignment(node(result=told(NOW + 40, NOW + 60, NOW + 440)), mine)], NOW + 1000)
    (bill,) = made.machines
    assert (bill.seconds_at_least, bill.seconds_at_most) == (400, 501)
    assert (made.dollars_at_least, made.dollars_at_most) == (0.4, 0.501)
    assert (made.outcome, made.exit_code, made.provisional) == (Outcome.FAILED, 3, False)


def test_listings_that_show_it_running_count_the_boot_too() -> None:
    """The lower bound counts from the first to the last listing that shows the machine running, less a lag.

    Time after the end was wanted does not count.
    """
    mine = machine(price=PRICE, running_at=NOW + 2, alive_at=NOW + 499, ending_at=NOW + 500, ended_at=NOW + 560)
    for wanted, least in ((None, 437), (NOW + 450, 437), (NOW + 420, 418)):
        held = Assignment(node(result=told(NOW + 40, NOW + 60, NOW + 440)), replace(mine, end_wanted_at=wanted))
        assert receipt(ENDED, [held], NOW + 1000).machines[0].seconds_at_least == least
    silent = Assignment(node(), replace(mine, alive_at=None))
    assert receipt(ENDED, [silent], NOW + 1000).machines[0].seconds_at_least == MINIMUM_SECONDS


def test_a_disk_is_billed_by_the_share_of_the_month() -> None:
    """A month has 28 to 31 days, and a disk exists until its machine is terminated."""
    mine = machine(price=PRICE, disk_price=Price(86.4, "test", NOW), ending_at=NOW + 500, ended_at=NOW + 559)
    made = receipt(ENDED, [Assignment(node(result=told(NOW + 40, NOW + 60, NOW + 440)), mine)], NOW + 1000)
    assert made.disk_dollars_at_least == math.ceil(1e6 * 400 * 86.4 / (31 * 86400)) / 1e6
    assert made.disk_dollars_at_most == math.ceil(1e6 * 560 * 86.4 / (28 * 86400)) / 1e6


def test_machine_without_reports_has_a_lower_bound_of_zero() -> None:
    """The machine may never have been `running`. The upper bound counts until its end was listed."""
    made = receipt(ENDED, [Assignment(node(), machine(price=PRICE, ended_at=NOW + 100))], NOW + 1000)
    assert (made.machines[0].seconds_at_least, made.machines[0].seconds_at_most) == (0, 101)


def test_a_machine_that_no_listing_showed_may_be_as_old_as_its_launch() -> None:
    """The launch's answer was lost, and the machine was bound two hours after the launch."""
    unseen = machine(launch_time=None, ended_at=NOW + 100)
    (bill,) = receipt(ENDED, [Assignment(node(), unseen)], NOW + 1000, a_launch(after=-7200.0)).machines
    assert (bill.seconds_at_least, bill.seconds_at_most) == (0, 7301)


def test_a_short_life_costs_a_minute() -> None:
    """EC2's minimum applies to both bounds."""
    mine = machine(price=PRICE, ending_at=NOW + 5, ended_at=NOW + 6)
    (bill,) = receipt(ENDED, [Assignment(node(result=told(NOW + 1, NOW + 2, NOW + 3)), mine)], NOW + 9).machines
    assert bill.seconds_at_least == bill.seconds_at_most == MINIMUM_SECONDS


def test_an_unknown_price_is_unknown() -> None:
    """An unknown price is not guessed, and makes the sum unknown."""
    known = Assignment(node(), machine(price=PRICE, ended_at=NOW + 9))
    unknown = Assignment(node(id="r1.2.0", attempt=2), machine(id="i-2", ended_at=NOW + 9))
    made = receipt(ENDED, [known, unknown], NOW + 1000)
    assert (made.dollars_at_least, made.dollars_at_most) == (None, None)
    assert [bill.dollars_at_most is None for bill in made.machines] == [False, True]


def test_a_receipt_is_provisional_while_anything_lives() -> None:
    """A receipt is provisional while a machine is not listed as terminated, or while the run has no outcome."""
    gone, alive = machine(ended_at=NOW + 9), machine()
    assert not receipt(ENDED, [Assignment(node(), gone)], NOW + 10).provisional
    assert receipt(ENDED, [Assignment(node(), alive)], NOW + 10).provisional
    assert receipt(at_work(), [Assignment(node(), gone)], NOW + 10).provisional
    assert receipt(at_work(), [Assignment(node(), alive)], NOW + 10).machines[0].seconds_at_most == MINIMUM_SECONDS


def test_a_run_without_a_machine_costs_nothing_and_shows_its_wait() -> None:
    """The wait lasts from the run's trigger to its end."""
    made = receipt(run(verdict=ENDED.verdict, ended_at=NOW + 50), [], NOW + 60)
    assert (made.dollars_at_least, made.dollars_at_most, made.machines) == (0.0, 0.0, ())
    assert line(made) == [(1, "queued", 0, 50), (0, "closing", 50, None)]


def line(made: Receipt, *, beside: bool = False) -> list[tuple[int, str, float, float | None]]:
    return [
        (each.attempt, each.name, each.began.at - NOW, each.ended.at - NOW if each.ended else None)
        for each in made.phases
        if each.beside is beside
    ]


def a_launch(id: str = "l1", after: float = 0.0) -> Launch:
    request = LaunchRequest(id, site().template, SPOT_A.market, (SPOT_A,), {"a": "s"}, 1, {})
    return Launch(request, ("r1",), NOW + after)


DONE = replace(ENDED, done_at=NOW + 1000)


def test_every_second_is_in_a_named_phase() -> None:
    """From the trigger to done, each phase begins where the previous one ends, and names the source of its time."""
    mine = machine(launch_time=NOW + 3, running_at=NOW + 9, ending_at=NOW + 445, ended_at=NOW + 460, bound_at=NOW + 4)
    made = receipt(DONE, [Assignment(node(result=told(NOW + 40, NOW + 60, NOW + 440)), mine)], NOW, a_launch(after=2))
    assert line(made) == [
        (1, "queued", 0, 2),
        (1, "launching", 2, 3),
        (1, "pending", 3, 9),
        (1, "boot", 9, 40),
        (1, "pull", 40, 60),
        (1, "command", 60, 440),
        (1, "ending", 440, 445),
        (1, "gone", 445, 460),
        (1, "closing", 460, 1000),
    ]
    assert [each.began.source for each in made.phases] == [
        *(Source.STORE, Source.STORE, Source.LAUNCH_TIME, Source.LISTING),
        *(Source.AGENT, Source.AGENT, Source.AGENT, Source.LISTING, Source.LISTING),
    ]
    assert made.phases[2].began.error == 1.0
    assert made.phases[-1].ended == Bound(NOW + 1000, Source.STORE)


def test_another_attempt_waits_from_the_end_of_the_first() -> None:
    """The second attempt's wait begins when the first machine is gone.

    If the second launch comes earlier, the wait begins and ends at that launch, and the rest of the first machine's end
    is a concurrent phase.
    """
    first = Assignment(
        node(result=told(NOW + 40, NOW + 60, NOW + 440)), machine(ending_at=NOW + 445, ended_at=NOW + 460)
    )
    second = Assignment(
        node(id="r1.2.0", attempt=2, launch="l2"), machine(id="i-2", launch_time=NOW + 500, bound_at=NOW + 501)
    )
    late = receipt(at_work(), [second, first], NOW + 1000, a_launch("l2", 490))
    assert line(late)[-4:] == [
        (1, "gone", 445, 460),
        (2, "queued", 460, 490),
        (2, "launching", 490, 500),
        (2, "boot", 500, None),
    ]
    early = receipt(at_work(), [second, first], NOW + 1000, a_launch("l2", 450))
    assert line(early)[-4:] == [
        (1, "gone", 445, 450),
        (2, "queued", 450, 450),
        (2, "launching", 450, 500),
        (2, "boot", 500, None),
    ]
    assert line(early, beside=True) == [(1, "gone", 450, 460)]


def test_concurrent_pull_and_clone_are_counted_once() -> None:
    """The longer one is in the main line; no second is counted twice."""
    steps = {"boot": Span(NOW, NOW + 40), "pull": Span(NOW + 40, NOW + 60), "clone": Span(NOW + 40, NOW + 70)}
    report = Report(1, NOW + 80, "p", Step.COMMAND, steps | {"command": Span(NOW + 71)})
    made = receipt(at_work(), [Assignment(node(report=report, reported_at=NOW + 80), machine())], NOW + 90)
    assert line(made)[1:] == [(1, "boot", 0, 40), (1, "clone", 40, 71), (1, "command", 71, None)]
    assert line(made, beside=True) == [(1, "pull", 40, 60)]


def test_the_cloud_dates_the_end_better_than_a_listing() -> None:
    """A transition reason's time is exact to a second. Without one, the end lies between two listings, less a lag."""
    ended = machine(ending_at=NOW + 480, ended_at=NOW + 490, alive_at=NOW + 470)
    for mine, bound in (
        (ended, Bound(NOW + 480, Source.LISTING, 10.0 + LISTING_LAG)),
        (replace(ended, transition_at=NOW + 474), Bound(NOW + 474, Source.TRANSITION_REASON, 1.0)),
    ):
        made = receipt(DONE, [Assignment(node(result=told(NOW + 40, NOW + 60, NOW + 440)), mine)], NOW)
        assert next(each.began for each in made.phases if each.name == "gone") == bound


def test_report_from_the_future_widens_the_bound() -> None:
    """A report from the future shows the difference of the clocks, which becomes the error of the bound."""
    report = Report(1, NOW + 170, "p", Step.COMMAND, {"boot": Span(NOW, NOW + 140), "command": Span(NOW + 160)})
    made = receipt(at_work(), [Assignment(node(report=report, reported_at=NOW + 70), machine())], NOW + 90)
    command = made.phases[-1].began
    assert (command.at, command.error) == (NOW + 60, 100)


def test_a_machine_that_left_no_result_fell_silent() -> None:
    """The last phase that the machine reported ends with its last report."""
    report = Report(1, NOW + 80, "p", Step.COMMAND, {"boot": Span(NOW, NOW + 40), "command": Span(NOW + 60)})
    mine = machine(ending_at=NOW + 300, ended_at=NOW + 310)
    made = receipt(DONE, [Assignment(node(report=report, reported_at=NOW + 80), mine)], NOW)
    assert line(made)[-4:-1] == [(1, "command", 60, 80), (1, "silent", 80, 300), (1, "gone", 300, 310)]


def of(**seconds: float) -> list[Phase]:
    """Return phases of these lengths."""
    return [
        Phase(name, 1, 0, False, Bound(0, Source.STORE), Bound(lasts, Source.STORE)) for name, lasts in seconds.items()
    ]


def test_advice_is_about_what_dominates_the_billed_time() -> None:
    """There is no advice about the command, unbilled time, or time within the minimum."""
    assert advice(of(boot=30, pull=150, command=50)) == (
        "the pull phase is 65 % of the machine's billed time: bake the image into the AMI, or shrink it"
    )
    assert advice(of(boot=30, pull=90, command=500)) is None
    assert advice(of(queued=5000, gone=900, command=500)) is None
    assert advice(of(boot=10, pull=30, command=5)) is None
    assert advice(of(boot=40, pull=40, command=40)) is None


def test_the_disk_is_billed_until_the_machine_is_gone() -> None:
    """GiB-seconds are unknown if the launch, which has the disk's size, is unknown."""
    mine = machine(ending_at=NOW + 445, ended_at=NOW + 460)
    held = Assignment(node(result=told(NOW + 40, NOW + 60, NOW + 440)), mine)
    (bill,) = receipt(DONE, [held], NOW, a_launch()).machines
    assert (bill.disk_gib, bill.disk_gib_seconds_at_least, bill.disk_gib_seconds_at_most) == (100, 40_000, 46_100)
    assert receipt(DONE, [held], NOW).machines[0].disk_gib is None


AGES = st.floats(0, 10**6)


@given(
    running=AGES,
    lives=AGES,
    seen_late=AGES,
    skew=st.floats(-(10**5), 10**5),
    signs=st.lists(st.floats(0, 1), max_size=4).map(sorted),
    shown=st.lists(st.floats(0, 1), max_size=2),
    lag=st.floats(0, LISTING_LAG),
    dollars=st.floats(0, 100),
)
def test_the_bounds_contain_the_truth(
    running: float,
    lives: float,
    seen_late: float,
    skew: float,
    signs: list[float],
    shown: list[float],
    lag: float,
    dollars: float,
) -> None:
    """The pending time, the delay of the listings and the error of the machine's clock may have any value."""
    began, ended = NOW + running, NOW + running + lives
    truth = max(MINIMUM_SECONDS, lives)
    mine = machine(price=Price(dollars, "test", NOW), ending_at=ended + seen_late, ended_at=ended + seen_late)
    listings = (began + share * lives for share in shown)
    mine = replace(mine, running_at=next(listings, None), alive_at=next((at + lag for at in listings), None))
    times = [began + sign * lives + skew for sign in signs]
    held = Assignment(node(report=_report(times) if times else None), mine)
    (bill,) = receipt(ENDED, [held], NOW).machines
    # A float of seconds since 1970 is exact to a quarter of a microsecond.
    assert bill.seconds_at_least <= truth + 1e-3
    assert truth <= bill.seconds_at_most
    assert (bill.dollars_at_least or 0.0) <= truth * dollars / 3600 + 1e-6
    assert truth * dollars / 3600 <= (bill.dollars_at_most or 0.0)


def _report(times: list[float]) -> Report:
    """Return a report with these times for boot and the later steps."""
    told = {Step.BOOT.value: Span(NOW, times[0])}
    told |= {step.value: Span(at) for step, at in zip((Step.PULL, Step.COMMAND), times[1:], strict=False)}
    return Report(1, times[-1], "p", Step.PULL, told)


def test_the_sum_rounds_up() -> None:
    """Amounts are rounded up to a millionth of a dollar, never down."""
    cheap = Price(1e-7, "test", NOW)
    made = receipt(ENDED, [Assignment(node(), machine(price=cheap, ended_at=NOW + 100))], NOW)
    assert made.dollars_at_most == 1e-6
    assert made.dollars_at_least == 0.0
    assert math.isfinite(made.dollars_at_most)
    assert replace(made).machines == made.machines


def test_absurd_times_of_a_hostile_machine_stay_its_own() -> None:
    """A hostile machine can falsify its own lower bound, but not exceed the upper bound or break the receipt."""
    for hostile in (-(2.0**53), 2.0**53):
        report = Report(1, -hostile, "p", Step.COMMAND, {"boot": Span(hostile, hostile), "command": Span(-hostile)})
        mine: tuple[Node, KnownMachine] = node(report=report), machine(ended_at=NOW + 100)
        (bill,) = receipt(ENDED, [Assignment(*mine)], NOW).machines
        assert 0 <= bill.seconds_at_least <= bill.seconds_at_most == 101


def test_machine_that_worked_for_two_attempts_is_billed_once() -> None:
    """Its phases of both attempts follow each other; `kept` is the time between them."""
    mine = machine(price=PRICE, launch_time=NOW, ending_at=NOW + 900, ended_at=NOW + 960)
    first = node(result=told(NOW + 40, NOW + 60, NOW + 100))
    later = {Step.BOOT.value: Span(NOW + 202, NOW + 202), Step.COMMAND.value: Span(NOW + 210, NOW + 880)}
    again = replace(told(NOW + 40, NOW + 60, NOW + 880), attempt=2, spans=later)
    second = node(id="r1.2.0", attempt=2, reused=True, bound_at=NOW + 200, work_put_at=NOW + 201, result=again)
    run = replace(ENDED, attempt=2, done_at=NOW + 970)
    made = receipt(run, [Assignment(second, mine), Assignment(first, mine)], NOW + 1000, a_launch())
    [bill] = made.machines
    assert (bill.attempt, bill.seconds_at_least, bill.seconds_at_most) == (1, 840, 901)
    times = [(attempt, name, began) for attempt, name, began, _ in line(made)]
    assert times[times.index((1, "kept", 100.0)) :] == [
        (1, "kept", 100.0),
        (2, "kept", 200.0),
        (2, "command", 210.0),
        (2, "ending", 880.0),
        (2, "gone", 900.0),
        (2, "closing", 960.0),
    ]
