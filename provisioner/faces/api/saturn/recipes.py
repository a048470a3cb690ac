"""Recipes in the form of Saturn's API and client: apply, list, show and clone (public OpenAPI 2026.02.01)."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, NotRequired, TypedDict

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from provisioner.core.errors import Invalid
from provisioner.core.protocol.words import Outcome
from provisioner.core.recipe.recipe import Spec
from provisioner.core.run.states import State
from provisioner.core.views.job import Job
from provisioner.core.views.pages import key_in
from provisioner.core.views.run import Run
from provisioner.faces.api.http import examples
from provisioner.faces.api.http.answers import JSON, answer
from provisioner.faces.api.http.caller import Acting, OwnerName, named
from provisioner.faces.api.http.document import answers
from provisioner.ports.control.control import Control
from provisioner.ports.store import RunFilter

router = APIRouter(tags=["recipes"])


class RecipeState(TypedDict):
    """What the server adds."""

    id: Annotated[str, "The job's id."]
    status: Annotated[str, "Of its runs: pending, running, stopping; of the last one: completed, error, stopped."]


class Recipe(TypedDict):
    """A job's recipe with its schedule as it now is."""

    schema_version: str
    type: str
    spec: dict[str, Any]
    state: NotRequired[RecipeState]


class Recipes(TypedDict):
    """A page of recipes, by owner and name."""

    recipes: list[Recipe]
    next_key: Annotated[str | None, "As `next_key` it gives the next page; null: there is none."]


def recipe(job: Job, status: str = "", *, as_template: bool = False) -> Recipe:
    """Return the job's recipe; as a template, which another owner can apply, without owner and state."""
    told = job.recipe
    # Saturn's client needs an owner that is text, and prints a start script that is null as the word None.
    spec = {name: value for name, value in told["spec"].items() if value is not None}
    spec |= {"schedule": job.schedule, "start_script": spec.get("start_script", "")}
    spec.pop("owner", None)
    made = Recipe(schema_version=told["schema_version"], type=told["type"], spec=spec)
    if not as_template:
        spec["owner"] = job.owner
        made["state"] = RecipeState(id=job.id, status=status)
    return made


#: Most runs of one query to the store.
PAGE = 1000
UNFINISHED = tuple(state for state in State if state is not State.DONE)
#: Saturn's words for a run's state, and for its outcome.
LIVE = {State.RUNNING: "running", State.STOPPING: "stopping"}
ENDED = {Outcome.SUCCEEDED: "completed", Outcome.CANCELLED: "stopped"}


def status_of(control: Control, job: Job) -> str:
    """Return one status for all runs of a job: the most active of the runs that have not ended, or the last run's."""
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


#: The name in messages of a recipe that has no file.
SOURCE = "the recipe"


def _body(*kinds: str) -> dict[str, Any]:
    text = "The recipe. `state` is passed over, so that what `get` gave can be applied."
    content = {kind: {"schema": {"type": "object"}, "example": EXAMPLE} for kind in kinds}
    return {"requestBody": {"required": True, "description": text, "content": content}}


async def text_of(request: Request) -> str:
    try:
        return (await request.body()).decode()
    except UnicodeDecodeError as error:
        raise Invalid("body: not UTF-8 text") from error


Text = Annotated[str, Depends(text_of)]
AsTemplate = Annotated[bool, Query(description="Without owner and state.")]


@router.put(
    "/recipes",
    operation_id="apply_recipe",
    status_code=201,
    openapi_extra=_body(JSON, "application/yaml"),
    responses=answers(Recipe, 403, 409, 413, status=201, example=EXAMPLE),
)
def apply_recipe(
    control: Acting,
    text: Text,
    source: Annotated[str, Query(max_length=1000, description="What messages call it.")] = SOURCE,
) -> Response:
    """Make a recipe its owner's job of that name, or its next revision."""
    return _applied(control, control.jobs.apply(text, source))


@router.post(
    "/recipes",
    operation_id="create_recipe",
    status_code=201,
    openapi_extra=_body(JSON),
    responses=answers(Recipe, 403, 409, 413, status=201, example=EXAMPLE),
)
def create_recipe(
    control: Acting,
    text: Text,
    enforce_unknown: Annotated[bool, Query(description="Refuse unknown fields; otherwise pass over them.")] = True,
) -> Response:
    """Make a recipe a new job; 409 where its owner has one of that name.

    A schedule in it begins with `POST /api/jobs/{job}/schedule`: a clone spends nothing by itself.
    """
    try:
        told = json.loads(text)
        spec = {field: value for field, value in told["spec"].items() if field in Spec.model_fields}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Invalid("body: found no recipe in JSON with a spec") from error
    if not enforce_unknown:
        text = json.dumps({**told, "spec": spec})
    return _applied(control, control.jobs.create(text, SOURCE))


def _applied(control: Control, job: Job) -> Response:
    return answer(recipe(job, status_of(control, job)), 201)


@router.get(
    "/recipes",
    operation_id="list_recipes",
    responses=answers(Recipes, example={"recipes": [EXAMPLE], "next_key": None}),
)
def list_recipes(
    control: Acting,
    type: Annotated[str, Query(max_length=20, description="`job`; of other types there are none.")] = "job",
    name: Annotated[str, Query(max_length=200, description="Whose name begins so.")] = "",
    owner_name: Annotated[str, Query(max_length=200, description="Of this owner.")] = "",
    as_template: AsTemplate = False,
    page_size: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
    next_key: Annotated[str, Query(max_length=500, description="That of the page before.")] = "",
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
