"""The outcome table, row by row: how attempts end, and the next step of the run."""

from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.cloud.machines import Ending, MachineState
from provisioner.core.protocol import codec
from provisioner.core.protocol.messages import Notice, Result, Span, Stop
from provisioner.core.protocol.words import Outcome, SignalCause, Step
from provisioner.core.run import verdicts
from provisioner.core.run.machines.silence import HEARING, SILENT
from provisioner.core.run.records import Verdict
from provisioner.core.run.states import State
from provisioner.core.run.verdicts import BACKOFF, LOST_AFTER_START, LOST_BEFORE_START, MARGIN
from tests.support.samples import NOW, at_work, machine, node, recipe, report, result

LIMITS = recipe(
    limits={"boot": "300s", "pull": "400s", "setup": "500s", "runtime": "1000s", "stop_grace": "30s"}
).spec.limits
STOP = Stop(Outcome.CANCELLED, "stopped by a user", NOW)
TAKEN = {"ended_at": NOW + 9, "state": MachineState.TERMINATED, "ending": Ending.INTERRUPTED, "reason": "taken"}
GONE = {"ended_at": NOW + 9, "state": MachineState.TERMINATED, "ending": Ending.FAULT, "reason": "it broke"}


def verdict(outcome: Outcome, code: int | None = None) -> Verdict:
    return Verdict(outcome, "why", NOW, code)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(Outcome.SUCCEEDED, 0), (Outcome.CANCELLED, 143), (Outcome.TIMED_OUT, 137), (Outcome.REFUSED, None)],
)
def test_final_outcomes_end_the_run_with_retries_left(outcome: Outcome, code: int | None) -> None:
    """A success, a stop, a limit and a permanent refusal are final at once."""
    after = verdicts.follow(at_work(), verdict(outcome, code), 5, True, NOW)
    assert (after.ended_at, after.retries_used, after.verdict) == (NOW, 0, verdict(outcome, code))


def test_a_failure_uses_up_retries() -> None:
    """While retries are left the run continues at once; the failure after the last retry ends it."""
    run = at_work()
    for used in (1, 2):
        run = verdicts.follow(run, verdict(Outcome.FAILED, 1), 2, True, NOW)
        assert (run.ended_at, run.retries_used, run.next_try_at) == (None, used, NOW)
    assert verdicts.follow(run, verdict(Outcome.FAILED, 1), 2, True, NOW).ended_at == NOW


def test_only_the_named_exit_codes_are_tried_again() -> None:
    """A named exit code is retried after the recipe's pause; any other code fails the run at once, with the reason."""
    retry = recipe(retry={"on": [75, 137], "backoff": "5m"}).spec.retry
    again = verdicts.follow(at_work(), verdict(Outcome.FAILED, 137), 2, True, NOW, retry)
    assert (again.ended_at, again.retries_used, again.next_try_at) == (None, 1, NOW + 300)
    for code in (1, None):
        over = verdicts.follow(at_work(), verdict(Outcome.FAILED, code), 2, True, NOW, retry)
        assert (over.ended_at, over.retries_used) == (NOW, 0)
        assert over.verdict
        assert over.verdict.reason == "why; retry.on has only 75, 137"
    lost = verdicts.follow(at_work(), verdict(Outcome.LOST), 2, True, NOW, retry)
    assert (lost.ended_at, lost.next_try_at) == (None, NOW)


@pytest.mark.parametrize("outcome", [Outcome.LOST, Outcome.INTERRUPTED])
@pytest.mark.parametrize(("started", "cap"), [(False, LOST_BEFORE_START), (True, LOST_AFTER_START)])
def test_lost_and_interrupted_attempts_use_no_retries_up_to_a_cap(outcome: Outcome, started: bool, cap: int) -> None:
    """The run continues without using retries, up to a cap; the last reason names the cap."""
    run = at_work()
    for _ in range(cap - 1):
        run = verdicts.follow(run, verdict(outcome), 0, started, NOW)
        assert (run.ended_at, run.retries_used) == (None, 0)
        assert NOW <= run.next_try_at <= NOW + BACKOFF[-1]
    last = verdicts.follow(run, verdict(outcome), 0, started, NOW)
    assert last.ended_at == NOW
    assert last.verdict
    assert last.verdict.outcome is outcome
    assert str(cap) in last.verdict.reason


