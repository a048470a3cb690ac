"""Views of a job and of its schedule."""

from collections.abc import Mapping
from dataclasses import dataclass
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
    schedule: Annotated[str | None, "When it starts by itself; null: never."]
    recipe: Annotated[Mapping[str, Any], "Every default filled in."]
    apply_refuses: Annotated[
        tuple[str, ...],
        "Why `apply` would refuse the stored recipe or schedule now: rules were added since. It keeps running.",
    ]


@dataclass(frozen=True)
class Jobs:
    """The caller's jobs, by owner and name."""

    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class Started(Job):
    """The job, and the run that was started."""

    run: Run


@dataclass(frozen=True)
class Last:
    """The last time of a schedule."""

    at: Moment
    run: str | None
    state: Annotated[State | None, "Of the run."]
    outcome: Annotated[
        str | None, "Null while the run is not over; of a time without a run `skipped`, `missed` or `refused`."
    ]
    exit_code: int | None
    process_exit_code: int | None
    reason: str | None


@dataclass(frozen=True)
class Schedule:
    """When a job starts by itself."""

    job: Annotated[str, "`owner/name`"]
    schedule: str | None
    timezone: str | None
    concurrency_policy: Concurrency | None
    schedule_catchup: Catchup | None
    last: Last | None
    next: tuple[Moment, ...]


@dataclass(frozen=True)
class Schedules:
    """The schedules, by owner and name, each with its next time."""

    schedules: tuple[Schedule, ...]
