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
from provisioner.core.run.launch_answers import LONGEST, REMEMBERED, Found, adopted, answered, unfilled
from provisioner.core.run.records import Event, KnownMachine, Launch, Node, Record, Run
from provisioner.core.run.states import State, Waiting
from tests.support.samples import NOW, SPOT_A, at_work, machine, node, run, site

SPOT_B = replace(SPOT_A, zone="b")
LAUNCHING = run(state=State.LAUNCHING, launch="l1")
EMPTY, FULL, DENIED = NoCapacity("none", "ICE"), QuotaExceeded("full", "Max"), Misconfigured("denied", "Unauthorized")
SHORT = NeedsOperator("the token has expired; log in", "ExpiredToken")
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
        # A fault that a person must end affects every market.
        ([Refusal(SHORT)], 2, Waiting.OPERATOR, 60, 0),
        ([Refusal(SHORT, SPOT_A), Refusal(EMPTY, SPOT_B)], 1, Waiting.OPERATOR, 60, 0),
        ([Refusal(SHORT, SPOT_A), Refusal(FULL, SPOT_B)], 1, Waiting.OPERATOR, 60, 0),
        ([Refusal(SHORT, SPOT_A), Refusal(DENIED, SPOT_B)], 1, Waiting.OPERATOR, 60, 0),
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


ERRORS: st.SearchStrategy[CloudError] = st.sampled_from([EMPTY, FULL, DENIED, SHORT, SLOW, FAULT])


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


def lengths_of_waits(error: CloudError, tries: int, before: Run = LAUNCHING, tiers: int = 1) -> list[float]:
    """Return how long the run waits after each of these tries, which all fail with this error."""
    lengths, now = [], NOW
    for _ in range(tries):
        waits = unfilled(before, [Refusal(error, SPOT_A), Refusal(error, SPOT_B)], tiers, now)
        lengths.append(waits.next_try_at - now)
        before, now = replace(waits, state=State.LAUNCHING), waits.next_try_at
    return lengths


@pytest.mark.parametrize("tiers", [1, 2])
def test_waits_for_the_operator_double_from_one_minute_to_ten(tiers: int) -> None:
    """A new login is noticed within minutes, and a night without credentials takes few calls."""
    assert lengths_of_waits(SHORT, 7, tiers=tiers) == [60, 120, 240, 480, 600, 600, 600]


def test_waits_for_the_operator_do_not_lengthen_those_for_capacity() -> None:
    """And the other way round: each kind of wait begins with its own shortest one."""
    dry = LAUNCHING
    for _ in range(5):
        dry = replace(after(Refusal(EMPTY), before=dry), state=State.LAUNCHING)
    assert lengths_of_waits(SHORT, 1, before=dry) == [60]
    later = replace(after(Refusal(SHORT), before=LAUNCHING), state=State.LAUNCHING)
    assert after(Refusal(EMPTY), before=later).next_try_at - NOW == 30


# Quotas

BIG, SMALL = replace(SPOT_A, instance_type="g5.12xlarge"), replace(SPOT_A, instance_type="g5.xlarge")
VCPUS = {"g5.12xlarge": 48}


def quota(vcpus: int | None = None, machines: int | None = None) -> QuotaExceeded:
    return QuotaExceeded("exceeded", "Max", vcpus=vcpus, machines=machines)


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (quota(vcpus=47), "Max: exceeded; g5.12xlarge needs 48 vCPUs"),
        (quota(vcpus=0), "Max: exceeded; g5.12xlarge needs 48 vCPUs"),
        (quota(vcpus=48), ""),
        (quota(), ""),
        (quota(machines=0), "Max: exceeded; the run needs 1 machine"),
        (quota(machines=1), ""),
    ],
)
def test_quota_that_can_never_be_enough_refuses_the_run_with_the_figures(error: QuotaExceeded, refused: str) -> None:
    """A run that waited for such a quota would wait for ever. Without a number the run waits."""
    waits = unfilled(LAUNCHING, [Refusal(error, BIG)], 1, NOW, VCPUS)
    assert (waits.verdict.reason if waits.verdict else "") == refused
    assert waits.waiting is (None if refused else Waiting.QUOTA)


def test_quota_is_compared_with_all_machines_of_a_run_that_start_together() -> None:
    gang = replace(LAUNCHING, scale=4)
    assert unfilled(gang, [Refusal(quota(vcpus=192), BIG)], 1, NOW, VCPUS).waiting is Waiting.QUOTA
    refused = unfilled(gang, [Refusal(quota(vcpus=191), BIG)], 1, NOW, VCPUS)
    assert refused.verdict
    assert refused.verdict.reason == "Max: exceeded; 4 machines of g5.12xlarge need 192 vCPUs"


def test_quota_of_zero_refuses_a_type_whose_vcpus_are_unknown() -> None:
    assert unfilled(LAUNCHING, [Refusal(quota(vcpus=0), BIG)], 1, NOW).verdict
    assert not unfilled(LAUNCHING, [Refusal(quota(vcpus=8), BIG)], 1, NOW).verdict


def test_quota_refuses_nothing_while_another_type_may_fit() -> None:
    """The launch also requested a smaller type, or one of which EC2 has no capacity at the moment."""
    both = VCPUS | {"g5.xlarge": 4}
    alone = [Refusal(quota(vcpus=8), BIG)]
    assert unfilled(LAUNCHING, alone, 1, NOW, both).waiting is Waiting.QUOTA
    assert unfilled(LAUNCHING, [*alone, Refusal(EMPTY, SMALL)], 1, NOW, both).waiting is Waiting.QUOTA
    assert unfilled(LAUNCHING, [Refusal(quota(vcpus=8))], 1, NOW, both).waiting is Waiting.QUOTA
    assert unfilled(LAUNCHING, [*alone, Refusal(quota(vcpus=3), SMALL)], 1, NOW, both).verdict


def test_too_small_quota_refuses_a_type_of_which_another_zone_lacks_capacity() -> None:
    """The quota is the region's, so capacity in that zone would not help."""
    elsewhere = replace(BIG, zone="b")
    assert unfilled(LAUNCHING, [Refusal(quota(vcpus=8), BIG), Refusal(EMPTY, elsewhere)], 1, NOW, VCPUS).verdict


def test_run_with_a_fallback_is_refused_only_when_both_markets_quotas_are_too_small() -> None:
    """The spot quota of a new account is 0, while its on-demand quota may be enough."""
    refusals = [Refusal(quota(vcpus=0), BIG)]
    waits = unfilled(LAUNCHING, refusals, 2, NOW, VCPUS)
    assert (waits.waiting, waits.tier, waits.next_try_at) == (Waiting.QUOTA, 1, NOW)
    dry = unfilled(replace(waits, state=State.LAUNCHING), [Refusal(EMPTY, BIG)], 2, NOW, VCPUS)
    assert dry.verdict is None
    again = unfilled(replace(dry, state=State.LAUNCHING), refusals, 2, NOW, VCPUS)
    assert again.verdict is None
    assert unfilled(replace(again, state=State.LAUNCHING), refusals, 2, NOW, VCPUS).verdict


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