def test_waits_between_lost_attempts_grow_and_a_taken_machine_is_replaced_at_once() -> None:
    """An interruption says nothing about the next machine, while a broken machine may."""
    run, waits = at_work(), []
    for _ in range(LOST_BEFORE_START - 1):
        run = verdicts.follow(run, verdict(Outcome.LOST), 0, False, NOW)
        waits.append(run.next_try_at - NOW)
    assert waits == sorted(waits) == list(BACKOFF)
    assert verdicts.follow(run, verdict(Outcome.INTERRUPTED), 0, True, NOW).next_try_at == NOW


def test_stop_outranks_an_interruption() -> None:
    """The run is cancelled and keeps its process's exit code."""
    after = verdicts.follow(at_work(stop=STOP), verdict(Outcome.INTERRUPTED, 0), 5, True, NOW)
    assert after.ended_at == NOW
    assert after.verdict
    assert (after.verdict.outcome, after.verdict.exit_code) == (Outcome.CANCELLED, 0)


def test_once_a_command_started_the_larger_cap_holds() -> None:
    """An earlier start of the command counts, even if later machines never start it."""
    run = verdicts.follow(at_work(), verdict(Outcome.LOST), 0, True, NOW)
    for _ in range(LOST_BEFORE_START):
        run = verdicts.follow(run, verdict(Outcome.LOST), 0, False, NOW)
    assert run.ended_at is None


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_stopped_run_has_no_next_attempt(outcome: Outcome) -> None:
    """A stopped run whose attempt was lost or interrupted is cancelled; any other outcome of the attempt stays."""
    after = verdicts.follow(at_work(stop=STOP), verdict(outcome, 1), 5, True, NOW)
    assert after.ended_at == NOW
    own = outcome not in (Outcome.LOST, Outcome.INTERRUPTED)
    assert after.verdict
    assert after.verdict.outcome is (outcome if own else Outcome.CANCELLED)


@pytest.mark.parametrize(
    ("node_fields", "machine_fields", "run_fields", "after", "outcome"),
    [
        # A machine that never reports, or that stops reporting: the limit of its last step applies.
        ({}, {}, {}, 300, Outcome.LOST),
        ({"report": report(Step.PULL), "reported_at": NOW}, {}, {}, 400 + 30 + MARGIN, Outcome.LOST),
        ({"report": report(Step.CLONE), "reported_at": NOW}, {}, {}, 400 + 30 + MARGIN, Outcome.LOST),
        ({"report": report(Step.SETUP), "reported_at": NOW}, {}, {}, 500 + 30 + MARGIN, Outcome.TIMED_OUT),
        ({"report": report(Step.COMMAND), "reported_at": NOW}, {}, {}, 1000 + 30 + MARGIN, Outcome.TIMED_OUT),
        # The machine's clock is an hour ahead: only the step's duration at its report counts.
        (
            {"report": report(Step.SETUP, began=NOW + 3600, at=NOW + 3610), "reported_at": NOW + 10},
            {},
            {},
            500 + 30 + MARGIN,
            Outcome.TIMED_OUT,
        ),
        # Shipping the log is limited only by the lifetime.
        ({"report": report(Step.LOGS), "reported_at": NOW}, {}, {}, LIMITS.lifetime + MARGIN, Outcome.LOST),
        # The machine has ended.
        ({}, GONE, {}, 9, Outcome.LOST),
        ({}, TAKEN, {}, 9, Outcome.INTERRUPTED),
        (
            {"report": report(Step.COMMAND, notice=Notice(NOW, NOW)), "reported_at": NOW},
            GONE,
            {},
            9,
            Outcome.INTERRUPTED,
        ),
        ({}, GONE | {"ending": Ending.MISCONFIGURED}, {}, 9, Outcome.REFUSED),
        (
            {"report": report(Step.PULL), "reported_at": NOW},
            GONE | {"ending": Ending.MISCONFIGURED},
            {},
            9,
            Outcome.LOST,
        ),
        ({}, TAKEN, {"stop": STOP}, 9, Outcome.CANCELLED),
        # A stop takes effect at once without a work order, else after the grace.
        ({"work_put_at": None}, {}, {"stop": STOP}, 0, Outcome.CANCELLED),
        ({"stop_put_at": NOW + 5}, {}, {"stop": STOP}, 5 + 30 + MARGIN, Outcome.CANCELLED),
        ({"stop_put_at": None}, {}, {"stop": STOP}, 300, Outcome.LOST),
    ],
)
def test_missing_result_is_presumed_by_limit_or_machine_state(
    node_fields: dict[str, Any],
    machine_fields: dict[str, Any],
    run_fields: dict[str, Any],
    after: float,
    outcome: Outcome,
) -> None:
    """Each kind of silence has a time and an outcome; the earliest applies."""
    presumed = verdicts.presume(at_work(**run_fields), node(**node_fields), machine(**machine_fields), LIMITS)
    assert (presumed.at - NOW, presumed.verdict.outcome) == (after, outcome)
    assert presumed.verdict.exit_code is None
    assert presumed.verdict.reason


