"""`provision status` on a terminal for each kind of run, at 80 and at 60 columns."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from provisioner.core.cloud.machines import MachineState
from provisioner.core.cloud.offers import Market, Offer, Price
from provisioner.core.cost.receipt import receipt
from provisioner.core.protocol.messages import Notice, Stop
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.machines.silence import SILENT
from provisioner.core.run.records import Assignment, Event, Run, Tried, Verdict
from provisioner.core.run.states import State, Waiting
from provisioner.core.views import from_records
from provisioner.faces.cli.terminal import screen
from provisioner.faces.cli.terminal.story import RANKS, story
from tests.support import samples
from tests.support.samples import NOW

LATER = NOW + 300
PRICE = Price(0.45, "EC2 DescribeSpotPriceHistory", NOW - 600)
TRIED = (
    Tried("spot g5.xlarge in b", "InsufficientInstanceCapacity", NOW + 100),
    Tried("spot g5.xlarge in c", "InsufficientInstanceCapacity", NOW + 100),
    Tried("spot g5.xlarge in b", "InsufficientInstanceCapacity", NOW + 280),
)
NO_CAPACITY = (
    "InsufficientInstanceCapacity: There is no capacity for the requested instance type in this Availability Zone."
)
BOUND = "attempt 1: i-1, spot g5.xlarge in a"
TAKEN = "AWS takes the spot machine back; the command died of SIGTERM (exit code 143)"


def told(run: Run, *held: Assignment, width: int | None = 80, **events: str) -> list[str]:
    """Return the lines of a status; the keyword `_12` is the text of an event 12 s after the trigger."""
    happened = [Event("e", run.id, run.created_at + float(at[1:]), text) for at, text in events.items()]
    nodes, machines = [each.node for each in held], [each.machine for each in held]
    status = from_records.status(run, nodes, machines, happened, LATER)
    return list(story(status, from_records.receipt(receipt(run, held, {}, LATER)), LATER, width))


def at_work(step: Step = Step.COMMAND, heard: float = 3.0, **report: object) -> Assignment:
    """Return an assignment whose agent last reported `heard` seconds before LATER."""
    said = samples.report(step, began=NOW + 30, at=LATER - heard, **report)  # type: ignore[arg-type]
    node = {"report": said, "reported_at": LATER - heard}
    return samples.held(node, running_at=NOW + 10, state=MachineState.RUNNING, price=PRICE)


def over(outcome: Outcome, reason: str, code: int | None = None) -> Assignment:
    verdict = Verdict(outcome, reason, NOW + 60, code)
    gone = {"state": MachineState.TERMINATED, "ending_at": NOW + 61, "ended_at": NOW + 65, "price": PRICE}
    return samples.held({"verdict": verdict, "report": samples.report(Step.COMMAND)}, **gone)


def rank(number: int, step: Step = Step.BARRIER) -> Assignment:
    """Return the assignment of a rank of a run with several machines."""
    held = at_work(step)
    return Assignment(
        replace(held.node, rank=number, id=f"r1.1.{number}", instance_id=f"i-{number}"),
        replace(held.machine, id=f"i-{number}"),
    )


QUEUED = samples.run(waiting=Waiting.CAPACITY, waiting_for=NO_CAPACITY, tried=TRIED, next_try_at=LATER + 12)
STOPPED = Stop(Outcome.CANCELLED, "stopped by a user", LATER - 20)
SILENCE = at_work(heard=SILENT + 20)
INTERRUPTED = Verdict(Outcome.INTERRUPTED, TAKEN, NOW + 60, 143)
SUCCEEDED = Verdict(Outcome.SUCCEEDED, "the command exited with 0", NOW + 60, 0)
ENDED = {"ended_at": NOW + 61, "certain_at": NOW + 61, "done_at": NOW + 65}

RUNS: Mapping[str, list[str]] = {
    "dry": told(QUEUED, _0="queued: triggered", _1=f"no machine (capacity: {NO_CAPACITY})"),
    "running": told(
        samples.at_work(),
        at_work(produced={"output": 1_234_567, "setup": 20}, shipped={"output": 1_230_000, "setup": 20}),
        _0="queued: triggered",
        _1=BOUND,
    ),
    "noticed": told(samples.at_work(), at_work(notice=Notice(LATER + 45, LATER - 75)), _1=BOUND),
    "retrying": told(
        samples.at_work(State.QUEUED, verdict=INTERRUPTED, next_try_at=LATER - 1),
        over(Outcome.INTERRUPTED, TAKEN, 143),
        _1=BOUND,
        _90000="queued: next attempt",
    ),
    "failed": told(samples.at_work(State.STOPPING), over(Outcome.FAILED, "exited after 10 s", 1)),
    "lost": told(
        samples.at_work(State.DONE, verdict=Verdict(Outcome.LOST, "the machine fell silent", NOW + 60), **ENDED),
        over(Outcome.LOST, "the machine fell silent"),
    ),
    "succeeded": told(
        samples.at_work(State.DONE, verdict=SUCCEEDED, **ENDED), over(Outcome.SUCCEEDED, "the command exited with 0", 0)
    ),
    "stopped": told(
        samples.at_work(stop=STOPPED),
        replace(SILENCE, node=replace(SILENCE.node, stop_put_at=LATER - 19)),
        _1=BOUND,
    ),
    "boots": told(samples.at_work(State.BOOTING), samples.held(), _1=BOUND),
    "bound": told(samples.at_work(State.BOOTING), samples.held({"work_put_at": None}), _1=BOUND),
}

#: Lines that must be present. A line with a local time is listed only up to that time.
SAYS = (
    ("dry", "now        queued for 5 min 0 s"),
    ("dry", "waits      capacity: InsufficientInstanceCapacity: There is no capacity for the"),
    ("dry", "           requested instance type in this Availability Zone."),
    ("dry", "tried      spot g5.xlarge in c: InsufficientInstanceCapacity, 3 min 20 s ago"),
    ("dry", "           spot g5.xlarge in b: InsufficientInstanceCapacity, 2 times, last"),
    ("dry", "next try   in 12 s, at "),
    ("dry", "cost       none: no machine yet"),
    ("running", "now        running, attempt 1: command for 4 min 30 s"),
    ("running", "           log: output 1.2 MB, setup 20 B; 4.6 kB of it not in the bucket yet"),
    ("running", "           last report 3 s ago"),
    ("running", "cost       0.033375 to 0.037626 $, without disks; until now"),
    ("noticed", "           spot interruption at "),
    ("retrying", "now        queued again for 3 min 55 s"),
    ("retrying", "because    attempt 1 interrupted: AWS takes the spot machine back; the"),
    ("retrying", "next try   now"),
    ("failed", "           failed: exited after 10 s (exit code 1)"),
    ("lost", "outcome    lost: the machine fell silent"),
    ("succeeded", "outcome    succeeded: the command exited with 0"),
    ("succeeded", "cost       0.007500 to 0.007751 $, without disks"),
    ("stopped", "stop       stopped by a user, 20 s ago; SIGKILL follows SIGTERM after 30 s; if"),
    ("stopped", "           silent since "),
    ("boots", "           no report yet; without one by "),
    ("bound", "           waiting for the work order"),
)


@pytest.mark.parametrize(("name", "line"), SAYS)
def test_status_line_is_shown(name: str, line: str) -> None:
    """The status says what the run does and why, what was tried, what its machine reports, and the cost."""
    assert any(each.startswith(line) for each in RUNS[name]), "\n".join(RUNS[name])


def test_cost_is_shown_beside_the_limit_of_the_run() -> None:
    run, held = samples.at_work(), at_work()
    status = from_records.status(run, [held.node], [held.machine], [], LATER)
    bill = replace(receipt(run, [held], {}, LATER), cost_limit=0.25)
    lines = list(story(status, from_records.receipt(bill), LATER, 80))
    assert "cost       0.033375 to 0.037626 $ of limits.cost $0.25, without disks; until now" in lines


@pytest.mark.parametrize("name", RUNS)
def test_a_story_fits(name: str) -> None:
    """No line is wider than the terminal."""
    assert max(map(len, RUNS[name])) <= 80


def test_a_story_fits_a_narrow_terminal_too() -> None:
    """A long line is wrapped and indented; without a terminal it is not."""
    happened = f"no machine (capacity: {NO_CAPACITY})"
    narrow = told(QUEUED, width=60, _200=happened)
    assert max(map(len, narrow)) <= 60
    assert narrow[-1].startswith(" " * 25)
    assert told(QUEUED, width=None, _200=happened)[-1].endswith(f"(capacity: {NO_CAPACITY})")


def test_control_characters_in_reasons_are_escaped() -> None:
    """Reasons come from machines, so control characters are escaped."""
    verdict = Verdict(Outcome.REFUSED, "no \x1b[2J image\n\n", NOW + 60)
    lines = told(
        samples.at_work(State.DONE, verdict=verdict, **ENDED), over(Outcome.REFUSED, "\x07"), _1="\x1b]0;title"
    )
    assert all(line.isprintable() for line in lines)


def test_another_day_is_said() -> None:
    """Times are shown without a date; a line with the date precedes the first time of another day."""
    assert any(len(line) == 10 and line.count("-") == 2 for line in RUNS["retrying"])


def test_unknown_cost_names_the_offer_without_a_price() -> None:
    machine = samples.held({"report": samples.report(Step.COMMAND)}, running_at=NOW + 10, state=MachineState.RUNNING)
    lines = told(samples.at_work(), machine)
    assert "cost       unknown (no price for spot g5.xlarge)" in lines


def in_reservation(price: Price | None) -> Assignment:
    held, offer = at_work(), Offer(Market.RESERVED, "p5.48xlarge", "a")
    return Assignment(held.node, replace(held.machine, offer=offer, price=price, reservation="cr-0a"))


def test_machine_in_a_reservation_is_marked_as_paid() -> None:
    text = " ".join(told(samples.at_work(), in_reservation(Price(55.04, "AWS Price List", NOW)), width=None))
    assert "i-1, reserved p5.48xlarge in a, 55.04 $/h, paid with the reservation cr-0a" in text
    assert "without disks; already paid for all machines by reservations" in text


def test_machine_in_a_capacity_block_has_no_price() -> None:
    text = " ".join(told(samples.at_work(), in_reservation(None), width=None))
    assert "paid with the reservation cr-0a, which has no price by the hour" in text
    assert "i-1, reserved p5.48xlarge in a, paid with the reservation cr-0a" in text


def test_receipt_marks_the_price_of_a_reserved_machine_as_paid(capsys: pytest.CaptureFixture[str]) -> None:
    held = in_reservation(Price(55.04, "AWS Price List", NOW))
    screen.receipt(from_records.receipt(receipt(samples.at_work(), [held], {}, LATER)))
    text = capsys.readouterr().out
    assert "reserved p5.48xlarge a" in text
    assert "55.04 $/h (AWS Price List), paid with cr-0a" in text


def test_each_rank_has_its_machine_and_the_line_says_whom_the_others_wait_for() -> None:
    preparing = samples.at_work(State.PREPARING, scale=3)
    lines = told(preparing, rank(0), rank(1, Step.SETUP), rank(2), width=None)
    assert any(line.startswith("now ") and line.endswith(": waiting for rank 1: setup") for line in lines), lines
    machines = [line for line in lines if "spot g5.xlarge in a, 0.45 $/h" in line]
    assert [line.split()[:3] for line in machines] == [
        ["attempt", "1", "rank"],
        ["rank", "1:", "i-1,"],
        ["rank", "2:", "i-2,"],
    ]


def test_large_run_shows_its_first_ranks() -> None:
    """The JSON output has all ranks."""
    lines = told(samples.at_work(scale=40), *[rank(number, Step.COMMAND) for number in range(40)], width=None)
    assert sum("spot g5.xlarge in a" in line for line in lines) == RANKS
    assert any("and 24 more ranks; --json has all" in line for line in lines)
