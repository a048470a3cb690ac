"""What Saturn's public client asks for beside recipes, so that it works unchanged (public OpenAPI 2026.02.01)."""

import codecs
import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response, StreamingResponse

from provisioner.core.errors import Invalid, NotFound
from provisioner.core.launch import Market
from provisioner.core.record import Concurrency, Job, Run
from provisioner.core.run import State
from provisioner.core.work import STREAMS
from provisioner.faces import shapes
from provisioner.faces.api import examples, jobs, pods
from provisioner.faces.api.answers import JSON, answer, either
from provisioner.faces.api.caller import Acting, Calling, JobName, OwnerName, RunName
from provisioner.faces.api.document import OPEN, answers
from provisioner.ports.control import Control, LogGap, LogPiece, Size
from provisioner.ports.store import RunFilter

router = APIRouter(tags=["saturn"])

#: Its client compares this with 2026.02.01, as text, and asks older servers otherwise.
VERSION = "2026.02.01"
#: Runs and pods of one answer.
PAGE = 1000
#: Lines of a container that prepares, in its summary.
GLIMPSE = 100

Pod = Annotated[str, Path(max_length=300, description="A pod's name: JOB-RUN-ATTEMPT-RANK.")]


class ServerStatus(shapes.TypedDict):
    status: str
    version: Annotated[str, "Of Saturn's API that this one is like."]


class User(shapes.TypedDict):
    id: str
    username: Annotated[str, "Whose job a recipe without an owner is."]
    admin: bool


class Org(shapes.TypedDict):
    id: str
    name: str
    is_primary: bool


class Orgs(shapes.TypedDict):
    orgs: list[Org]


class ServerSize(shapes.TypedDict):
    """An instance type with GPUs; a price is dollars an hour, null where it is not known."""

    name: str
    cores: int
    memory: str
    gpu: int
    architecture: str
    zones: Annotated[list[str], "Where the installation can launch it."]
    spot: bool
    price_per_hour: float | None
    spot_price_per_hour: Annotated[float | None, "In the cheapest zone."]


class ServerOptions(shapes.TypedDict):
    """What a recipe may name; the lists are for workspaces, of which there are none."""

    sizes: dict[str, ServerSize]
    disk_space: list[str]
    auto_shutoff: list[str]


class Pods(shapes.TypedDict):
    pod_summaries: list[pods.Pod]
    next_key: str | None


class History(shapes.TypedDict):
    pods: Annotated[list[pods.HistoricalPod], "Of the newest thousand runs."]


class PodLogs(shapes.TypedDict):
    logs: str


class CronOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    schedule: Annotated[str, Field(max_length=200, examples=["@every 4h"])]
    concurrency_policy: Concurrency | None = None


class Patch(BaseModel):
    """Everything else is changed by applying the recipe."""

    model_config = ConfigDict(extra="forbid")

    cron_schedule_options: CronOptions


class Restart(BaseModel):
    model_config = ConfigDict(extra="forbid")

    debug_mode: Annotated[bool, Field(description="Accepted, and without effect.")] = False


_POD = pods.Attempt(examples.RUN, 1, 0, examples.NODE)


@router.get(
    "/status",
    operation_id="get_server_status",
    openapi_extra=OPEN,
    responses=answers(ServerStatus, example={"status": "ok", "version": VERSION}, public=True),
)
async def get_server_status() -> Response:
    """Say which API this is."""
    return answer(ServerStatus(status="ok", version=VERSION))


@router.get(
    "/user",
    operation_id="get_user",
    responses=answers(User, example={"id": "t1", "username": "ann", "admin": False}),
)
async def get_user(caller: Calling) -> Response:
    """Say whose token it is."""
    return answer(User(id=caller.name, username=caller.owner.rpartition("/")[2], admin=caller.admin))


@router.get(
    "/orgs",
    operation_id="list_orgs",
    responses=answers(Orgs, example={"orgs": [{"id": "team", "name": "team", "is_primary": True}]}),
)
async def list_orgs(caller: Calling) -> Response:
    """List the organisations of the caller's owners; one without is its own."""
    names = dict.fromkeys(owner.partition("/")[0] for owner in caller.owners)
    return answer(Orgs(orgs=[Org(id=name, name=name, is_primary=not at) for at, name in enumerate(names)]))


@router.get(
    "/info/servers",
    operation_id="list_server_options",
    responses=answers(
        ServerOptions,
        502,
        example={"sizes": {"g5.xlarge": examples.size()}, "disk_space": [], "auto_shutoff": []},
        lossless=True,
    ),
)
def list_server_options(request: Request, control: Acting) -> Response:
    """List the instance types with a GPU."""

    def shown(sizes: Iterable[Size]) -> ServerOptions:
        return {"sizes": {each.type.name: _size(each) for each in sizes}, "disk_space": [], "auto_shutoff": []}

    return either(request, control.sizes(), shown)


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