def test_console_of_a_machine_that_never_reported_gives_the_reason() -> None:
    """The machine could not write anything else. If it has reported, its result has the reason."""
    gone = machine(**GONE, console="provision: powering off: the subnet has no way out\n[9.1] reboot: Power down")
    told = verdicts.presume(at_work(), node(), gone, LIMITS).verdict
    assert (told.outcome, told.reason) == (
        Outcome.LOST,
        "the machine powered itself off: the subnet has no way out",
    )
    silent = node(report=report(Step.PULL), reported_at=NOW)
    assert "ended without a result" in verdicts.presume(at_work(), silent, gone, LIMITS).verdict.reason
    assert (
        "ended without a result"
        in verdicts.presume(at_work(), node(), machine(**GONE, console="x"), LIMITS).verdict.reason
    )


def test_a_limit_is_named_as_the_machine_names_it() -> None:
    """The text has the recipe's field and a readable duration."""
    boot, pull = (
        verdicts.presume(at_work(), silent, machine(), LIMITS).verdict.reason
        for silent in (node(), node(report=report(Step.CLONE), reported_at=NOW))
    )
    assert "limits.boot of 5 min" in boot
    assert pull == "clone took longer than limits.pull of 400 s, and the agent did not stop it"


def test_silence_is_given_up_when_the_recipe_says_so() -> None:
    """A machine is not given up earlier, during an outage of the control plane, or if it never reported."""
    limits = LIMITS.model_copy(update={"silence": 200.0})
    spoke = node(report=report(Step.COMMAND), reported_at=NOW)
    presumed = verdicts.presume(at_work(), spoke, machine(), limits)
    assert (presumed.at, presumed.verdict.outcome) == (NOW + 200, Outcome.LOST)
    assert "limits.silence of 200 s" in presumed.verdict.reason
    assert verdicts.presume(at_work(), spoke, machine(), limits, NOW + 500).at == NOW + 500 + HEARING
    assert verdicts.presume(at_work(), node(), machine(), limits).at == NOW + limits.boot
    assert recipe(limits={"silence": "3m"}).spec.limits.silence == SILENT


def test_a_life_is_counted_from_its_launch_time() -> None:
    """A late binding does not make a machine younger."""
    born = machine(bound_at=NOW + 100, launch_time=NOW)
    assert verdicts.presume(at_work(), node(), born, LIMITS).at == NOW + 300
    unknown = replace(born, launch_time=None)
    assert verdicts.presume(at_work(), node(), unknown, LIMITS).at == NOW + 400


def test_a_machine_need_not_report_before_it_has_its_work_order() -> None:
    """The boot limit counts from the work order; a machine without one cannot report and is not silent."""
    late = node(work_put_at=NOW + 1000)
    assert verdicts.presume(at_work(), late, machine(), LIMITS).at == NOW + 1000 + LIMITS.boot
    assert verdicts.presume(at_work(), node(work_put_at=None), machine(), LIMITS).at == NOW + LIMITS.lifetime + MARGIN
    assert verdicts.first_report_due(node(report=report(Step.PULL)), machine(), LIMITS) is None


@pytest.mark.parametrize(
    ("node_fields", "machine_fields", "waits"),
    [
        ({}, {}, LIMITS.boot),
        ({"report": report(Step.COMMAND), "reported_at": NOW}, {}, HEARING),
        ({}, GONE, None),
    ],
)
def test_outage_extends_the_time_to_report(
    node_fields: dict[str, Any], machine_fields: dict[str, Any], waits: float | None
) -> None:
    """After an outage a machine has a minute to report again.

    A machine that never reported has its boot limit again, and a machine that has ended has no more time.
    """
    reports_unreadable_at = NOW + 2000
    presumed = verdicts.presume(
        at_work(), node(**node_fields), machine(**machine_fields), LIMITS, reports_unreadable_at
    )
    assert (presumed.at < reports_unreadable_at) is (waits is None)
    assert waits is None or presumed.at == reports_unreadable_at + waits


