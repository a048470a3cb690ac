"""Decide the verdict on an attempt, and whether another attempt follows.

A silent machine may still execute the command. So without a result an attempt ends only at the deadlines of `presume`,
and only after its mailbox was read once more. Silence does not count while the reports cannot be read.
"""

from dataclasses import dataclass, replace

from provisioner.core.cloud.machines import Ending
from provisioner.core.protocol.messages import Report, Result, limit_of
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.recipe.parts import LOGS_TIME, Limits, Retry
from provisioner.core.run.machines.console import verdict_of
from provisioner.core.run.machines.silence import HEARING, is_silent
from provisioner.core.run.ranks import ACCOUNTING, stop_of
from provisioner.core.run.records import KnownMachine, Node, Run, Verdict

#: Maximum number of attempts of a run that may end without using up `retries`: before the command first starts, and
#: after that.
LOST_BEFORE_START = 5
LOST_AFTER_START = 20
#: Seconds after a limit at which a machine that should have ended itself is terminated.
MARGIN = 60.0
#: Waits in seconds before the attempts after failures of the infrastructure; the last one repeats.
BACKOFF = (0.0, 5.0, 15.0, 60.0)
#: Maximum seconds between two steps. After boot the agent checks the GPUs (180 s), waits for Docker (120 s) and moves
#: Docker to the instance store.
BETWEEN_STEPS = 420.0
#: The field of `limits` with the limit of the step that follows a step.
NEXT = {Step.BOOT: "pull", Step.PULL: "setup", Step.CLONE: "setup", Step.SETUP: "runtime", Step.BARRIER: "runtime"}
#: The field of `limits` with the limit of a step.
LIMITS = {Step.PULL: "pull", Step.CLONE: "pull", Step.SETUP: "setup", Step.BARRIER: "gather", Step.COMMAND: "runtime"}
_ANY_FAILURE = Retry()


@dataclass(frozen=True)
class Presumption:
    """The verdict that applies from `at` on if no result is found then."""

    at: float
    verdict: Verdict


def ended_by_result(result: Result, node: Node, now: float) -> Verdict:
    """Return the agent's verdict, with its time converted to our clock, from which the next `limits.queue_time` counts.

    The machine's clock may be wrong or falsified. The last report was read after it was written, so the converted time
    is not too early. It is also limited to the period from the machine's binding to `now`, in Unix seconds.
    """
    verdict = of_result(result)
    return replace(verdict, at=max(node.bound_at, min(verdict.at + node.clock_ahead, now)))


def of_result(result: Result) -> Verdict:
    """Return the verdict on an attempt with a result: the agent's decision, with the time of the machine's clock.

    Agents of older versions treated an exit code of 0 after a spot notice as success; this is corrected.
    """
    outcome, reason = result.outcome, result.reason
    if result.signal_cause is None and outcome is Outcome.SUCCEEDED and _noticed_before_its_end(result):
        outcome, reason = Outcome.INTERRUPTED, f"a spot notice came while the command ran; {reason}"
    return Verdict(outcome, reason, result.at, result.exit_code, result.step, unresolved_host=result.unresolved_host)


def _noticed_before_its_end(result: Result) -> bool:
    """Return whether the agent read a spot notice, and so sent SIGTERM, while the command ran."""
    span = result.spans.get(Step.COMMAND)
    ended = span.ended if span else None
    return result.notice is not None and (ended is None or result.notice.seen < ended)


def asks_again(verdict: Verdict, retry: Retry) -> bool:
    """Return whether the command exited with a code of `retry.requeue_on`: its work is saved, but not finished."""
    ended_by_itself = verdict.outcome is Outcome.FAILED and verdict.step in (Step.COMMAND, Step.LOGS)
    return ended_by_itself and verdict.exit_code in retry.requeue_on


def presume(
    run: Run, node: Node, machine: KnownMachine, limits: Limits, reports_unreadable_at: float = 0.0
) -> Presumption:
    """Return the earliest verdict that applies to a node without a result.

    `limits` are the recipe's. `reports_unreadable_at` is when reports last could not be read, as Unix seconds.
    """
    limits = limits.on(machine.offer.instance_type)
    return min(_presumptions(run, node, machine, limits, reports_unreadable_at), key=lambda presumption: presumption.at)


def first_report_due(node: Node, machine: KnownMachine, limits: Limits) -> float | None:
    """Return when the first report is due; None if it was read, or if the agent cannot report without a work order."""
    if node.report or node.work_put_at is None:
        return None
    # If the work order was put late, the machine gets the full time from then on.
    return max(machine.launch_time or machine.bound_at, node.work_put_at) + limits.on(machine.offer.instance_type).boot


