"""Views of a job's past: its runs in short, its revisions, and one line of the list of jobs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.states import State
from provisioner.core.views.codec import Moment


@dataclass(frozen=True)
class PastRun:
    """A run in short."""

    id: str
    job_revision: int
    state: State
    outcome: Annotated[Outcome | None, "Null until the run has ended."]
    created_at: Moment
    began_at: Annotated[Moment | None, "When its first attempt got a machine; null if none did."]
    ended_at: Moment | None
    dollars_at_least: Annotated[float | None, "Of all machines, without disks; null until done, or unknown."]
    dollars_at_most: Annotated[float | None, "Of all machines, without disks; null until done, or unknown."]


@dataclass(frozen=True)
class Past:
    """The last runs of a job, and what they show about it."""

    runs: Annotated[tuple[PastRun, ...], "The newest first."]
    reliability: Annotated[
        float | None,
        "Share of these runs that succeeded, from 0 to 1, without cancelled and refused ones; null if no run counts.",
    ]
    median_seconds: Annotated[
        float | None, "Median time from the first machine to the end, of those that succeeded; null if none did."
    ]


@dataclass(frozen=True)
class JobLine:
    """A job without its recipe, with its last runs."""

    id: str
    owner: str
    name: str
    description: str
    tags: Annotated[Mapping[str, str], "The recipe's tags."]
    revision: int
    applied_at: Moment
    schedule: str | None
    timezone: str | None
    next_at: Annotated[Moment | None, "When the schedule is due next; null without a schedule."]
    states: Annotated[Mapping[str, int], "Number of unfinished runs by state."]
    past: Past


@dataclass(frozen=True)
class JobLines:
    """A page of jobs, sorted by owner and name."""

    at: Annotated[Moment, "The time of the server's clock."]
    jobs: tuple[JobLine, ...]
    next_key: Annotated[str | None, "Pass it as `cursor` for the next page; null if there is none."]


@dataclass(frozen=True)
class Revision:
    """One revision of a job's recipe."""

    number: int
    applied_at: Annotated[Moment | None, "Null if it was not recorded."]
    applied_by: Annotated[
        str, "`local:` and the Unix user, or the token's id, that applied it; empty if it was not recorded."
    ]
    changed: Annotated[
        tuple[str, ...] | None, "Fields that differ from the revision before; null if one of them is not stored."
    ]
    run: Annotated[
        str | None,
        "If the recipe is not stored, as earlier versions of provision stored only the latest one: the last run that"
        " used it, perhaps with inputs of its own.",
    ]


@dataclass(frozen=True)
class Revisions:
    """Revisions of a job, the latest first. Only the last 100 are stored."""

    revisions: tuple[Revision, ...]
    next_before: Annotated[int | None, "Pass it as `before` for the next page; null if there is none."]


@dataclass(frozen=True)
class RevisionRecipe:
    """The recipe of one revision."""

    number: int
    run: Annotated[str | None, "The run that the recipe is from, if only runs have it."]
    recipe: Annotated[Mapping[str, Any], "The recipe with all defaults."]
