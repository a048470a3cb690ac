"""Endpoints that list, show, delete and start jobs."""

from typing import Annotated

from fastapi import APIRouter, Header
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.responses import Response

from provisioner.core.views.job import Job, Jobs, Prices, Started
from provisioner.faces.api.http import examples
from provisioner.faces.api.http.answers import shown
from provisioner.faces.api.http.caller import Acting, JobName, OwnerName, named
from provisioner.faces.api.http.document import answers
from provisioner.ports.control.control import Control

router = APIRouter(tags=["jobs"])


def _no_debugging(wanted: bool) -> bool:
    if wanted:
        raise ValueError(
            "debug mode is not supported; use `provision ssh RUN` (needs `open = true` under [ssh] in the settings)"
        )
    return wanted


DebugMode = Annotated[
    bool, AfterValidator(_no_debugging), Field(description="A field of Saturn's API; `true` is rejected.")
]


class Start(BaseModel):
    """How a run differs from its job. Every field is optional."""

    model_config = ConfigDict(extra="forbid")

    env: Annotated[dict[str, str], Field(description="Variables for this run; they override the recipe's.")] = {}
    command: Annotated[str | None, Field(description="Command for this run, in place of the recipe's.")] = None
    idempotency_key: Annotated[
        str, Field(max_length=200, description="The same key within 24 h returns the same run; with other inputs, 409.")
    ] = ""
    scale: Annotated[
        int | None, Field(ge=1, le=1000, description="Number of machines of this run, in place of the recipe's.")
    ] = None
    upload: Annotated[
        str, Field(max_length=64, description="The id of an upload: its commands replace the recipe's.")
    ] = ""
    debug_mode: DebugMode = False


def look_up(control: Control, job: str, owner: str) -> Job:
    """Return the job with this id, or with this name and owner."""
    return control.jobs.get(named(job, owner))


@router.post(
    "/jobs/{job}/start",
    operation_id="start_job",
    responses=answers(Started, 404, 409, 413, example=Started(**vars(examples.job()), run=examples.run())),
)
def start_job(
    control: Acting,
    job: JobName,
    body: Start | None = None,
    owner_name: OwnerName = "",
    idempotency_key: Annotated[
        str, Header(max_length=200, description="Idempotency key; `idempotency_key` in the body takes precedence.")
    ] = "",
) -> Response:
    """Start a run of a job, on a new machine."""
    asked = body or Start()
    found = look_up(control, job, owner_name)
    # Pass the name that was given, because error messages show it.
    key = asked.idempotency_key or idempotency_key
    run = control.runs.start(named(job, owner_name), asked.env, asked.command, key, asked.scale, asked.upload)
    return shown(Started(**vars(found), run=run))


@router.get("/jobs", operation_id="list_jobs", responses=answers(Jobs, example=Jobs((examples.job(),))))
def list_jobs(control: Acting) -> Response:
    """List the jobs that the caller may access, by owner and name."""
    return shown(Jobs(control.jobs.all()))


@router.get("/jobs/{job}", operation_id="get_job", responses=answers(Job, 404, example=examples.job()))
def get_job(control: Acting, job: JobName, owner_name: OwnerName = "") -> Response:
    """Show a job and its recipe, with every default filled in."""
    return shown(look_up(control, job, owner_name))


@router.get(
    "/jobs/{job}/prices", operation_id="get_job_prices", responses=answers(Prices, 404, example=Prices(0.50, 1.20))
)
def get_job_prices(control: Acting, job: JobName, owner_name: OwnerName = "") -> Response:
    """Show what an hour of one machine of a job costs, with the prices that AWS shows now."""
    return shown(control.jobs.prices(named(job, owner_name)))


@router.delete(
    "/jobs/{job}",
    operation_id="delete_job",
    responses=answers(Job, 404, 409, example=examples.job()),
)
def delete_job(control: Acting, job: JobName, owner_name: OwnerName = "") -> Response:
    """Delete a job that has no unfinished runs. Its runs and their logs are kept."""
    return shown(control.jobs.delete(named(job, owner_name)))
