"""The next state of one run, from its records."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.cloud.machines import Ending, MachineState
from provisioner.core.protocol.messages import Notice, Orders, Stop
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run import progress as moves
from provisioner.core.run.progress import advance
from provisioner.core.run.records import Assignment, Verdict
from provisioner.core.run.states import TRANSITIONS, State, Waiting
from tests.support.any_message import values
from tests.support.samples import NOW, at_work, held, machine, node, recipe, report, result, run

RECIPE = recipe(retries=1, limits={"queue_time": "10m", "boot": "5m", "runtime": "20m"})
STOP = Stop(Outcome.CANCELLED, "stopped by a user", NOW)
TERMINATED: dict[str, Any] = {"state": MachineState.TERMINATED, "ended_at": NOW + 9}
FAILED = Verdict(Outcome.FAILED, "why", NOW, 1)


def test_a_run_that_nothing_happened_to_stays_the_same_object() -> None:
    """An unchanged run is not stored again."""
    for still in (run(), run(state=State.LAUNCHING), at_work(State.BOOTING), run(state=State.DONE)):
        assert advance(still, [held()] if still.attempt else [], RECIPE, NOW + 1).run is still


def test_waiting_ends_with_its_time() -> None:
    """The reason has the limit and the cause. For a further attempt the time counts from the last verdict."""
    waiting = run(waiting=Waiting.CAPACITY, waiting_for="nothing free")
    assert advance(waiting, [], RECIPE, NOW + 599).run is waiting
    ended = advance(waiting, [], RECIPE, NOW + 600).run
    assert (ended.state, ended.ended_at) == (State.STOPPING, NOW + 600)
    assert ended.verdict
    assert ended.verdict.outcome is Outcome.TIMED_OUT
    assert "limits.queue_time of 10 min" in ended.verdict.reason
    assert "nothing free" in ended.verdict.reason
    second = run(verdict=replace(FAILED, at=NOW + 500), attempt=1)
    assert advance(second, [], RECIPE, NOW + 1000).run is second


@pytest.mark.parametrize("machine_clock_ahead", [-(10.0**6), -70.0, 0.0, 70.0, 10.0**9])
@pytest.mark.parametrize("reported", [False, True])
def test_queue_time_of_a_next_attempt_ignores_the_machines_clock(machine_clock_ahead: float, reported: bool) -> None:
    """A slow clock must not end the run early, and a fast one must not let it wait for ever."""
    failed = result(Outcome.FAILED, 1)
    there: dict[str, Any] = {"result": replace(failed, at=failed.at + machine_clock_ahead)}
    if reported:
        heard = report(Step.COMMAND)
        there |= {"report": replace(heard, at=heard.at + machine_clock_ahead), "reported_at": heard.at}
    judged = advance(at_work(), [held(there)], RECIPE, NOW + 300)
    assert judged.run.verdict
    assert judged.nodes
    assert judged.run.verdict == judged.nodes[0].verdict
    assert held().node.bound_at <= judged.run.verdict.at <= NOW + 300
    if reported:
        assert judged.run.verdict.at == failed.at


def test_a_stop_ends_a_waiting_run_at_once() -> None:
    """There is no machine to send the stop to."""
    ended = advance(run(stop=STOP), [], RECIPE, NOW + 1).run
    assert ended.state is State.STOPPING
    assert ended.verdict
    assert (ended.verdict.outcome, ended.verdict.exit_code) == (Outcome.CANCELLED, None)


@pytest.mark.parametrize(
    ("was", "step", "becomes"),
    [
        (State.BOOTING, Step.PULL, State.PREPARING),
        (State.BOOTING, Step.COMMAND, State.RUNNING),
        (State.PREPARING, Step.SETUP, State.PREPARING),
        (State.PREPARING, Step.COMMAND, State.RUNNING),
        (State.RUNNING, Step.COMMAND, State.RUNNING),
    ],
)
def test_reports_move_the_run_on(was: State, step: Step, becomes: State) -> None:
    """The state follows the machine's step, and never goes back."""
    reported = held({"report": report(step), "reported_at": NOW})
    assert advance(at_work(was), [reported], RECIPE, NOW + 1).run.state is becomes