def _presumptions(
    run: Run, node: Node, machine: KnownMachine, limits: Limits, reports_unreadable_at: float
) -> list[Presumption]:
    born, stop = node.bound_at if node.reused else machine.launch_time or machine.bound_at, stop_of(run)
    step = node.report.step if node.report else Step.BOOT

    def due(at: float, outcome: Outcome, reason: str) -> Presumption:
        return Presumption(at, Verdict(outcome, reason, at, step=step))

    def silent(at: float, outcome: Outcome, reason: str) -> Presumption:
        return due(max(at, reports_unreadable_at + HEARING), outcome, reason)

    found = [due(born + limits.lifetime + MARGIN, Outcome.LOST, "the machine sent no result within its lifetime")]
    if machine.ended_at is not None:
        found.append(_of_ended(run, node, machine, machine.ended_at, step))
    if stop and node.work_put_at is None:
        found.append(due(stop.at, stop.outcome, f"{stop.reason}; the work had not begun"))
    if stop and node.report and node.report.ended and node.reported_at is not None:
        # The rank has ended by itself, and ships its log.
        reason = f"rank {node.rank} ended, but its result did not arrive"
        found.append(silent(node.reported_at + LOGS_TIME, node.report.ended, reason))
    elif stop and node.stop_put_at is not None:
        at = max(node.stop_put_at + limits.stop_grace, stop.kill_at) + MARGIN
        if run.stop or node.reported_at is None or node.reported_at > stop.at:
            found.append(due(at, stop.outcome, f"{stop.reason}; the machine did not respond and was terminated"))
        else:
            reason = "the machine stopped reporting before the ranks were told to stop"
            found.append(silent(max(at, stop.at + ACCOUNTING), Outcome.LOST, reason))
    if machine.impaired_at is not None and is_silent(node, machine.impaired_at):
        reason = "the machine stopped reporting, and its EC2 status checks fail"
        found.append(silent(machine.impaired_at, Outcome.LOST, reason))
    if limits.silence is not None and node.reported_at is not None:
        reason = f"the machine did not report for longer than {limit_of('silence', limits.silence)}"
        found.append(silent(node.reported_at + limits.silence, Outcome.LOST, reason))
    if (first := first_report_due(node, machine, limits)) is not None:
        reason = f"the machine did not report within {limit_of('boot', limits.boot)} (no route to S3?)"
        if first < reports_unreadable_at + HEARING:
            # The outage may have delayed the boot: the machine gets the agent's archive from the bucket.
            first = max(first, reports_unreadable_at + limits.boot)
        found.append(due(first, Outcome.LOST, reason))
    elif node.report and (late := _late_between_steps(node, node.report, limits)) is not None:
        reason = f"no step began within {late[1] / 60:.0f} min after {step}, and the agent did not end the attempt"
        found.append(silent(late[0] + MARGIN, Outcome.LOST, reason))
    elif node.report and node.reported_at is not None and (span := node.report.spans.get(step)) and span.ended is None:
        # The machine's clock may differ from ours: convert its time, by the difference that its last report shows.
        began = span.began + node.clock_ahead
        name = LIMITS.get(step)
        longest: float | None = getattr(limits, name) if name else None
        if name and longest is not None:
            outcome = Outcome.LOST if name in ("pull", "gather") else Outcome.TIMED_OUT
            reason = f"{step} took longer than {limit_of(name, longest)}, and the agent did not stop it"
            found.append(silent(began + longest + limits.stop_grace + MARGIN, outcome, reason))
    return found


def _late_between_steps(node: Node, report: Report, limits: Limits) -> tuple[float, float] | None:
    """Return until when the next step must begin, and the seconds that it has; None while a step lasts.

    If the machine has not reported for so long, the next step may have begun: then its limit counts, too.
    """
    if any(span.ended is None for span in report.spans.values()) or not report.spans:
        return None
    last = max(span.ended or 0.0 for span in report.spans.values())
    pause = BETWEEN_STEPS + (limits.gather or 0.0)
    if report.at < last + pause:
        pause += getattr(limits, NEXT[report.step]) if report.step in NEXT else LOGS_TIME
    # The machine's clock may differ from ours.
    return last + node.clock_ahead + pause, pause


