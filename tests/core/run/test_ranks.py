"""The verdict on an attempt with several ranks: whose end counts, and when it is final."""

from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.cloud.machines import Ending
from provisioner.core.protocol.messages import Notice, Stop
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.progress import advance, orders
from provisioner.core.run.ranks import ACCOUNTING, CAUSE, NAMED
from provisioner.core.run.states import State
from tests.support.ranks import (
    EXECUTING,
    GONE,
    HEARD,
    IGNORANT,
    LED,
    PULLING,
    READY,
    SOUGHT,
    TOLD,
    WELL,
    code,
    ended,
    gang,
    later,
    outcome,
    ranks,
    reason,
    told,
)
from tests.support.samples import NOW, recipe, report, result


def test_run_succeeds_when_all_ranks_have_succeeded() -> None:
    """A rank that succeeds gets its verdict at once, which frees its machine; the others go on."""
    one = later(gang(), ranks(ended(Outcome.SUCCEEDED, 0), WELL, WELL), NOW + 101)
    assert one.run.state is State.RUNNING
    assert [each.rank for each in one.nodes] == [0]
    assert one.run.ranks_stop is None
    every = later(gang(), ranks(*[ended(Outcome.SUCCEEDED, 0)] * 3), NOW + 102)
    assert every.run.state is State.STOPPING
    assert (outcome(every), code(every)) == (Outcome.SUCCEEDED, 0)
    assert len(every.nodes) == 3


def test_failed_rank_stops_the_others_and_names_itself() -> None:
    """The verdict waits until the other ranks were heard after they had been told to stop."""
    failed = ranks(WELL, ended(code=7), WELL)
    first = later(gang(), failed, TOLD)
    assert (first.run.state, [each.rank for each in first.nodes]) == (State.RUNNING, [1])
    stop = orders(first.run).stop
    assert stop
    assert (stop.outcome, stop.at, stop.begin_at) == (Outcome.CANCELLED, TOLD, 0.0)
    assert later(first.run, failed, TOLD + 1).run is first.run
    final = later(first.run, ranks(HEARD, ended(code=7), HEARD), TOLD + 2)
    assert final.run.state is State.STOPPING
    assert (outcome(final), code(final)) == (Outcome.FAILED, 7)
    assert reason(final).startswith("rank 1: ")


def test_others_are_told_before_the_failed_rank_has_shipped_its_log() -> None:
    early = {"report": replace(EXECUTING, ended=Outcome.FAILED), "reported_at": NOW + 100}
    found = later(gang(), ranks(WELL, early, WELL), TOLD)
    assert found.run.ranks_stop
    assert (found.run.state, found.nodes) == (State.RUNNING, ())


def test_verdict_waits_for_the_result_of_the_rank_that_failed_first() -> None:
    """The others have ended because they were told to; their ends decide nothing."""
    early = {"report": replace(EXECUTING, ended=Outcome.FAILED), "reported_at": TOLD + 1}
    stopped = ended(Outcome.CANCELLED, 143)
    waits = later(told(gang()), ranks(stopped, early, stopped), TOLD + 3)
    assert waits.run.verdict is None
    final = later(told(gang()), ranks(stopped, ended(code=9), stopped), TOLD + 4)
    assert (outcome(final), code(final)) == (Outcome.FAILED, 9)


@pytest.mark.parametrize(
    ("spec", "own", "early"),
    [
        ({}, ended(code=137, at=NOW + 40), Outcome.FAILED),
        (LED, ended(Outcome.SUCCEEDED, 0, NOW + 40), Outcome.SUCCEEDED),
    ],
)
def test_verdict_waits_for_the_log_of_the_rank_that_ended_first(
    spec: dict[str, Any], own: dict[str, Any], early: Outcome
) -> None:
    """A peer that fails because of it has a shorter log."""
    shipping = {"report": replace(EXECUTING, ended=early), "reported_at": TOLD + 2}
    waits = later(told(gang(2)), ranks(shipping, ended(code=1, at=NOW + 41)), TOLD + 3, **spec)
    assert waits.run.verdict is None
    final = later(told(gang(2)), ranks(own, ended(code=1, at=NOW + 41)), TOLD + 30, **spec)
    assert outcome(final) is early
    assert reason(final).startswith("rank 0: ")