def test_a_result_is_sought_before_anything_is_presumed() -> None:
    """At the deadline the mailbox is read first; only a result that is missing then is presumed lost."""
    late = NOW + 300
    looked = advance(at_work(State.BOOTING), [held()], RECIPE, late)
    assert looked.seek
    assert looked.run.state is State.BOOTING
    early = held({"result_sought_at": late - 1})
    assert advance(at_work(State.BOOTING), [early], RECIPE, late).seek
    asked = advance(at_work(State.BOOTING), [held({"result_sought_at": late})], RECIPE, late)
    assert asked.run.state is State.STOPPING
    [judged] = asked.nodes
    assert judged.verdict
    assert judged.verdict.outcome is Outcome.LOST


def test_a_finished_report_sends_for_the_result() -> None:
    """The report says that the result is in the mailbox."""
    done = held({"report": report(Step.LOGS, finished=True), "reported_at": NOW})
    assert advance(at_work(), [done], RECIPE, NOW + 1).seek
    assert not advance(at_work(), [held({"report": report(Step.LOGS), "reported_at": NOW})], RECIPE, NOW + 1).seek


def test_a_result_counts_whatever_else_is_known() -> None:
    """A result counts even if the machine has ended, the limit has passed, or a stop was requested."""
    ended = held({"result": result(Outcome.SUCCEEDED, 0)}, **TERMINATED, ending=Ending.INTERRUPTED)
    after = advance(at_work(stop=STOP), [ended], RECIPE, NOW + 10**6)
    assert after.run.verdict
    assert (after.run.verdict.outcome, after.run.verdict.exit_code) == (Outcome.SUCCEEDED, 0)
    assert (after.run.state, after.run.ended_at) == (State.STOPPING, NOW + 10**6)


def test_only_the_latest_attempt_is_looked_at() -> None:
    """The node of an old attempt has no effect."""
    old = Assignment(node(id="r1.1.0", attempt=1, result=result(Outcome.FAILED, 1)), machine())
    second = at_work(State.BOOTING, retries_used=1)
    second = replace(second, attempt=2)
    new = Assignment(node(id="r1.2.0", attempt=2), machine())
    assert advance(second, [old, new], RECIPE, NOW + 1).run is second


def test_the_next_attempt_waits_until_the_old_machine_cannot_execute() -> None:
    """A verdict is not enough; a stop meanwhile ends the run."""
    stopping = at_work(State.STOPPING, verdict=FAILED)
    alive = held({"verdict": FAILED})
    assert advance(stopping, [alive], RECIPE, NOW + 1).run is stopping
    gone = held({"verdict": FAILED}, **TERMINATED)
    assert advance(stopping, [gone], RECIPE, NOW + 1).run.state is State.QUEUED
    told = held({"verdict": FAILED, "result": result(Outcome.FAILED, 1)})
    assert advance(stopping, [told], RECIPE, NOW + 1).run.state is State.QUEUED
    stopped = advance(replace(stopping, stop=STOP), [alive], RECIPE, NOW + 1).run
    assert stopped.verdict
    assert (stopped.verdict.outcome, stopped.ended_at) == (Outcome.CANCELLED, NOW + 1)


ONCE = recipe(retry={"rerun": "before_start"})
LOST = Verdict(Outcome.LOST, "why", NOW)


