"""Effects of a launch's answer on its runs, and machines that a restored store finds."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.cloud.launches import LaunchRequest, Refusal
from provisioner.core.cloud.offers import Market
from provisioner.core.errors import (
    CloudError,
    Misconfigured,
    NeedsOperator,
    NoCapacity,
    QuotaExceeded,
    Throttled,
    Transient,
)
from provisioner.core.protocol.messages import Stop
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.launch_answers import LONGEST, LONGEST_OURS, REMEMBERED, Found, adopted, answered, unfilled
from provisioner.core.run.records import Event, KnownMachine, Launch, Node, Record, Run
from provisioner.core.run.states import State, Waiting
from tests.support.samples import NOW, SPOT_A, at_work, machine, node, run, site

SPOT_B = replace(SPOT_A, zone="b")
LAUNCHING = run(state=State.LAUNCHING, launch="l1")
EMPTY, FULL, DENIED = NoCapacity("none", "ICE"), QuotaExceeded("full", "Max"), Misconfigured("denied", "Unauthorized")
SHORT = NeedsOperator("no file left", "EMFILE")
SLOW, FAULT = Throttled("slow", "RequestLimitExceeded"), Transient("oops", "InternalError")


def after(*refusals: Refusal, tiers: int = 1, before: Run = LAUNCHING) -> Run:
    return unfilled(before, refusals, tiers, NOW)


@pytest.mark.parametrize(
    ("refusals", "tiers", "cause", "wait", "tier"),
    [
        # The next launch omits dry offers, so it may come at once.
        ([Refusal(EMPTY, SPOT_A), Refusal(EMPTY, SPOT_B)], 1, Waiting.CAPACITY, 0, 0),
        ([Refusal(EMPTY, SPOT_A), Refusal(DENIED, SPOT_B)], 1, Waiting.CAPACITY, 0, 0),
        # A quota belongs to the market: the next market is tried, or the run waits.
        ([Refusal(FULL)], 1, Waiting.QUOTA, 60, 0),
        ([Refusal(FULL, SPOT_A)], 1, Waiting.QUOTA, 60, 0),
        ([Refusal(FULL, SPOT_A), Refusal(EMPTY, SPOT_B)], 1, Waiting.QUOTA, 60, 0),
        ([Refusal(FULL, SPOT_A)], 2, Waiting.QUOTA, 0, 1),
        ([Refusal(EMPTY)], 2, Waiting.CAPACITY, 0, 1),
        ([Refusal(EMPTY)], 1, Waiting.CAPACITY, 30, 0),
        # Throttling says nothing about a market.
        ([Refusal(SLOW)], 2, Waiting.THROTTLE, 2, 0),
        ([Refusal(FAULT)], 2, Waiting.THROTTLE, 2, 0),
        ([Refusal(FAULT, SPOT_A)], 2, Waiting.THROTTLE, 2, 0),
        # A shortage of this computer affects every market.
        ([Refusal(SHORT)], 2, Waiting.OPERATOR, 2, 0),
        ([Refusal(SHORT, SPOT_A), Refusal(EMPTY, SPOT_B)], 1, Waiting.OPERATOR, 2, 0),
        # An empty answer, or a launch without machines found by tag.
        ([], 1, Waiting.CAPACITY, 30, 0),
    ],
)
def test_answer_sets_cause_wait_and_market(
    refusals: list[Refusal], tiers: int, cause: Waiting, wait: float, tier: int
) -> None:
    """The run records the offers tried and what it waits for."""
    waits = after(*refusals, tiers=tiers)
    assert (waits.state, waits.launch) == (State.QUEUED, "")
    assert (waits.waiting, waits.next_try_at - NOW, waits.tier) == (cause, wait, tier)
    assert waits.waiting_for
    assert [each.what for each in waits.tried] == [str(each.offer or "all offers") for each in refusals]


def test_permanent_refusal_refuses_the_run_with_its_code() -> None:
    """If every refusal is permanent, no retry can help."""
    refused = after(Refusal(DENIED))
    assert refused.state is State.STOPPING
    assert refused.verdict
    assert (refused.verdict.outcome, refused.verdict.reason) == (Outcome.REFUSED, "Unauthorized: denied")
    assert after(Refusal(DENIED, SPOT_A), Refusal(DENIED, SPOT_B)).state is State.STOPPING


def test_waits_double_to_the_longest_and_begin_anew_after_a_machine() -> None:
    """A cloud without capacity is tried less and less often."""
    waits, lengths = LAUNCHING, []
    for _ in range(20):
        waits = after(Refusal(EMPTY), before=replace(waits, state=State.LAUNCHING))
        lengths.append(waits.next_try_at - NOW)
    assert lengths[:5] == [30, 60, 120, 240, 480]
    assert set(lengths[5:]) == {LONGEST}


def test_number_of_recorded_tries_is_bounded() -> None:
    """The latest tries are kept; the record does not grow for months."""
    waits = LAUNCHING
    for number in range(REMEMBERED + 5):
        waits = after(Refusal(NoCapacity("none", f"c{number}"), SPOT_A), before=replace(waits, state=State.LAUNCHING))
    assert [each.code for each in waits.tried] == [f"c{number}" for number in range(5, REMEMBERED + 5)]


ERRORS: st.SearchStrategy[CloudError] = st.sampled_from([EMPTY, FULL, DENIED, SLOW, FAULT])


@given(
    st.lists(st.builds(Refusal, ERRORS, st.sampled_from([None, SPOT_A, SPOT_B])), max_size=4),
    st.integers(1, 2),
    st.integers(0, 10**6),
)
def test_immediate_retry_needs_another_offer_or_market(refusals: list[Refusal], tiers: int, dry_launches: int) -> None:
    """A run retries at once only if the next launch has another offer or market."""
    before = replace(LAUNCHING, dry_launches=dry_launches)
    waits = after(*refusals, tiers=tiers, before=before)
    if waits.state is State.QUEUED and waits.next_try_at == NOW:
        dried = any(each.offer and isinstance(each.error, NoCapacity | Misconfigured) for each in refusals)
        assert dried or waits.tier != before.tier
    assert waits.next_try_at <= NOW + LONGEST
    assert 0 <= waits.tier < tiers


def test_waits_for_this_computer_to_be_mended_stay_short() -> None:
    """An operator may fix the computer at any time, so the run starts soon afterwards."""
    waiting = LAUNCHING
    for _ in range(20):
        waiting = replace(after(Refusal(SHORT), before=waiting), state=State.LAUNCHING)
    assert waiting.next_try_at == NOW + LONGEST_OURS


# Runs with several machines

GANG = Launch(
    LaunchRequest("l1", site().template, Market.SPOT, (SPOT_A,), {"a": "subnet-a"}, 3, {}, together=True), ("r1",), NOW
)


def answer(*ids: str, before: Run = LAUNCHING, refusals: tuple[Refusal, ...] = ()) -> list[Record]:
    return answered(GANG, [before], [machine(id=id) for id in ids], refusals, {}, 7, NOW)


def test_each_rank_gets_a_machine() -> None:
    """All ranks of the attempt are stored in one transaction with the run and the launch."""
    records = answer("i-1", "i-2", "i-3")
    nodes = [each for each in records if isinstance(each, Node)]
    assert [(each.id, each.rank, each.instance_id, each.attempt) for each in nodes] == [
        ("r1.1.0", 0, "i-1", 1),
        ("r1.1.1", 1, "i-2", 1),
        ("r1.1.2", 2, "i-3", 1),
    ]
    assert [each.state for each in records if isinstance(each, Run)] == [State.BOOTING]
    assert not [each for each in records if isinstance(each, KnownMachine) and each.end_wanted_at]
    [event] = [each for each in records if isinstance(each, Event)]
    assert event.text == "attempt 1: i-1, i-2, i-3, spot g5.xlarge in a"


def test_too_few_machines_are_terminated_and_the_run_waits() -> None:
    """A part of the machines cannot work; a next launch requests all of them again."""
    records = answer("i-1", "i-2", refusals=(Refusal(EMPTY, SPOT_A),))
    machines = [each for each in records if isinstance(each, KnownMachine)]
    assert [(each.id, each.end_wanted_for) for each in machines] == [
        ("i-1", "the run needs 3 machines, but got only 2"),
        ("i-2", "the run needs 3 machines, but got only 2"),
    ]
    [waits] = [each for each in records if isinstance(each, Run)]
    assert (waits.state, waits.waiting, waits.attempt) == (State.QUEUED, Waiting.CAPACITY, 0)
    assert not [each for each in records if isinstance(each, Node)]


def test_machines_of_a_run_that_no_longer_waits_are_terminated() -> None:
    """It was stopped while the call was made."""
    records = answer("i-1", "i-2", "i-3", before=replace(LAUNCHING, state=State.STOPPING))
    ended = [each.end_wanted_for for each in records if isinstance(each, KnownMachine)]
    assert ended == ["no run needs it"] * 3


# Adoption


def test_a_machine_of_an_unknown_attempt_is_adopted() -> None:
    """The run continues on this machine. Its earlier attempt, which the store shows at work, ends as lost."""
    before = at_work(State.RUNNING)
    records = adopted(before, [node()], 2, [Found(0, machine(id="i-2", launch="l2"), "A:i-2")], 7, NOW)
    (taken,) = [each for each in records if isinstance(each, Run)]
    assert (taken.state, taken.attempt, taken.launch) == (State.BOOTING, 2, "l2")
    first, second = [each for each in records if isinstance(each, Node)]
    assert first.verdict is not None
    assert (first.attempt, first.verdict.outcome) == (1, Outcome.LOST)
    assert (second.attempt, second.instance_id, second.box, second.work_put_at) == (2, "i-2", "A:i-2", NOW)


@pytest.mark.parametrize("state", [State.QUEUED, State.LAUNCHING, State.BOOTING, State.STOPPING])
def test_a_run_is_adopted_in_every_state_before_its_end(state: State) -> None:
    records = adopted(run(state=state), [], 1, [Found(0, machine(), "A:i-1")], 1, NOW)
    assert [each.state for each in records if isinstance(each, Run)] == [State.BOOTING]


def test_all_ranks_of_an_unknown_attempt_are_adopted_together() -> None:
    """After the first rank is adopted, the store knows the attempt, and the other ranks would not be adopted."""
    found = [Found(rank, machine(id=f"i-{rank}"), f"A:i-{rank}") for rank in (0, 1)]
    stopped = replace(run(scale=2), ranks_stop=Stop(Outcome.CANCELLED, "", NOW))
    records = adopted(stopped, [], 1, found, 7, NOW)
    nodes = [each for each in records if isinstance(each, Node)]
    assert [(each.rank, each.instance_id, each.box) for each in nodes] == [(0, "i-0", "A:i-0"), (1, "i-1", "A:i-1")]
    assert len({each.id for each in nodes}) == 2
    [taken] = [each for each in records if isinstance(each, Run)]
    assert (taken.attempt, taken.ranks_stop) == (1, None)
    assert sum(isinstance(each, KnownMachine) for each in records) == 2


def test_a_known_attempt_and_an_ended_run_are_not_adopted() -> None:
    assert adopted(at_work(), [node()], 1, [Found(0, machine(), "A:i-1")], 1, NOW) == []
    assert adopted(at_work(ended_at=NOW), [], 2, [Found(0, machine(), "A:i-1")], 1, NOW) == []