def test_an_outage_before_the_launch_does_not_shorten_the_boot_limit() -> None:
    """A limit of less than a minute would otherwise be over before the launch: the process may have just started."""
    limits = recipe(limits={"boot": "20s"}).spec.limits
    presumed = verdicts.presume(at_work(), node(), machine(), limits, reports_unreadable_at=NOW - 30)
    assert presumed.at == NOW + 20


def test_an_outage_that_ends_well_before_the_boot_limit_does_not_extend_it() -> None:
    """A restart of the control plane during a boot does not extend a dead machine's time."""
    reports_unreadable_at = NOW + LIMITS.boot - HEARING
    assert verdicts.presume(at_work(), node(), machine(), LIMITS, reports_unreadable_at).at == NOW + LIMITS.boot


def test_next_attempt_needs_a_result_or_an_ended_machine() -> None:
    """The old machine must have a result or have ended."""
    assert not verdicts.may_execute_again(node(), machine())
    assert not verdicts.may_execute_again(node(), machine(state=MachineState.SHUTTING_DOWN, end_accepted_at=NOW))
    assert verdicts.may_execute_again(node(result=result(Outcome.FAILED, 1)), machine())
    assert verdicts.may_execute_again(node(), machine(**GONE))


@pytest.mark.parametrize(
    ("notice_at", "launched", "until"),
    [(NOW + 120, NOW, NOW + 300), (NOW + 120, NOW - 3600, 0.0), (NOW + 120, None, 0.0), (None, NOW, 0.0)],
)
def test_a_machine_under_notice_is_left_to_the_cloud_in_its_first_hour(
    notice_at: float | None, launched: float | None, until: float
) -> None:
    """In its first hour the interruption is free; later, or without a notice, the control plane ends the machine."""
    notice = Notice(notice_at, NOW) if notice_at else None
    mine = machine(launch_time=launched)
    assert verdicts.held_until(node(result=result(Outcome.INTERRUPTED, notice=notice)), mine) == until
    assert verdicts.held_until(node(report=report(Step.COMMAND, notice=notice)), mine) == until


def test_a_result_is_the_verdict() -> None:
    """Outcome, exit code, reason and step are those of the agent."""
    told = verdicts.of_result(result(Outcome.FAILED, 137, Step.SETUP))
    assert told == Verdict(Outcome.FAILED, "its reason", NOW + 50, 137, Step.SETUP)
    assert at_work().state is State.RUNNING


def unresolved(host: str, outcome: Outcome = Outcome.LOST) -> Verdict:
    return Verdict(outcome, "why", NOW, step=Step.CLONE, unresolved_host=host)


def test_a_host_name_that_two_machines_in_a_row_cannot_resolve_is_refused() -> None:
    """A misspelt host stays misspelt, while a single machine's resolver may be down."""
    first = verdicts.follow(at_work(), unresolved("h.invalid"), 5, False, NOW)
    assert (first.ended_at, first.verdict) == (None, unresolved("h.invalid"))
    second = verdicts.follow(first, unresolved("h.invalid"), 5, False, NOW + 9)
    assert second.ended_at == NOW + 9
    assert second.verdict is not None
    assert (second.verdict.outcome, second.verdict.unresolved_host) == (Outcome.REFUSED, "h.invalid")
    assert "h.invalid" in second.verdict.reason


@pytest.mark.parametrize("between", [unresolved("other.invalid"), unresolved(""), verdict(Outcome.INTERRUPTED)])
def test_host_names_that_differ_or_resolve_in_between_are_tried_again(between: Verdict) -> None:
    """Each failure may concern one machine only."""
    run = verdicts.follow(at_work(), unresolved("h.invalid"), 5, False, NOW)
    run = verdicts.follow(run, between, 5, False, NOW)
    run = verdicts.follow(run, unresolved("h.invalid"), 5, False, NOW)
    assert (run.ended_at, run.lost_before_start) == (None, 3)