@pytest.mark.parametrize(
    "node_fields",
    [
        {"report": report(Step.COMMAND)},
        {"result": result(Outcome.INTERRUPTED)},
        {"result": result(Outcome.LOST, step=Step.COMMAND, spans={})},
        {"started": True},
    ],
)
def test_command_with_rerun_before_start_is_not_started_twice(node_fields: dict[str, Any]) -> None:
    """The run ends as lost and its reason says why, whichever record shows that the command started."""
    stopping = at_work(State.STOPPING, verdict=LOST)
    gone = held({"verdict": LOST, **node_fields}, **TERMINATED)
    after = advance(stopping, [gone], ONCE, NOW + 1).run
    assert (after.state, after.ended_at) == (State.STOPPING, NOW + 1)
    assert after.verdict
    assert after.verdict.outcome is Outcome.LOST
    assert "before_start" in after.verdict.reason
    assert advance(stopping, [gone], RECIPE, NOW + 1).run.state is State.QUEUED


def test_whether_a_command_had_begun_is_asked_when_its_machine_is_gone() -> None:
    """While the machine lives, the command could still begin. A failure needs no such check."""
    stopping = at_work(State.STOPPING, verdict=LOST)
    for sought in (None, NOW - 1):
        looked = advance(stopping, [held({"verdict": LOST, "result_sought_at": sought}, **TERMINATED)], ONCE, NOW + 1)
        assert looked.seek
        assert looked.run is stopping
    asked = held({"verdict": LOST, "result_sought_at": NOW + 1000}, **TERMINATED)
    assert advance(stopping, [asked], ONCE, NOW + 1001).run.state is State.QUEUED
    before = held({"verdict": LOST, "result": result(Outcome.LOST, step=Step.PULL, spans={})})
    assert advance(stopping, [before], ONCE, NOW + 1).run.state is State.QUEUED
    failed = held({"verdict": FAILED, "result": result(Outcome.FAILED, 1)})
    assert advance(at_work(State.STOPPING, verdict=FAILED), [failed], ONCE, NOW + 1).run.state is State.QUEUED


def test_a_pause_between_retries_is_no_waiting_for_a_machine() -> None:
    """The queue limit counts from the end of the pause."""
    wanted = recipe(retry={"backoff": "10m"}, limits={"queue_time": "5m"})
    paused = run(verdict=FAILED, attempt=1)
    assert advance(paused, [], wanted, NOW + 899).run is paused
    assert advance(paused, [], wanted, NOW + 900).run.state is State.STOPPING


def test_the_queue_limit_of_a_requeued_run_begins_at_once() -> None:
    """A requeued run skips the pause for failures, so the pause does not extend the limit."""
    wanted = recipe(retry={"requeue_on": [75], "backoff": "10m"}, limits={"queue_time": "5m"})
    paused = run(verdict=replace(FAILED, exit_code=75, step=Step.COMMAND), attempt=1)
    assert advance(paused, [], wanted, NOW + 299).run is paused
    assert advance(paused, [], wanted, NOW + 300).run.state is State.STOPPING


@pytest.mark.parametrize(
    ("machine_fields", "node_fields", "certain"),
    [
        ({}, {}, False),
        ({"end_asked_at": NOW}, {}, False),
        ({"end_accepted_at": NOW}, {}, True),
        ({"state": MachineState.SHUTTING_DOWN}, {}, True),
        (TERMINATED, {}, True),
        ({}, {"report": report(Step.COMMAND, notice=Notice(NOW + 100, NOW))}, True),
    ],
)
def test_certain_at_is_set_when_the_machines_end_is_certain(
    machine_fields: dict[str, Any], node_fields: dict[str, Any], certain: bool
) -> None:
    """The end is certain if termination was accepted or listed, or if the cloud takes the machine."""
    stopping = at_work(State.STOPPING, verdict=FAILED, ended_at=NOW)
    after = advance(stopping, [held({"verdict": FAILED} | node_fields, **machine_fields)], RECIPE, NOW + 1).run
    assert (after.certain_at is not None) is certain