def test_ranks_that_were_all_told_to_stop_are_tried_again() -> None:
    """No user stopped the run, so a rank ended it. That rank left no result, so the attempt counts as lost."""
    found = later(told(gang(2)), ranks(*[ended(Outcome.CANCELLED, 143)] * 2), TOLD + 9)
    assert (outcome(found), found.run.ended_at) == (Outcome.LOST, None)


def test_first_of_two_failed_ranks_counts() -> None:
    """The codes of the other ranks are in the reason. The log of the first one was shipped last."""
    both = later(gang(2), ranks(ended(code=9, at=NOW + 60), ended(code=7, at=NOW + 50)), TOLD)
    assert code(both) == 7
    assert reason(both).endswith("(exit codes of other ranks: rank 0: 9)")


def test_process_that_died_of_a_signal_counts_before_failures_at_the_same_time() -> None:
    """A process that is killed makes its peers fail, and a peer's clock may be a second behind."""
    found = later(gang(2), ranks(ended(code=1, at=NOW + 50), ended(code=137, at=NOW + 52)), TOLD)
    assert code(found) == 137


def test_reason_names_the_exit_codes_of_few_ranks() -> None:
    many = later(gang(20), ranks(*[ended(code=number + 1, at=NOW + 50 + number) for number in range(20)]), TOLD)
    assert reason(many).endswith(f"rank {NAMED}: {NAMED + 1} and {19 - NAMED} more)")


@pytest.mark.parametrize(
    ("of_machine", "of_node", "expected"),
    [
        (GONE, {}, Outcome.LOST),
        (GONE | {"ending": Ending.INTERRUPTED}, {}, Outcome.INTERRUPTED),
        (GONE, {"report": report(Step.COMMAND, notice=Notice(NOW + 100, NOW))}, Outcome.INTERRUPTED),
    ],
)
def test_dead_machine_counts_before_the_failures_that_it_causes(
    of_machine: dict[str, Any], of_node: dict[str, Any], expected: Outcome
) -> None:
    """Its peers exit with 1 within seconds. The job is not to blame, so no retries are used up."""
    alive = ranks(WELL | of_node, ended(code=1), ended(code=1))
    first = later(gang(), alive, TOLD)
    assert first.run.state is State.RUNNING
    dead = ranks(WELL | of_node | SOUGHT, ended(code=1), ended(code=1), m0=of_machine)
    final = later(first.run, dead, TOLD + 6)
    assert (outcome(final), final.run.retries_used) == (expected, 0)
    assert reason(final).startswith("rank 0: ")


def test_rank_without_a_sign_of_life_is_lost_in_the_end() -> None:
    """EC2 may show a dead machine as running for minutes: after two minutes, its silence is enough."""
    silent = ranks(WELL, ended(code=1))
    assert later(told(gang(2)), silent, TOLD + ACCOUNTING - 1).run.state is State.RUNNING
    final = later(told(gang(2)), silent, TOLD + ACCOUNTING)
    assert (outcome(final), final.run.state) == (Outcome.LOST, State.STOPPING)


def test_silent_rank_is_lost_also_after_its_grace_period() -> None:
    """Its order to stop was put; without a sign of life, it does not count as a rank that was told to stop."""
    silent = ranks(WELL | {"stop_put_at": TOLD} | SOUGHT | {"result_sought_at": TOLD + 300}, ended(code=1))
    assert later(told(gang(2)), silent, TOLD + 95).run.verdict is None
    assert outcome(later(told(gang(2)), silent, TOLD + 301)) is Outcome.LOST


