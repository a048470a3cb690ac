"""What the answer to a launch changes, and machines that a restored store finds."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.cloud.launches import Refusal
from provisioner.core.errors import (
    CloudError,
    Misconfigured,
    NeedsOperator,
    NoCapacity,
    QuotaExceeded,
    Throttled,
    Transient,
)
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.launch_answers import LONGEST, LONGEST_OURS, REMEMBERED, adopted, unfilled
from provisioner.core.run.records import Node, Run
from provisioner.core.run.states import State, Waiting
from tests.support.samples import NOW, SPOT_A, at_work, machine, node, run

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
        # Dry offers are left out of the next launch, which may come at once.
        ([Refusal(EMPTY, SPOT_A), Refusal(EMPTY, SPOT_B)], 1, Waiting.CAPACITY, 0, 0),
        ([Refusal(EMPTY, SPOT_A), Refusal(DENIED, SPOT_B)], 1, Waiting.CAPACITY, 0, 0),
        # A quota is the market's: named or not, the next market or a wait.
        ([Refusal(FULL)], 1, Waiting.QUOTA, 60, 0),
        ([Refusal(FULL, SPOT_A)], 1, Waiting.QUOTA, 60, 0),
        ([Refusal(FULL, SPOT_A), Refusal(EMPTY, SPOT_B)], 1, Waiting.QUOTA, 60, 0),
        ([Refusal(FULL, SPOT_A)], 2, Waiting.QUOTA, 0, 1),
        ([Refusal(EMPTY)], 2, Waiting.CAPACITY, 0, 1),
        ([Refusal(EMPTY)], 1, Waiting.CAPACITY, 30, 0),
        # Too many calls say nothing of a market.
        ([Refusal(SLOW)], 2, Waiting.THROTTLE, 2, 0),
        ([Refusal(FAULT)], 2, Waiting.THROTTLE, 2, 0),
        ([Refusal(FAULT, SPOT_A)], 2, Waiting.THROTTLE, 2, 0),
        # What this computer lacks, each market would lack.
        ([Refusal(SHORT)], 2, Waiting.OPERATOR, 2, 0),
        ([Refusal(SHORT, SPOT_A), Refusal(EMPTY, SPOT_B)], 1, Waiting.OPERATOR, 2, 0),
        # An answer without machine or reason, and what a look-up by tag did not find.
        ([], 1, Waiting.CAPACITY, 30, 0),
    ],
)
def test_each_answer_has_its_cause_its_wait_and_its_market(
    refusals: list[Refusal], tiers: int, cause: Waiting, wait: float, tier: int
) -> None:
    """And the run says what was tried and what it waits for."""
    waits = after(*refusals, tiers=tiers)
    assert (waits.state, waits.launch) == (State.QUEUED, "")
    assert (waits.waiting, waits.next_try_at - NOW, waits.tier) == (cause, wait, tier)
    assert waits.waiting_for
    assert [each.what for each in waits.tried] == [str(each.offer or "the whole request") for each in refusals]


def test_what_can_never_work_is_refused_verbatim() -> None:
    """When nothing else was said: no try can help."""
    refused = after(Refusal(DENIED))
    assert refused.state is State.STOPPING
    assert refused.verdict
    assert (refused.verdict.outcome, refused.verdict.reason) == (Outcome.REFUSED, "Unauthorized: denied")
    assert after(Refusal(DENIED, SPOT_A), Refusal(DENIED, SPOT_B)).state is State.STOPPING


def test_waits_double_to_the_longest_and_begin_anew_after_a_machine() -> None:
    """A dry cloud is asked ever more rarely."""
    waits, lengths = LAUNCHING, []
    for _ in range(20):
        waits = after(Refusal(EMPTY), before=replace(waits, state=State.LAUNCHING))
        lengths.append(waits.next_try_at - NOW)
    assert lengths[:5] == [30, 60, 120, 240, 480]
    assert set(lengths[5:]) == {LONGEST}


def test_what_was_tried_is_remembered_but_not_for_ever() -> None:
    """A reader sees the latest; a record of months does not grow."""
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
def test_no_answer_leads_to_hammering(refusals: list[Refusal], tiers: int, dry_launches: int) -> None:
    """A run tries again at once only if the next launch will ask for something else: another offer or market."""
    before = replace(LAUNCHING, dry_launches=dry_launches)
    waits = after(*refusals, tiers=tiers, before=before)
    if waits.state is State.QUEUED and waits.next_try_at == NOW:
        dried = any(each.offer and isinstance(each.error, NoCapacity | Misconfigured) for each in refusals)
        assert dried or waits.tier != before.tier
    assert waits.next_try_at <= NOW + LONGEST
    assert 0 <= waits.tier < tiers


def test_waits_for_this_computer_to_be_mended_stay_short() -> None:
    """Its operator may mend it at any time, and the run begins soon after."""
    waiting = LAUNCHING
    for _ in range(20):
        waiting = replace(after(Refusal(SHORT), before=waiting), state=State.LAUNCHING)
    assert waiting.next_try_at == NOW + LONGEST_OURS


# Adoption


def test_a_machine_of_an_unknown_attempt_is_adopted() -> None:
    """The run goes on there; its earlier attempt, which the store calls at work, is over."""
    before = at_work(State.RUNNING)
    records = adopted(before, [node()], 2, machine(id="i-2", launch="l2"), "A:i-2", 7, NOW)
    (taken,) = [each for each in records if isinstance(each, Run)]
    assert (taken.state, taken.attempt, taken.launch) == (State.BOOTING, 2, "l2")
    first, second = [each for each in records if isinstance(each, Node)]
    assert first.verdict is not None
    assert (first.attempt, first.verdict.outcome) == (1, Outcome.LOST)
    assert (second.attempt, second.instance_id, second.box, second.work_put_at) == (2, "i-2", "A:i-2", NOW)


@pytest.mark.parametrize("state", [State.QUEUED, State.LAUNCHING, State.BOOTING, State.STOPPING])
def test_a_run_is_adopted_in_every_state_before_its_end(state: State) -> None:
    records = adopted(run(state=state), [], 1, machine(), "A:i-1", 1, NOW)
    assert [each.state for each in records if isinstance(each, Run)] == [State.BOOTING]


def test_a_known_attempt_and_an_ended_run_are_not_adopted() -> None:
    assert adopted(at_work(), [node()], 1, machine(), "A:i-1", 1, NOW) == []
    assert adopted(at_work(ended_at=NOW), [], 2, machine(), "A:i-1", 1, NOW) == []