def test_nothing_is_done_before_its_machines_are_gone_and_its_logs_kept() -> None:
    """Both conditions must hold, in any order."""
    over = at_work(State.STOPPING, verdict=FAILED, ended_at=NOW)
    kept = {"verdict": FAILED, "archived_at": NOW}
    assert moves.may_finish(over, [held(kept, **TERMINATED)])
    assert not moves.may_finish(over, [held(kept, state=MachineState.SHUTTING_DOWN)])
    assert not moves.may_finish(over, [held({"verdict": FAILED}, **TERMINATED)])
    assert not moves.may_finish(over, [held(kept, **TERMINATED), held(kept)])
    assert not moves.may_finish(replace(over, ended_at=None), [held(kept, **TERMINATED)])
    assert moves.may_finish(over, [])
    done = moves.finish(over, NOW + 5)
    assert (done.state, done.done_at, done.certain_at) == (State.DONE, NOW + 5, NOW + 5)


def test_a_machine_is_ended_for_its_verdict_and_no_other_reason() -> None:
    """The control plane does not end a machine without a verdict, or one that the cloud is taking back for free."""
    assert moves.wanted_end(at_work(), held(), recipe(), NOW) == ""
    assert "r1" in moves.wanted_end(at_work(), held({"verdict": FAILED}), recipe(), NOW)
    noticed = held({"verdict": FAILED, "report": report(Step.COMMAND, notice=Notice(NOW + 100, NOW))})
    assert moves.wanted_end(at_work(), noticed, recipe(), NOW + 279) == ""
    assert moves.wanted_end(at_work(), noticed, recipe(), NOW + 281) != ""


def test_orders_have_stop_and_follow() -> None:
    """The orders have all that the run wants now."""
    assert moves.orders(run(stop=STOP, followed_until=NOW)) == Orders(STOP, NOW)


def test_an_unreadable_recipe_stops_no_machine_from_ending() -> None:
    """A run with an unreadable recipe uses the default limits and is not retried."""
    failed = held({"result": result(Outcome.FAILED, 1)})
    assert advance(at_work(), [failed], None, NOW + 1).run.ended_at == NOW + 1


@given(st.data())
def test_any_record_at_all_moves_along_an_edge(data: st.DataObject) -> None:
    """For any records, advance() does not fail and moves along at most one edge of the table."""
    finite = st.floats(NOW - 10**6, NOW + 10**6)
    current = data.draw(values(type(node())))
    current = replace(current, attempt=1, result=data.draw(st.none() | st.just(result(Outcome.FAILED, 1))))
    mine = data.draw(values(type(machine())))
    before = replace(data.draw(values(type(run()))), attempt=1)
    after = advance(
        before, [Assignment(current, mine)], data.draw(st.sampled_from([None, RECIPE])), data.draw(finite)
    ).run
    assert after.state is before.state or (before.state, after.state) in TRANSITIONS
    if after.state is not before.state and after.state is State.STOPPING:
        assert after.verdict
    assert after.state is not State.DONE or before.state is State.DONE


@pytest.mark.parametrize("clock", [NOW - 3600, NOW + 1])
def test_a_clock_that_is_turned_back_puts_no_time_of_a_run_before_an_earlier_one(clock: float) -> None:
    """Earlier, `ended_at` and `done_at` could precede `created_at`, which broke the receipt's phases."""
    ends = [
        advance(run(stop=STOP), [], RECIPE, clock).run,
        advance(at_work(), [held({"result": result(Outcome.SUCCEEDED)})], RECIPE, clock).run,
        advance(at_work(State.STOPPING, stop=STOP, verdict=FAILED), [held(**TERMINATED)], RECIPE, clock).run,
        moves.refuse(run(), "never", clock),
    ]
    for ended in ends:
        assert ended.ended_at == max(clock, ended.created_at)
        certain = advance(ended, [held(**TERMINATED)], RECIPE, clock - 60).run
        assert certain.certain_at == ended.ended_at
        assert moves.finish(certain, clock - 120).done_at == ended.ended_at
