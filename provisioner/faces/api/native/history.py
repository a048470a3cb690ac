"""Endpoints that list jobs with their last runs, and show the past of a job: its runs and its revisions."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from provisioner.core.views.history.shapes import JobLines, Past, RevisionRecipe, Revisions
from provisioner.faces.api.http import examples
from provisioner.faces.api.http.answers import shown
from provisioner.faces.api.http.caller import Acting, JobName, OwnerName, named
from provisioner.faces.api.http.document import answers

router = APIRouter(tags=["jobs"])


@router.get("/job-lines", operation_id="list_job_lines", responses=answers(JobLines, example=examples.job_lines()))
def list_job_lines(
    control: Acting,
    search: Annotated[str, Query(max_length=200, description="Text that `owner/name` contains, in any case.")] = "",
    cursor: Annotated[str, Query(max_length=400, description="`next_key` of the previous page.")] = "",
    limit: Annotated[int, Query(ge=1, le=200, description="Most jobs to return.")] = 50,
) -> Response:
    """List the caller's jobs without their recipes, each with its last 30 runs, by owner and name."""
    return shown(control.history.jobs(search, cursor, limit))


@router.get("/jobs/{job}/past", operation_id="get_job_past", responses=answers(Past, 404, example=examples.past()))
def get_job_past(
    control: Acting,
    job: JobName,
    owner_name: OwnerName = "",
    count: Annotated[int, Query(ge=1, le=1000, description="Number of the job's last runs.")] = 100,
) -> Response:
    """Show the last runs of a job in short, how many of them succeeded, and how long they took."""
    return shown(control.history.runs(named(job, owner_name), count))


@router.get(
    "/jobs/{job}/revisions",
    operation_id="list_revisions",
    responses=answers(Revisions, 404, example=Revisions((examples.revision(),), None)),
)
def list_revisions(
    control: Acting,
    job: JobName,
    owner_name: OwnerName = "",
    before: Annotated[int | None, Query(ge=1, le=2**31, description="`next_before` of the previous page.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Most revisions to return.")] = 20,
) -> Response:
    """List the revisions of a job, the latest first: who applied which, and what changed."""
    return shown(control.history.revisions(named(job, owner_name), before, limit))


@router.get(
    "/jobs/{job}/revisions/{number}",
    operation_id="get_revision",
    responses=answers(RevisionRecipe, 404, example=examples.revision_recipe()),
)
def get_revision(
    control: Acting,
    job: JobName,
    number: Annotated[int, Path(ge=1, le=2**31, description="The number of the revision.")],
    owner_name: OwnerName = "",
) -> Response:
    """Show the recipe of a revision of a job."""
    return shown(control.history.revision(named(job, owner_name), number))
