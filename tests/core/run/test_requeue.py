"""Runs whose command asks to be queued again (retry.requeue_on)."""

from provisioner.core.protocol.messages import Stop
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run import verdicts
from provisioner.core.run.records import Verdict
from provisioner.core.run.verdicts import BACKOFF, LOST_AFTER_START
from tests.support.samples import NOW, at_work, recipe

STOP = Stop(Outcome.CANCELLED, "stopped by a user", NOW)


REQUEUE = recipe(retry={"requeue_on": [75], "backoff": "5m", "rerun": "before_start"}).spec.retry


def saved(code: int = 75, step: Step = Step.COMMAND) -> Verdict:
    return Verdict(Outcome.FAILED, "why", NOW, code, step)


def test_a_requeued_run_uses_up_no_retries() -> None:
    """The run continues at once, even with no retries left, and without the pause for failures; its reason says why."""
    after = verdicts.follow(at_work(), saved(), 0, True, NOW, REQUEUE)
    assert (after.ended_at, after.retries_used, after.next_try_at) == (None, 0, NOW)
    assert after.verdict
    assert (after.verdict.outcome, after.verdict.exit_code) == (Outcome.FAILED, 75)
    assert "requeue_on" in after.verdict.reason


def test_only_the_command_can_ask_to_be_requeued() -> None:
    """Another exit code, or the same one from a start script, does not requeue."""
    for verdict in (saved(74), saved(step=Step.SETUP)):
        after = verdicts.follow(at_work(), verdict, 0, True, NOW, REQUEUE)
        assert (after.ended_at, after.verdict) == (NOW, verdict)


def test_a_requeued_run_is_capped() -> None:
    """The cap is that for lost machines; the run then ends with its last exit code."""
    run, waits = at_work(), []
    for _ in range(LOST_AFTER_START - 1):
        run = verdicts.follow(run, saved(), 0, True, NOW, REQUEUE)
        assert run.ended_at is None
        waits.append(run.next_try_at - NOW)
    assert waits == sorted(waits)
    assert waits[-1] == BACKOFF[-1]
    last = verdicts.follow(run, saved(), 0, True, NOW, REQUEUE)
    assert last.ended_at == NOW
    assert last.verdict
    assert (last.verdict.outcome, last.verdict.exit_code) == (Outcome.FAILED, 75)
    assert str(LOST_AFTER_START) in last.verdict.reason


def test_a_stop_ends_a_run_that_asks_to_be_requeued() -> None:
    """The stop ends the run, with the exit code of its process."""
    after = verdicts.follow(at_work(stop=STOP), saved(), 5, True, NOW, REQUEUE)
    assert after.ended_at == NOW
    assert after.verdict
    assert (after.verdict.outcome, after.verdict.exit_code) == (Outcome.CANCELLED, 75)
