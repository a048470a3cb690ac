"""Recipes in the form of Saturn's API and client: apply, list, show and clone (public OpenAPI 2026.02.01)."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, NotRequired, TypedDict

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from provisioner.core.errors import Invalid
from provisioner.core.protocol.words import Outcome
from provisioner.core.recipe.lists import as_text
from provisioner.core.recipe.recipe import Spec
from provisioner.core.run.states import State
from provisioner.core.views.job import Job
from provisioner.core.views.pages import key_in
from provisioner.core.views.run import Run
from provisioner.faces.api.http import examples
from provisioner.faces.api.http.answers import JSON, answer
from provisioner.faces.api.http.caller import Acting, Calling, OwnerName, Serving, named
from provisioner.faces.api.http.document import answers
from provisioner.ports.control.control import Control
from provisioner.ports.store import RunFilter

router = APIRouter(tags=["recipes"])


class RecipeState(TypedDict):
    """The part of a recipe that the server adds."""

    id: Annotated[str, "The job's id."]
    status: Annotated[
        str, "While runs are unfinished: pending, running, stopping; else the last run's: completed, error, stopped."
    ]
    warnings: NotRequired[Annotated[list[str], "What could not be checked; only in the answer to an applied recipe."]]


class Recipe(TypedDict):
    """A job's recipe, with the job's current schedule."""

    schema_version: str
    type: str
    spec: dict[str, Any]
    state: NotRequired[RecipeState]


class Recipes(TypedDict):
    """A page of recipes, by owner and name."""

    recipes: list[Recipe]
    next_key: Annotated[str | None, "Pass it as `next_key` to get the next page; null: this is the last page."]


def recipe(job: Job, status: str = "", *, as_template: bool = False) -> Recipe:
    """Return the job's recipe. A template has no owner and no state, so that another owner can apply it."""
    told = job.recipe
    # Saturn's client needs a text as the owner, and prints a start script of null as `None`.
    spec = {name: value for name, value in told["spec"].items() if value is not None}
    spec |= {"schedule": job.schedule, "start_script": spec.get("start_script", "")}
    spec["command"] = as_text(spec["command"])
    spec.pop("owner", None)
    made = Recipe(schema_version=told["schema_version"], type=told["type"], spec=spec)
    if not as_template:
        spec["owner"] = job.owner
        made["state"] = RecipeState(id=job.id, status=status)
    return made


#: Maximum number of runs of one query to the store.
PAGE = 1000
UNFINISHED = tuple(state for state in State if state is not State.DONE)
#: Saturn's words for a run's state, and for its outcome.
LIVE = {State.RUNNING: "running", State.STOPPING: "stopping"}
ENDED = {Outcome.SUCCEEDED: "completed", Outcome.CANCELLED: "stopped"}


def status_of(control: Control, job: Job) -> str:
    """Return one status for a job's runs: that of the most active run that has not ended, else that of the last run."""
    words = {word_of(run) for run in unfinished(control, job) if run.ended_at is None}
    if lively := next((word for word in ("running", "pending", "stopping") if word in words), None):
        return lively
    last = control.runs.find(RunFilter(job_id=job.id, limit=1))
    return word_of(last[0]) if last else "stopped"


def unfinished(control: Control, job: Job) -> Iterator[Run]:
    """Yield all of the job's runs that are not done, the newest first; the store is read a page at a time."""
    which = RunFilter(job_id=job.id, states=UNFINISHED, limit=PAGE)
    while True:
        page = control.runs.page(which)
        yield from page.runs
        if page.next_key is None:
            return
        which = replace(which, after=key_in(page.next_key))


def word_of(run: Run) -> str:
    if run.outcome:
        return ENDED.get(run.outcome, "error")
    return LIVE.get(run.state, "pending")


EXAMPLE = recipe(examples.job(), "running")


#: The name, in messages, of a recipe that has no file.
SOURCE = "the recipe"


def _body(*kinds: str) -> dict[str, Any]:
    text = "The recipe. `state` is ignored, so that a recipe from `GET` can be applied."
    content = {kind: {"schema": {"type": "object"}, "example": EXAMPLE} for kind in kinds}
    return {"requestBody": {"required": True, "description": text, "content": content}}