def _of_ended(run: Run, node: Node, machine: KnownMachine, at: float, step: Step) -> Presumption:
    outcome, reason = Outcome.LOST, f"the machine ended without a result ({machine.reason or 'no reason given'})"
    if run.stop:
        outcome, reason = run.stop.outcome, run.stop.reason
    elif machine.ending is Ending.INTERRUPTED or (node.report and node.report.notice):
        outcome, reason = Outcome.INTERRUPTED, "EC2 interrupted the spot machine"
    elif machine.ending is Ending.MISCONFIGURED and node.report is None:
        outcome, reason = Outcome.REFUSED, f"the machine could not start: {machine.reason}"
    elif node.report is None and (said := verdict_of(machine.console)):
        reason = f"the machine powered itself off: {said}"
    elif machine.end_wanted_for:
        reason = f"the machine was terminated: {machine.end_wanted_for}"
    return Presumption(at, Verdict(outcome, reason, at, step=step))


def follow(run: Run, verdict: Verdict, retries: int, started: bool, now: float, retry: Retry = _ANY_FAILURE) -> Run:
    """Return the run after its attempt's verdict: ended (`ended_at` is set), or with the time of the next try."""
    requeued = asks_again(verdict, retry)
    if run.stop and (requeued or verdict.outcome in (Outcome.LOST, Outcome.INTERRUPTED)):
        # Without the stop, another attempt would have followed: so the stop ends the run.
        verdict = replace(
            verdict, outcome=run.stop.outcome, reason=run.stop.reason, exit_code=verdict.process_exit_code
        )
    verdict = _refused_if_unresolved_twice(run.verdict, verdict)
    run = replace(run, verdict=verdict, ever_started=run.ever_started or started)
    if run.stop or verdict.outcome in (
        Outcome.SUCCEEDED,
        Outcome.CANCELLED,
        Outcome.TIMED_OUT,
        Outcome.REFUSED,
    ):
        return replace(run, ended_at=now)
    if verdict.outcome is Outcome.FAILED and not requeued:
        if run.retries_used >= retries:
            return replace(run, ended_at=now)
        if retry.on and verdict.exit_code not in retry.on:
            reason = f"{verdict.reason}; retry.on has only {', '.join(map(str, retry.on))}"
            return replace(run, verdict=replace(verdict, reason=reason), ended_at=now)
        return replace(run, retries_used=run.retries_used + 1, next_try_at=now + retry.backoff)
    if run.ever_started:
        run = replace(run, lost_after_start=run.lost_after_start + 1)
        spent, cap = run.lost_after_start, LOST_AFTER_START
    else:
        run = replace(run, lost_before_start=run.lost_before_start + 1)
        spent, cap = run.lost_before_start, LOST_BEFORE_START
    if spent >= cap:
        reason = f"{verdict.reason}; gave up after {spent} attempts that do not count as retries"
        return replace(run, verdict=replace(verdict, reason=reason), ended_at=now)
    if requeued:
        run = replace(run, verdict=replace(verdict, reason=f"{verdict.reason}; queued again (retry.requeue_on)"))
    wait = 0.0 if verdict.outcome is Outcome.INTERRUPTED else BACKOFF[min(max(spent, 1), len(BACKOFF)) - 1]
    return replace(run, next_try_at=now + wait)


def _refused_if_unresolved_twice(before: Verdict | None, verdict: Verdict) -> Verdict:
    """Return the verdict, as `refused` if the previous attempt, on another machine, could not resolve the same host."""
    host = verdict.unresolved_host
    if verdict.outcome is not Outcome.LOST or not host or before is None or before.unresolved_host != host:
        return verdict
    reason = f"two machines in a row could not resolve the host name {host}: correct it, or the subnets' DNS"
    return replace(verdict, outcome=Outcome.REFUSED, reason=f"{reason}; {verdict.reason}")


def may_execute_again(node: Node, machine: KnownMachine) -> bool:
    """Return whether the node's command can no longer execute: the node has a result, or its machine is gone."""
    return node.result is not None or machine.ended_at is not None


def may_have_begun(node: Node) -> bool:
    """Return whether the attempt's command began or may have begun, for commands that must not execute twice."""
    spans = {**(node.report.spans if node.report else {}), **(node.result.spans if node.result else {})}
    at_command = node.result is not None and node.result.step in (Step.COMMAND, Step.LOGS)
    return node.started or at_command or Step.COMMAND in spans


def held_until(node: Node, machine: KnownMachine) -> float:
    """Return the Unix time until which a finished machine waits for the cloud's interruption; 0 if it must not wait.

    If the cloud interrupts a machine in its first hour, the machine is free (EC2 User Guide, "Billing for interrupted
    Spot Instances"). The control plane terminates it three minutes after the time in the notice.
    """
    notice = (node.result and node.result.notice) or (node.report and node.report.notice)
    if notice and machine.launch_time is not None and notice.at < machine.launch_time + 3600:
        return notice.at + 180
    return 0.0
