"""Endpoints that set, show, delete and list schedules."""

from typing import Annotated

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from provisioner.core.recipe.jobs import Catchup, Concurrency
from provisioner.core.views.job import Schedule, Schedules
from provisioner.faces.api.http import examples
from provisioner.faces.api.http.answers import shown
from provisioner.faces.api.http.caller import Acting, JobName, OwnerName, named
from provisioner.faces.api.http.document import answers

router = APIRouter(tags=["schedules"])


class Plan(BaseModel):
    """The schedule of a job. Fields that are left out are taken from the recipe."""

    model_config = ConfigDict(extra="forbid")

    schedule: Annotated[
        str,
        Field(
            max_length=1000,
            description="Five cron fields, `@hourly` to `@yearly`, or `@every 4h`.",
            examples=["0 2 * * *"],
        ),
    ]
    timezone: Annotated[
        str | None,
        Field(
            max_length=100,
            description="IANA time zone. Default: the recipe's, else UTC.",
            examples=["Europe/Berlin"],
        ),
    ] = None
    # Plain text: the recipe's own validation checks it and writes the error message.
    concurrency_policy: Annotated[
        str | None,
        Field(
            max_length=100,
            description="If the schedule's previous run is unfinished: start another, skip this time, or replace it.",
            json_schema_extra={"enum": [*map(str, Concurrency), None]},
        ),
    ] = None
    schedule_catchup: Annotated[
        str | None,
        Field(
            max_length=100,
            description="Missed times that are started later: none, the last, or all.",
            json_schema_extra={"enum": [*map(str, Catchup), None]},
        ),
    ] = None


@router.put(
    "/jobs/{job}/schedule",
    operation_id="set_schedule",
    responses=answers(Schedule, 404, 409, 413, example=examples.schedule()),
)
def set_schedule(
    control: Acting,
    job: JobName,
    plan: Annotated[Plan | None, Body(description="The schedule; null ends it.")],
    owner_name: OwnerName = "",
) -> Response:
    """Set a job's schedule; null ends it. The setting holds until a recipe with a schedule is applied to the job."""
    said = plan.model_dump(exclude_none=True, mode="json") if plan else None
    return shown(control.schedules.set(named(job, owner_name), said))


@router.get(
    "/jobs/{job}/schedule",
    operation_id="get_schedule",
    responses=answers(Schedule, 404, example=examples.schedule()),
)
def get_schedule(
    control: Acting,
    job: JobName,
    owner_name: OwnerName = "",
    count: Annotated[int, Query(ge=1, le=100, description="Number of next times.")] = 5,
) -> Response:
    """Show a job's schedule, with its last time and its next times."""
    return shown(control.schedules.get(named(job, owner_name), count))


@router.get(
    "/schedules",
    operation_id="list_schedules",
    responses=answers(Schedules, example=Schedules((examples.schedule(),))),
)
def list_schedules(control: Acting) -> Response:
    """List the schedules, each with its last and its next time."""
    return shown(Schedules(control.schedules.all()))
