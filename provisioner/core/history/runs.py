"""The past runs of a job, in short, and what they show about the job. Times are Unix seconds."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.states import State

#: Outcomes that say nothing about the job's reliability: a user ended the run, or no machine was launched for it.
UNCOUNTED = frozenset({Outcome.CANCELLED, Outcome.REFUSED})


@dataclass(frozen=True)
class PastRun:
    """What lists and charts show of a run; the store reads it without the run's recipe."""

    id: str
    job_id: str
    job_revision: int
    state: State
    #: None until the run has ended.
    outcome: Outcome | None
    created_at: float
    #: When its first attempt got a machine; None if none did.
    began_at: float | None
    ended_at: float | None
    #: US dollars of the machines without disks, once the run is done; None if a price is unknown.
    dollars_at_least: float | None
    dollars_at_most: float | None

    def seconds(self, now: float) -> float | None:
        """Return the time from the first machine to the run's end, or to `now`; None if it had no machine."""
        if self.began_at is None:
            return None
        return max(0.0, (now if self.ended_at is None else self.ended_at) - self.began_at)


def reliability(runs: Iterable[PastRun]) -> float | None:
    """Return the share of runs that succeeded, from 0 to 1, without runs that do not count; None if no run counts."""
    counted = [run.outcome for run in runs if run.outcome and run.outcome not in UNCOUNTED]
    return counted.count(Outcome.SUCCEEDED) / len(counted) if counted else None


def median_seconds(runs: Iterable[PastRun]) -> float | None:
    """Return the median duration of the runs that succeeded; None if none did."""
    lasted = [run.seconds(run.ended_at) for run in runs if run.outcome is Outcome.SUCCEEDED and run.ended_at]
    known = [each for each in lasted if each is not None]
    return statistics.median(known) if known else None
