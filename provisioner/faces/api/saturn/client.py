"""Endpoints, beside recipes and pods, that Saturn's public client needs to work unchanged (OpenAPI 2026.02.01)."""

from dataclasses import dataclass
from typing import Annotated, TypedDict

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from provisioner.core.cloud.offers import Size
from provisioner.core.errors import Invalid, NotFound
from provisioner.core.recipe.jobs import Concurrency
from provisioner.core.views.job import Job
from provisioner.core.views.run import Run
from provisioner.faces.api.http import examples
from provisioner.faces.api.http.answers import answer, shown
from provisioner.faces.api.http.caller import Acting, Calling, JobName, OwnerName, RunName, Serving, named
from provisioner.faces.api.http.document import OPEN, answers
from provisioner.faces.api.native import jobs
from provisioner.faces.api.saturn import recipes
from provisioner.ports.control.control import Control

router = APIRouter(tags=["saturn"])

#: Saturn's client compares this with 2026.02.01, as text, and sends other requests to older servers.
VERSION = "2026.02.01"


class ServerStatus(TypedDict):
    """The state of the server, and the version of its API."""

    status: str
    version: Annotated[str, "Version of Saturn's API that this server implements."]


class User(TypedDict):
    """The user of a token."""

    id: str
    username: Annotated[str, "Owner of recipes that name none."]
    admin: bool


class Org(TypedDict):
    """An organisation: the first part of an owner's name."""

    id: str
    name: str
    is_primary: bool


class Orgs(TypedDict):
    """The organisations of the caller's owners."""

    orgs: list[Org]


class ServerSize(TypedDict):
    """An instance type with GPUs. Prices are dollars an hour; null is unknown."""

    name: str
    cores: int
    memory: str
    gpu: int
    architecture: str
    zones: Annotated[list[str], "Zones in which the installation can launch this instance type."]
    spot: bool
    price_per_hour: float | None
    spot_price_per_hour: Annotated[float | None, "Spot price in the cheapest zone."]


class ServerOptions(TypedDict):
    """The instance types that a recipe may name. The lists are for Saturn's workspaces, and are always empty."""

    sizes: dict[str, ServerSize]
    disk_space: list[str]
    auto_shutoff: list[str]


class CronOptions(BaseModel):
    """The schedule by which a job starts."""

    model_config = ConfigDict(extra="forbid")

    schedule: Annotated[str, Field(max_length=200, examples=["@every 4h"])]
    concurrency_policy: Concurrency | None = None


class Patch(BaseModel):
    """A new schedule for a job. To change anything else, apply the recipe."""

    model_config = ConfigDict(extra="forbid")

    cron_schedule_options: CronOptions


@dataclass(frozen=True)
class JobNow(Job):
    """The job, and one status for all its runs."""

    status: Annotated[
        str, "While runs are unfinished: pending, running, stopping; else the last run's: completed, error, stopped."
    ]


@dataclass(frozen=True)
class Restarted(JobNow):
    """The job, and the run that was started."""

    run: Run


class Restart(BaseModel):
    """Options for a restart."""

    model_config = ConfigDict(extra="forbid")

    debug_mode: jobs.DebugMode = False


EXAMPLE = JobNow(**vars(examples.job()), status="running")


@router.get(
    "/status",
    operation_id="get_server_status",
    openapi_extra=OPEN,
    responses=answers(ServerStatus, example={"status": "ok", "version": VERSION}, public=True),
)
async def get_server_status() -> Response:
    """Show the version of Saturn's API that this server implements."""
    return answer(ServerStatus(status="ok", version=VERSION))


@router.get(
    "/user",
    operation_id="get_user",
    responses=answers(User, example={"id": "t1", "username": "ann", "admin": False}),
)
async def get_user(caller: Calling) -> Response:
    """Show the user of the request's token."""
    return answer(User(id=caller.name, username=caller.owner.rpartition("/")[2], admin=caller.admin))


@router.get(
    "/orgs",
    operation_id="list_orgs",
    responses=answers(Orgs, example={"orgs": [{"id": "team", "name": "team", "is_primary": True}]}),
)
async def list_orgs(caller: Calling) -> Response:
    """List the organisations of the caller's owners. An owner without an organisation is listed as an organisation."""
    names = dict.fromkeys(owner.partition("/")[0] for owner in caller.owners)
    return answer(Orgs(orgs=[Org(id=name, name=name, is_primary=not at) for at, name in enumerate(names)]))


