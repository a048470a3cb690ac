"""Convert the records of a job's past to views."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from provisioner.core.history import runs
from provisioner.core.history.differences import changed_fields
from provisioner.core.recipe import jobs
from provisioner.core.recipe.jobs import Job, applicable
from provisioner.core.views.codec import moment
from provisioner.core.views.history.shapes import JobLine, Past, PastRun, Revision, RevisionRecipe


def past_run(item: runs.PastRun) -> PastRun:
    return PastRun(
        id=item.id,
        job_revision=item.job_revision,
        state=item.state,
        outcome=item.outcome,
        created_at=moment(item.created_at),
        began_at=moment(item.began_at),
        ended_at=moment(item.ended_at),
        dollars_at_least=item.dollars_at_least,
        dollars_at_most=item.dollars_at_most,
    )


def past(items: Sequence[runs.PastRun]) -> Past:
    return Past(tuple(map(past_run, items)), runs.reliability(items), runs.median_seconds(items))


def job_line(item: Job, next_at: float | None, states: Mapping[str, int], before: Sequence[runs.PastRun]) -> JobLine:
    """Return the view of a job in a list; `states` are the numbers of its unfinished runs, `before` its last runs."""
    spec = json.loads(item.recipe)["spec"]
    return JobLine(
        id=item.id,
        owner=item.owner,
        name=item.name,
        description=spec.get("description") or "",
        tags=spec.get("tags") or {},
        revision=item.revision,
        applied_at=moment(item.applied_at),
        schedule=item.schedule.cron if item.schedule else None,
        timezone=item.schedule.timezone if item.schedule else None,
        next_at=moment(next_at),
        states=states,
        past=past(before),
    )


def revision(item: jobs.Revision, before: jobs.Revision | None) -> Revision:
    """Return the view of a stored revision; `before` is the one that was stored before it, or None."""
    known = before is not None and before.number == item.number - 1
    changed = changed_fields(_spec(before.recipe), _spec(item.recipe)) if before and known else None
    return Revision(item.number, moment(item.applied_at), item.applied_by, changed, None)


def revision_of_run(item: runs.PastRun) -> Revision:
    """Return the view of a revision that only a run has."""
    return Revision(item.job_revision, None, "", None, item.id)


def revision_recipe(number: int, recipe: str, run: str | None = None) -> RevisionRecipe:
    return RevisionRecipe(number, run, applicable(recipe))


def _spec(recipe: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(recipe)["spec"]
    return found