async def text_of(request: Request) -> str:
    try:
        return (await request.body()).decode()
    except UnicodeDecodeError as error:
        raise Invalid("body: not UTF-8 text") from error


Text = Annotated[str, Depends(text_of)]
AsTemplate = Annotated[bool, Query(description="Omit owner and state.")]


@router.put(
    "/recipes",
    operation_id="apply_recipe",
    status_code=201,
    openapi_extra=_body(JSON, "application/yaml"),
    responses=answers(Recipe, 403, 409, 413, status=201, example=EXAMPLE),
)
async def apply_recipe(
    caller: Calling,
    control: Acting,
    server: Serving,
    text: Text,
    source: Annotated[str, Query(max_length=1000, description="Name of the recipe in error messages.")] = SOURCE,
) -> Response:
    """Store a recipe as a job of its owner, or as the next revision of the owner's job with this name."""
    # EC2 is asked about the recipe's types, so this takes a thread of those for requests to the cloud.
    job = await server.readers.read(caller.name, control.jobs.apply, text, source)
    return await run_in_threadpool(_applied, control, job)


@router.post(
    "/recipes",
    operation_id="create_recipe",
    status_code=201,
    openapi_extra=_body(JSON),
    responses=answers(Recipe, 403, 409, 413, status=201, example=EXAMPLE),
)
async def create_recipe(
    caller: Calling,
    control: Acting,
    server: Serving,
    text: Text,
    enforce_unknown: Annotated[bool, Query(description="Reject unknown fields; `false` ignores them.")] = True,
) -> Response:
    """Store a recipe as a new job. 409 if its owner has a job with this name.

    A schedule in the recipe is inactive until `POST /api/jobs/{job}/schedule`, so a clone starts no run by itself.
    """
    try:
        told = json.loads(text)
        spec = {field: value for field, value in told["spec"].items() if field in Spec.model_fields}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Invalid("body: expected a recipe in JSON, an object with `spec`") from error
    if not enforce_unknown:
        text = json.dumps({**told, "spec": spec})
    job = await server.readers.read(caller.name, control.jobs.create, text, SOURCE)
    return await run_in_threadpool(_applied, control, job)


def _applied(control: Control, job: Job) -> Response:
    made = recipe(job, status_of(control, job))
    made["state"]["warnings"] = list(job.warnings)
    return answer(made, 201)


@router.get(
    "/recipes",
    operation_id="list_recipes",
    responses=answers(Recipes, example={"recipes": [EXAMPLE], "next_key": None}),
)
def list_recipes(
    control: Acting,
    type: Annotated[str, Query(max_length=20, description="`job`; other types give an empty list.")] = "job",
    name: Annotated[str, Query(max_length=200, description="Only jobs whose name begins with this text.")] = "",
    owner_name: Annotated[str, Query(max_length=200, description="Only jobs of this owner.")] = "",
    as_template: AsTemplate = False,
    page_size: Annotated[int, Query(ge=1, le=1000, description="Most recipes of a page.")] = 100,
    next_key: Annotated[str, Query(max_length=500, description="`next_key` of the previous page.")] = "",
) -> Response:
    """List recipes, by owner and name."""
    jobs = control.jobs.all() if type == "job" else ()
    wanted = [job for job in jobs if job.name.startswith(name) and owner_name in ("", job.owner)]
    rest = [job for job in wanted if _key(job) > next_key]
    page = rest[:page_size]
    told = [recipe(job, "" if as_template else status_of(control, job), as_template=as_template) for job in page]
    return answer(Recipes(recipes=told, next_key=_key(page[-1]) if len(rest) > len(page) else None))


def _key(job: Job) -> str:
    # A space sorts before every character of an owner's name.
    return f"{job.owner} {job.name}"


@router.get(
    "/recipes/job/{name}",
    operation_id="get_recipe",
    responses=answers(Recipe, 404, example=EXAMPLE),
)
def get_recipe(
    control: Acting,
    name: Annotated[str, Path(max_length=200, description="The job's name.", examples=["gpu-inference"])],
    owner_name: OwnerName = "",
    as_template: AsTemplate = False,
) -> Response:
    """Show a job's recipe."""
    job = control.jobs.get(named(name, owner_name))
    return answer(recipe(job, status_of(control, job), as_template=as_template))