def _size(item: Size) -> ServerSize:
    kind = item.type
    return {
        "name": kind.name,
        "cores": kind.vcpus,
        "memory": f"{kind.memory_mib / 1024:g}Gi",
        "gpu": kind.gpus,
        "architecture": kind.architecture,
        "zones": list(kind.zones),
        "spot": kind.spot,
        "price_per_hour": item.on_demand.dollars if item.on_demand else None,
        "spot_price_per_hour": item.spot.dollars if item.spot else None,
    }


EXAMPLE_SIZE = _size(examples.size())


@router.get(
    "/info/servers",
    operation_id="list_server_options",
    responses=answers(
        ServerOptions,
        502,
        example={"sizes": {"g5.xlarge": EXAMPLE_SIZE}, "disk_space": [], "auto_shutoff": []},
    ),
)
async def list_server_options(caller: Calling, control: Acting, server: Serving) -> Response:
    """List the instance types with a GPU."""

    found = await server.readers.read(caller.name, control.jobs.sizes)
    sizes = {each.type.name: _size(each) for each in found}
    return answer(ServerOptions(sizes=sizes, disk_space=[], auto_shutoff=[]))


# Acting on a job


def _answered(control: Control, job: Job, run: Run | None = None) -> Response:
    """Return the answer with the job and, if a run was started, with the run."""
    now = JobNow(**vars(job), status=recipes.status_of(control, job))
    return shown(Restarted(**vars(now), run=run) if run else now)


def _stop_all(control: Control, job: Job) -> None:
    for run in recipes.unfinished(control, job):
        control.runs.stop(run.id)


@router.post(
    "/jobs/{job}/stop",
    operation_id="stop_job",
    responses=answers(JobNow, 404, 409, example=EXAMPLE),
)
def stop_job(control: Acting, job: JobName, owner_name: OwnerName = "") -> Response:
    """Stop all runs of a job."""
    found = jobs.look_up(control, job, owner_name)
    _stop_all(control, found)
    return _answered(control, found)


@router.post(
    "/jobs/{job}/stop/{run}",
    operation_id="stop_run_of_job",
    responses=answers(JobNow, 404, 409, example=EXAMPLE),
)
def stop_run_of_job(control: Acting, job: JobName, run: RunName, owner_name: OwnerName = "") -> Response:
    """Stop one run of a job. A pod has the id of its run in the label `job-name`."""
    found, meant = jobs.look_up(control, job, owner_name), control.runs.get(run)
    if meant.job_id != found.id:
        raise NotFound(f"{found.name} has no run {run!r}")
    control.runs.stop(meant.id)
    return _answered(control, found)


@router.post(
    "/jobs/{job}/restart",
    operation_id="restart_job",
    responses=answers(Restarted, 404, 409, 413, example=Restarted(**vars(EXAMPLE), run=examples.run())),
)
def restart_job(
    control: Acting,
    job: JobName,
    body: Restart | None = None,  # noqa: ARG001 - its type validates the request
    owner_name: OwnerName = "",
) -> Response:
    """Stop all runs of a job, and start a new run."""
    found = jobs.look_up(control, job, owner_name)
    _stop_all(control, found)
    return _answered(control, found, control.runs.start(found.id, {}))


@router.patch(
    "/jobs/{job}",
    operation_id="change_job",
    responses=answers(JobNow, 404, 409, 413, example=EXAMPLE),
)
def change_job(control: Acting, job: JobName, body: Patch, owner_name: OwnerName = "") -> Response:
    """Change the schedule in a job's recipe. From now on, the job starts by the new schedule."""
    options = body.cron_schedule_options.model_dump(mode="json", exclude_none=True)
    return _answered(control, control.jobs.change(named(job, owner_name), options))


@router.post(
    "/jobs/{job}/schedule",
    operation_id="schedule_job",
    responses=answers(JobNow, 404, 409, example=EXAMPLE),
)
def schedule_job(control: Acting, job: JobName, owner_name: OwnerName = "") -> Response:
    """Activate the schedule in a job's recipe; no change if the job has an active schedule already."""
    found = jobs.look_up(control, job, owner_name)
    if found.schedule is None:
        if not found.recipe["spec"]["schedule"]:
            raise Invalid(f"{found.name} has no schedule in its recipe; set it: `sc schedule {found.name} '@every 4h'`")
        control.schedules.set(found.id, {})
        found = control.jobs.get(found.id)
    return _answered(control, found)


@router.post(
    "/jobs/{job}/unschedule",
    operation_id="unschedule_job",
    responses=answers(JobNow, 404, 409, example=EXAMPLE),
)
def unschedule_job(control: Acting, job: JobName, owner_name: OwnerName = "") -> Response:
    """End a job's schedule. The schedule in its recipe stays, but is inactive."""
    found = jobs.look_up(control, job, owner_name)
    control.schedules.set(found.id, None)
    return _answered(control, control.jobs.get(found.id))
