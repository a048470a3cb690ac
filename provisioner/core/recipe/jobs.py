"""Jobs and their schedules, as the store keeps them.

Times are Unix seconds.
"""

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

#: The version of Saturn Cloud's schema that recipes follow.
SCHEMA = "2025.10.01"
#: Maximum number of stored revisions of a job, and of bytes of all revisions of an owner. Beyond this, the oldest
#: revisions are deleted and `apply` still works: otherwise users who apply often would have to delete jobs.
KEPT_REVISIONS, KEPT_BYTES = 100, 16 << 20


class Concurrency(StrEnum):
    """What a due schedule does while its earlier run is unfinished; Saturn and Kubernetes use the same words."""

    ALLOW = "Allow"
    FORBID = "Forbid"
    REPLACE = "Replace"


class Catchup(StrEnum):
    """Which missed starts are made later. A start is missed if it was due while no control plane ran."""

    NONE = "none"
    LAST = "last"
    ALL = "all"


@dataclass(frozen=True)
class Schedule:
    """The times at which a job starts without a trigger."""

    #: Five fields, a name such as `@daily`, or `@every 4h`.
    cron: str
    timezone: str = "UTC"
    concurrency: Concurrency = Concurrency.ALLOW
    catchup: Catchup = Catchup.LAST


@dataclass(frozen=True)
class Job:
    """A stored recipe of an owner; each further `apply` increases `revision`."""

    id: str
    owner: str
    name: str
    #: The recipe as `Recipe.dump` wrote it.
    recipe: str
    revision: int
    created_at: float
    applied_at: float
    deleted_at: float | None = None
    schedule: Schedule | None = None
    #: Whether the schedule comes from the recipe. If so, applying a recipe without a schedule removes the schedule.
    schedule_of_recipe: bool = False
    #: When the schedule was set: earlier times are not due, and `@every` counts from this time.
    scheduled_at: float = 0.0
    #: The latest due time for which it was decided whether a run starts; the id of the run that was started; or the
    #: reason why no run was started.
    tick: float | None = None
    tick_run: str = ""
    tick_without: str = ""
    version: int = 0


@dataclass(frozen=True)
class Revision:
    """One revision of a job, as `apply` stored it. Earlier versions of this program stored only the latest, in the job.

    The store keeps the last KEPT_REVISIONS revisions of a job, and KEPT_BYTES of an owner, until the job is deleted.
    """

    #: `JOB-NUMBER`, with the job's id.
    id: str
    job: str
    number: int
    #: As `Job.recipe`.
    recipe: str
    applied_at: float
    #: `local:` and the Unix user, or the token's id, as in an audit record; empty if it was not recorded.
    applied_by: str
    #: The job's owner.
    owner: str = ""
    version: int = 0


def applied(job: Job, recipe: str, plan: Schedule | None, now: float) -> Job:
    """Return the job with the recipe, and with `plan`, the recipe's schedule.

    If the recipe has no schedule, the job keeps a schedule that a command has set.
    """
    if job.recipe != recipe:
        job = replace(job, recipe=recipe, revision=job.revision + 1, applied_at=now)
    if plan is None and job.schedule_of_recipe:
        return replace(job, schedule=None, schedule_of_recipe=False)
    if plan is not None and plan != job.schedule:
        job = replace(job, schedule=plan, scheduled_at=now)
    return job if plan is None or job.schedule_of_recipe else replace(job, schedule_of_recipe=True)


def revision_of(job: Job, applied_by: str) -> Revision:
    """Return the job's present revision, which the caller of that name has applied."""
    return Revision(
        id=f"{job.id}-{job.revision}",
        job=job.id,
        number=job.revision,
        recipe=job.recipe,
        applied_at=job.applied_at,
        applied_by=applied_by,
        owner=job.owner,
    )


def applicable(dump: str) -> dict[str, Any]:
    """Return a stored recipe as a document that `apply` accepts.

    Earlier versions stored null references, and any `schema_version`.
    """
    document: dict[str, Any] = json.loads(dump)
    document["schema_version"] = SCHEMA
    for repository in document["spec"].get("git_repositories") or ():
        if repository.get("reference", "") is None:
            del repository["reference"]
    return document