def test_rank_that_ships_a_large_log_keeps_its_outcome() -> None:
    """Its result is late; the order to stop, which it gets too, says nothing about it."""
    early = {"report": replace(EXECUTING, ended=Outcome.FAILED), "stop_put_at": TOLD, "result_sought_at": TOLD + 500}
    stopped = ended(Outcome.CANCELLED, 143)
    shipping = ranks(stopped, early | {"reported_at": TOLD + 400})
    assert later(told(gang(2)), shipping, TOLD + 500).run.verdict is None
    gone = ranks(stopped, early | {"reported_at": TOLD + 1, "result_sought_at": TOLD + 900})
    assert outcome(later(told(gang(2)), gone, TOLD + 900)) is Outcome.FAILED


def test_silence_proves_nothing_while_reports_cannot_be_read() -> None:
    """After an outage of S3, the ranks' next reports come some seconds later."""
    silent = ranks(WELL, ended(code=1))
    back = TOLD + ACCOUNTING + 60
    waits = advance(told(gang(2)), silent, recipe(scale=2), back, reports_unreadable_at=back - 1)
    assert waits.run.verdict is None


def test_machine_that_dies_long_after_the_first_failure_is_not_its_cause() -> None:
    """It was alive a minute after the failure."""
    alive = NOW + 51 + CAUSE
    sign = {"report": replace(EXECUTING, at=alive), "reported_at": alive, "result_sought_at": NOW + 200}
    stopped = gang(2, ranks_stop=Stop(Outcome.CANCELLED, "rank 1 has ended: failed", NOW + 51))
    final = later(stopped, ranks(sign, ended(code=7), m0=GONE | {"ended_at": NOW + 150}), NOW + 201)
    assert (outcome(final), code(final)) == (Outcome.FAILED, 7)


def test_order_of_failures_does_not_depend_on_the_delay_of_reports() -> None:
    """A rank's last report may have been read long after it was written."""
    first = ended(code=3, at=NOW + 50, report=report(Step.LOGS, at=NOW + 51), reported_at=NOW + 60)
    second = ended(code=1, at=NOW + 52, report=report(Step.LOGS, at=NOW + 59), reported_at=NOW + 60)
    assert code(later(gang(2), ranks(second, first), TOLD)) == 3


def test_failure_before_the_start_needs_no_sign_of_life() -> None:
    """No rank executes, so the silence of a booting machine explains nothing."""
    preparing = gang(state=State.PREPARING, start_order=0)
    wrong = {"result": result(Outcome.REFUSED, step=Step.PULL)}
    first = later(preparing, ranks({}, wrong, PULLING), TOLD)
    assert first.run.state is State.STOPPING
    assert outcome(first) is Outcome.REFUSED


def test_interrupted_run_is_done_if_all_ranks_are() -> None:
    """Each rank has made its PROVISION_DONE_FILE, or had exited with 0 before."""
    stopped = gang(2, ranks_stop=Stop(Outcome.INTERRUPTED, "EC2 interrupts the machine of rank 1", TOLD))
    done = ended(Outcome.SUCCEEDED, 0)
    assert outcome(later(stopped, ranks(done, done), TOLD + 9)) is Outcome.SUCCEEDED
    half = later(stopped, ranks(done, ended(Outcome.INTERRUPTED, 0)), TOLD + 9)
    assert (outcome(half), code(half), half.run.retries_used) == (Outcome.INTERRUPTED, None, 0)


def test_leader_decides() -> None:
    """With `success: leader`, the others are stopped when rank 0 ends, and their codes do not count."""
    first = later(gang(), ranks(ended(Outcome.SUCCEEDED, 0), WELL, WELL), TOLD, **LED)
    assert orders(first.run).stop
    assert outcome(first) is Outcome.SUCCEEDED
    assert first.run.state is State.STOPPING
    failed = later(told(gang()), ranks(ended(code=4), ended(Outcome.SUCCEEDED, 0), HEARD), TOLD + 2, **LED)
    assert (outcome(failed), code(failed)) == (Outcome.FAILED, 4)


def test_failure_of_a_worker_ends_the_run_unless_it_is_ignored() -> None:
    failed = ranks(WELL, ended(code=3), WELL)
    assert later(gang(), failed, TOLD, **LED).run.ranks_stop
    ignored = later(gang(), failed, TOLD, **IGNORANT)
    assert (ignored.run.ranks_stop, ignored.run.state) == (None, State.RUNNING)
    assert [each.rank for each in ignored.nodes] == [1]


