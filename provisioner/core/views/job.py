"""Views of a job and of its schedule."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from provisioner.core.recipe.jobs import Catchup, Concurrency
from provisioner.core.run.states import State
from provisioner.core.views.codec import Moment
from provisioner.core.views.run import Run


@dataclass(frozen=True)
class Job:
    """A stored recipe."""

    id: str
    owner: str
    name: str
    revision: int
    created_at: Moment
    applied_at: Moment
    schedule: Annotated[str | None, "The schedule; null if the job has none."]
    recipe: Annotated[Mapping[str, Any], "The recipe with all defaults."]
    apply_refuses: Annotated[
        tuple[str, ...],
        "Why `apply` would now reject this stored recipe or schedule, under newer rules. The job still runs.",
    ]
    warnings: Annotated[
        tuple[str, ...], "What `apply` could not check, or what may surprise; empty except in its own answer."
    ] = field(default=(), kw_only=True)
    hourly_dollars: Annotated[
        float | None,
        "On-demand list price of an hour of all machines of a run, in answers to `apply` of a job with several; null "
        "if unknown.",
    ] = field(default=None, kw_only=True)
    machine_lifetime: Annotated[
        float | None,
        "Longest time in seconds that a machine of a run may exist, in answers to `apply` of a job with several.",
    ] = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Jobs:
    """The caller's jobs, sorted by owner and name."""

    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class Prices:
    """What an hour of one machine of a job costs in dollars, over all offers that the recipe allows."""

    least: Annotated[float | None, "Of the cheapest offer; null if the price of an offer is unknown."]
    most: Annotated[float | None, "Of the dearest offer; null if the price of an offer is unknown."]


@dataclass(frozen=True)
class Started(Job):
    """The job, and the run that was started."""

    run: Run


@dataclass(frozen=True)
class Last:
    """The last time at which a schedule was due, and the run that it started then."""

    at: Moment
    run: str | None
    state: Annotated[State | None, "The state of the run."]
    outcome: Annotated[
        str | None, "The run's outcome, null until it ends. If no run was started: `skipped`, `missed` or `refused`."
    ]
    exit_code: int | None
    process_exit_code: int | None
    reason: str | None


@dataclass(frozen=True)
class Schedule:
    """The schedule by which a job starts automatically."""

    job: Annotated[str, "`owner/name`"]
    schedule: str | None
    timezone: str | None
    concurrency_policy: Concurrency | None
    schedule_catchup: Catchup | None
    last: Last | None
    next: tuple[Moment, ...]


@dataclass(frozen=True)
class Schedules:
    """The schedules, sorted by owner and name, each with its next time."""

    schedules: tuple[Schedule, ...]
