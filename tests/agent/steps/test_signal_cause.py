"""The cause of the job's signal, the done file and the grace."""

from pathlib import Path

import pytest

from provisioner.agent.job.job_dir import DONE, JobDir
from provisioner.agent.machine import shutdown
from provisioner.agent.outcomes import TAKEN, Cause, Halt, judge
from provisioner.agent.watch import LAST_BYTES, kill_time
from provisioner.core.protocol import codec
from provisioner.core.protocol.messages import Notice
from provisioner.core.protocol.words import Outcome, SignalCause, Step
from tests.agent.conftest import Site

NOW = 1_800_000_000.0
NOTICE = Cause(Outcome.INTERRUPTED, TAKEN, NOW)
STOP = Cause(Outcome.CANCELLED, "stopped by a user", NOW)
LIMIT = Cause(Outcome.TIMED_OUT, "limits.runtime of 1 h", NOW)


@pytest.mark.parametrize(
    ("code", "cause", "done", "outcome", "signal_cause"),
    [
        (0, None, False, Outcome.SUCCEEDED, SignalCause.NONE),
        (3, None, True, Outcome.FAILED, SignalCause.NONE),
        (0, NOTICE, False, Outcome.INTERRUPTED, SignalCause.NOTICE),
        (0, NOTICE, True, Outcome.SUCCEEDED, SignalCause.NOTICE),
        (143, NOTICE, False, Outcome.INTERRUPTED, SignalCause.NOTICE),
        # The exit code and the done file contradict each other. INTERRUPTED is safe: the job runs again.
        (1, NOTICE, True, Outcome.INTERRUPTED, SignalCause.NOTICE),
        (0, STOP, True, Outcome.CANCELLED, SignalCause.STOP),
        (7, STOP, False, Outcome.CANCELLED, SignalCause.STOP),
        (0, LIMIT, True, Outcome.TIMED_OUT, SignalCause.LIMIT),
        (137, LIMIT, False, Outcome.TIMED_OUT, SignalCause.LIMIT),
    ],
)
def test_the_cause_of_the_signal_and_the_done_file_decide_the_outcome(
    code: int, cause: Cause | None, done: bool, outcome: Outcome, signal_cause: SignalCause
) -> None:
    """The exit code is kept for every outcome."""
    ended = judge(code, "the command ended", cause, done=done)
    assert (ended.outcome, ended.exit_code, ended.signal_cause) == (outcome, code, signal_cause)
    assert ended.step is Step.COMMAND
    assert "the command ended" in ended.reason


@pytest.mark.parametrize(
    ("causes", "outcome", "first"),
    [
        ([NOTICE, STOP], Outcome.CANCELLED, SignalCause.NOTICE),
        ([NOTICE, LIMIT], Outcome.TIMED_OUT, SignalCause.NOTICE),
        ([STOP, NOTICE], Outcome.CANCELLED, SignalCause.STOP),
        ([LIMIT, NOTICE, STOP], Outcome.TIMED_OUT, SignalCause.LIMIT),
        ([NOTICE, NOTICE, STOP, LIMIT], Outcome.CANCELLED, SignalCause.NOTICE),
    ],
)
def test_the_first_cause_is_kept_where_another_names_the_outcome(
    causes: list[Cause], outcome: Outcome, first: SignalCause
) -> None:
    """A stop outranks an interruption. The signal's first cause is still recorded, also for the agent's successor."""
    halt = Halt()
    for cause in causes:
        halt.ask(cause)
    assert halt.cause is not None
    assert (halt.cause.outcome, halt.cause.signal_cause) == (outcome, first)
    successor = Halt()
    successor.ask(codec.decode(Cause, codec.encode(halt.cause)))
    assert successor.cause == halt.cause


@pytest.mark.parametrize("left", [0.0, 1.0, 10.0, 20.0, 39.0, 40.0, 41.0, 120.0, 3600.0])
def test_the_grace_is_at_least_half_of_the_time_that_a_notice_leaves(left: float) -> None:
    """Of AWS's two minutes the job gets about 100 s; the rest is for the last bytes of its log."""
    grace = kill_time(Notice(NOW + left, NOW)) - NOW
    assert left / 2 <= grace <= left
    assert grace == pytest.approx(left - LAST_BYTES if left >= 2 * LAST_BYTES else left / 2)


def test_a_notice_whose_time_is_over_leaves_no_grace() -> None:
    """After the notice's time there is nothing to wait for."""
    assert kill_time(Notice(NOW - 5, NOW)) <= NOW


def test_a_done_file_of_an_earlier_attempt_is_gone(tmp_path: Path) -> None:
    """The folder is new for each attempt. Any user may create files there, but delete only their own."""
    for _ in range(2):
        made = JobDir.make(tmp_path / "exchange", {}, {}, "true")
        assert not made.done()
        assert ((tmp_path / "exchange" / DONE).parent.stat().st_mode & 0o7777) == 0o1777
        (tmp_path / "exchange" / DONE).touch()
        assert made.done()
        # Read the file as an agent's successor does.
        assert JobDir(tmp_path / "exchange").done()


@pytest.mark.parametrize(
    ("script", "stopping"),
    [
        ("echo stopping; exit 1", True),
        ("echo running", False),
        ("echo degraded; exit 1", False),
        ("echo 'Failed to connect to bus' >&2; exit 1", False),
        ("sleep 600", False),
        (None, False),
    ],
)
def test_systemd_is_asked_whether_it_is_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, stopping: bool
) -> None:
    """A systemd that is absent or does not answer in time counts as not stopping."""
    monkeypatch.setattr(shutdown, "PATIENCE", 0.5)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin" if script else str(tmp_path))
    if script:
        (tmp_path / "systemctl").write_text(f'#!/bin/sh\n[ "$*" = is-system-running ] || exit\n{script}\n')
        (tmp_path / "systemctl").chmod(0o755)
    assert shutdown.shutting_down() is stopping


def ended(site: Site, machine: str) -> tuple[Outcome, int | None, SignalCause | None]:
    site.wait_off(machine)
    result = site.result(machine)
    return result.outcome, result.exit_code, result.signal_cause
