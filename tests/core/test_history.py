"""What the past runs of a job show about it."""

from dataclasses import replace

from provisioner.core.history.runs import PastRun, median_seconds, reliability
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.states import State


def past(outcome: Outcome | None = Outcome.SUCCEEDED, seconds: float = 60.0) -> PastRun:
    ended = 110.0 + seconds if outcome else None
    return PastRun("r", "j", 1, State.DONE if outcome else State.RUNNING, outcome, 100.0, 110.0, ended, None, None)


def test_reliability_is_the_share_of_runs_that_succeeded() -> None:
    """A lost or interrupted run counts as a failure, because its command was not completed."""
    runs = [past(), past(), past(Outcome.FAILED), past(Outcome.INTERRUPTED)]
    assert reliability(runs) == 0.5


def test_runs_that_a_user_ended_or_that_had_no_machine_do_not_count_for_reliability() -> None:
    """Stopping runs must not make a job look unreliable."""
    runs = [past(), past(Outcome.CANCELLED), past(Outcome.REFUSED), past(None)]
    assert reliability(runs) == 1.0
    assert reliability(runs[1:]) is None


def test_median_is_over_runs_that_succeeded() -> None:
    """A run that failed at once says nothing about how long the job takes."""
    runs = [past(seconds=10.0), past(seconds=30.0), past(seconds=500.0), past(Outcome.FAILED, 1.0), past(None)]
    assert median_seconds(runs) == 30.0
    assert median_seconds([replace(past(), began_at=None)]) is None


def test_duration_counts_from_the_first_machine_until_now_or_the_end() -> None:
    """The time in the queue is no part of a run's duration."""
    assert past(seconds=5.0).seconds(now=900.0) == 5.0
    assert past(None).seconds(now=900.0) == 790.0
    assert replace(past(None), began_at=None).seconds(now=900.0) is None