def test_a_stop_prevails_over_a_host_name_that_does_not_resolve() -> None:
    """The user's stop ended the run."""
    first = verdicts.follow(at_work(stop=STOP), unresolved("h.invalid"), 5, False, NOW)
    assert first.verdict
    assert first.verdict.outcome is Outcome.CANCELLED
    run = verdicts.follow(at_work(), unresolved("h.invalid"), 5, False, NOW)
    stopped = verdicts.follow(replace(run, stop=STOP), unresolved("h.invalid"), 5, False, NOW)
    assert stopped.verdict
    assert stopped.verdict.outcome is Outcome.CANCELLED


def test_a_result_s_host_name_is_the_verdict_s() -> None:
    """The host name of the next attempt is compared with that of the verdict."""
    told = verdicts.of_result(replace(result(Outcome.LOST), unresolved_host="h.invalid"))
    assert told.unresolved_host == "h.invalid"


#: The command of a sample result runs from NOW + 10 to NOW + 50.
WHILE_IT_RAN, AFTER_ITS_END = Notice(NOW + 140, NOW + 20), Notice(NOW + 170, NOW + 50)


@pytest.mark.parametrize(
    ("cause", "notice", "outcome"),
    [
        # An agent that reports its signals has checked the done file.
        (SignalCause.NOTICE, WHILE_IT_RAN, Outcome.SUCCEEDED),
        (SignalCause.NONE, AFTER_ITS_END, Outcome.SUCCEEDED),
        # An older agent reported any exit code of 0 as success.
        (None, WHILE_IT_RAN, Outcome.INTERRUPTED),
        (None, AFTER_ITS_END, Outcome.SUCCEEDED),
        (None, None, Outcome.SUCCEEDED),
    ],
)
def test_success_under_a_notice_is_believed_only_of_an_agent_that_reports_its_signals(
    cause: SignalCause | None, notice: Notice | None, outcome: Outcome
) -> None:
    """A job that was cut off runs again; one that ended before the notice, or made its done file, does not."""
    told = verdicts.of_result(result(Outcome.SUCCEEDED, 0, notice=notice, signal_cause=cause))
    assert told.outcome is outcome
    assert (told.exit_code, told.process_exit_code) == (None if outcome is Outcome.INTERRUPTED else 0, 0)


@pytest.mark.parametrize("spans", [{}, {"command": Span(NOW + 10)}])
def test_success_under_a_notice_is_not_believed_where_the_end_of_the_command_is_unknown(spans: dict[str, Span]) -> None:
    """Running a finished job again is safe; losing an unfinished one is not."""
    told = verdicts.of_result(result(Outcome.SUCCEEDED, 0, notice=WHILE_IT_RAN, spans=spans))
    assert told.outcome is Outcome.INTERRUPTED


def test_a_result_of_an_older_agent_decodes() -> None:
    """An older result has no signal cause; unknown fields are ignored."""
    new = result(Outcome.SUCCEEDED, 0, signal_cause=SignalCause.NOTICE)
    old = codec.encode(new).replace(b'"signal_cause": "notice"', b'"later": 1')
    assert codec.decode(Result, old) == replace(new, signal_cause=None)
    assert codec.decode(Result, codec.encode(new)) == new


@pytest.mark.parametrize("outcome", list(Outcome))
def test_an_interrupted_attempt_has_no_exit_code(outcome: Outcome) -> None:
    """The process's exit code is kept separately; for other outcomes both are equal."""
    made = Verdict(outcome, "why", NOW, 143)
    assert (made.exit_code, made.process_exit_code) == (None if outcome is Outcome.INTERRUPTED else 143, 143)
    assert codec.decode(Verdict, codec.encode(made)) == made


def test_a_stored_verdict_of_an_older_version_decodes() -> None:
    """An older verdict had one exit code, even if the attempt was interrupted."""
    rest = b'"reason": "why", "at": 1.0, "step": "command"}'
    failed = codec.decode(Verdict, b'{"outcome": "failed", "exit_code": 3, ' + rest)
    assert (failed.exit_code, failed.process_exit_code) == (3, 3)
    taken = codec.decode(Verdict, b'{"outcome": "interrupted", "exit_code": 143, ' + rest)
    assert (taken.exit_code, taken.process_exit_code) == (None, 143)