def test_leader_that_was_told_to_stop_does_not_decide() -> None:
    """A worker has failed before, so the run has failed, and may be tried again."""
    held = ranks(ended(Outcome.CANCELLED, 143), ended(code=3), HEARD)
    final = later(told(gang()), held, TOLD + 2, **LED)
    assert (outcome(final), code(final)) == (Outcome.FAILED, 3)


def test_leader_that_fails_because_a_machine_died_is_not_to_blame() -> None:
    """With `workers: ignore` its code counts nevertheless: it was to go on without the worker."""
    dead = ranks(ended(code=1), WELL | SOUGHT, m1=GONE)
    assert outcome(later(told(gang(2)), dead, TOLD + 6, **LED)) is Outcome.LOST
    assert outcome(later(told(gang(2)), dead, TOLD + 6, **IGNORANT)) is Outcome.FAILED


def test_worker_that_ends_before_the_start_is_not_ignored() -> None:
    """The others would wait for it until `limits.gather` is over."""
    preparing = gang(state=State.PREPARING, start_order=0)
    failed = {"result": result(Outcome.FAILED, 9, Step.SETUP)}
    found = later(preparing, ranks(READY, failed, READY), TOLD, **IGNORANT)
    assert (outcome(found), code(found)) == (Outcome.FAILED, 9)


def test_notice_for_an_ignored_worker_stops_no_other_rank() -> None:
    noticed = {"report": replace(EXECUTING, notice=Notice(NOW + 220, NOW + 99)), "reported_at": NOW + 100}
    assert later(gang(), ranks(WELL, noticed, WELL), TOLD, **IGNORANT).run.ranks_stop is None
    assert later(gang(), ranks(noticed, WELL, WELL), TOLD, **IGNORANT).run.ranks_stop


def test_stop_by_a_user_has_precedence() -> None:
    """The ranks end one after the other, some with codes of their own."""
    stopped = gang(2, stop=Stop(Outcome.CANCELLED, "stop requested", NOW + 40))
    final = later(stopped, ranks(ended(Outcome.CANCELLED, 143), ended(code=1)), TOLD)
    assert outcome(final) is Outcome.CANCELLED
    assert final.run.ended_at is not None
    assert orders(final.run).stop == stopped.stop


def test_next_attempt_waits_until_every_rank_has_ended() -> None:
    """A rank that was told to stop still saves: two attempts must not execute at once."""
    stopping = told(gang(2, State.STOPPING))
    waits = later(stopping, ranks(HEARD, ended(code=1)), TOLD + 2)
    assert waits.run.state is State.STOPPING
    assert [each.rank for each in waits.nodes] == [1]
    over = later(stopping, ranks(ended(Outcome.CANCELLED, 143), ended(code=1)), TOLD + 3)
    assert over.run.state is State.QUEUED


def test_rank_without_a_work_order_ends_when_the_others_are_told() -> None:
    """It has nothing to save, and no result will come from it."""
    fresh = {"work_put_at": None, "result_sought_at": TOLD + 1}
    final = later(told(gang(2, start_order=0)), ranks(fresh, ended(code=1)), TOLD + 2)
    assert (outcome(final), len(final.nodes)) == (Outcome.FAILED, 2)


@pytest.mark.parametrize(
    ("earlier", "then", "counts"),
    [
        (Outcome.LOST, Outcome.REFUSED, Outcome.REFUSED),
        (Outcome.REFUSED, Outcome.TIMED_OUT, Outcome.TIMED_OUT),
        (Outcome.FAILED, Outcome.LOST, Outcome.LOST),
        (Outcome.FAILED, Outcome.INTERRUPTED, Outcome.INTERRUPTED),
    ],
)
def test_every_outcome_has_its_place(earlier: Outcome, then: Outcome, counts: Outcome) -> None:
    found = later(gang(2), ranks(ended(earlier, None), ended(then, None, NOW + 51)), TOLD)
    assert outcome(found) is counts
