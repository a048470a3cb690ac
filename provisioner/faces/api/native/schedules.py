"""Schedules: said, shown, ended."""

from typing import Annotated, TypedDict

from fastapi import APIRouter, Body, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from provisioner.core.recipe.jobs import Catchup, Concurrency
from provisioner.faces.api.http import examples
from provisioner.faces.api.http.answers import either
from provisioner.faces.api.http.caller import Acting, JobName, OwnerName, named
from provisioner.faces.api.http.document import answers
from provisioner.faces.views import shaped, shapes
from provisioner.ports.control.schedules import Scheduled

router = APIRouter(tags=["schedules"])


class Schedules(TypedDict):
    """The schedules, by owner and name, each with its next time."""

    schedules: list[shapes.Schedule]


class Plan(BaseModel):
    """When a job starts by itself; what is left out is the recipe's."""

    model_config = ConfigDict(extra="forbid")

    schedule: Annotated[
        str,
        Field(
            max_length=1000,
            description="Five fields, `@daily` and the like, or `@every 4h`.",
            examples=["0 2 * * *"],
        ),
    ]
    timezone: Annotated[str | None, Field(max_length=100, description="IANA's name.", examples=["Europe/Berlin"])] = (
        None
    )
    # Text, so that what is wrong with it is said as a recipe's reader says it.
    concurrency_policy: Annotated[
        str | None,
        Field(
            max_length=100,
            description="While the last is not over.",
            json_schema_extra={"enum": [*map(str, Concurrency), None]},
        ),
    ] = None
    schedule_catchup: Annotated[
        str | None,
        Field(
            max_length=100,
            description="What nobody started in time.",
            json_schema_extra={"enum": [*map(str, Catchup), None]},
        ),
    ] = None


@router.put(
    "/jobs/{job}/schedule",
    operation_id="set_schedule",
    responses=answers(shapes.Schedule, 404, 409, 413, example=examples.schedule(), lossless=True),
)
def set_schedule(
    request: Request,
    control: Acting,
    job: JobName,
    plan: Annotated[Plan | None, Body(description="null: no more of it.")],
    owner_name: OwnerName = "",
) -> Response:
    """Let a job start by itself, or end that. It stands until a recipe that has a schedule is applied."""
    said = plan.model_dump(exclude_none=True, mode="json") if plan else None
    found = control.schedules.set(named(job, owner_name), said)
    shown = control.schedules.get(found.id, 1) if found.schedule else Scheduled(found, (), None)
    return either(request, shown, shaped.scheduled)


@router.get(
    "/jobs/{job}/schedule",
    operation_id="get_schedule",
    responses=answers(shapes.Schedule, 404, example=examples.schedule(), lossless=True),
)
def get_schedule(
    request: Request,
    control: Acting,
    job: JobName,
    owner_name: OwnerName = "",
    count: Annotated[int, Query(ge=1, le=100, description="How many times to come.")] = 5,
) -> Response:
    """Show a job's schedule, its last time and those to come."""
    return either(request, control.schedules.get(named(job, owner_name), count), shaped.scheduled)


@router.get(
    "/schedules",
    operation_id="list_schedules",
    responses=answers(Schedules, example={"schedules": [examples.schedule()]}, lossless=True),
)
def list_schedules(request: Request, control: Acting) -> Response:
    """List the schedules."""
    return either(
        request, control.schedules.all(), lambda found: {"schedules": [shaped.scheduled(each) for each in found]}
    )
