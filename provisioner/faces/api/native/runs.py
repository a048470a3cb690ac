"""Runs: listed, shown, billed, stopped; and all that is alive."""

import re
from typing import Annotated, TypedDict

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from provisioner.core.errors import Invalid
from provisioner.core.protocol.messages import Outcome
from provisioner.core.run.records import Run
from provisioner.core.run.states import State
from provisioner.faces.api.http import examples
from provisioner.faces.api.http.answers import either
from provisioner.faces.api.http.caller import Acting, RunName
from provisioner.faces.api.http.document import answers
from provisioner.faces.views import shaped, shapes
from provisioner.ports.store import Key, RunFilter

router = APIRouter(tags=["runs"])

Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]
Cursor = Annotated[str, Query(max_length=200, description="`next_key` of the page before.")]


class Runs(TypedDict):
    """A page of runs, the newest first."""

    runs: list[shapes.Run]
    next_key: Annotated[str | None, "As `cursor` it gives the next page; null: there is none."]


def key_of(at: float, id: str) -> str:
    """Where a page ended, as text."""
    return f"{at!r}_{id}"


def key_in(text: str) -> Key | None:
    """What `key_of` wrote; raises Invalid for anything else."""
    if not text:
        return None
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,12})?)_([0-9a-f]{1,64})", text, re.ASCII)
    if not found:
        raise Invalid("cursor: found something else; write the next_key of the page before")
    return float(found[1]), found[2]


@router.get(
    "/runs",
    operation_id="list_runs",
    responses=answers(Runs, 404, example={"runs": [examples.run()], "next_key": None}, lossless=True),
)
def list_runs(
    request: Request,
    control: Acting,
    job: Annotated[str, Query(max_length=400, description="Of this job: NAME, OWNER/NAME or its id.")] = "",
    owner: Annotated[list[str], Query(max_length=100, description="Of these owners' jobs.")] = [],  # noqa: B006
    id: Annotated[list[str], Query(max_length=100, description="Of these whole ids.")] = [],  # noqa: B006
    state: Annotated[list[State], Query(description="In one of these states.")] = [],  # noqa: B006 - FastAPI copies it
    outcome: Annotated[list[Outcome], Query(description="That ended so.")] = [],  # noqa: B006
    limit: Limit = 50,
    cursor: Cursor = "",
) -> Response:
    """List runs, the newest first."""
    which = RunFilter(
        ids=tuple(id),
        job=job,
        owners=tuple(owner) or None,
        states=tuple(state),
        outcomes=tuple(outcome),
        after=key_in(cursor),
        limit=limit,
    )

    def page(found: tuple[Run, ...]) -> Runs:
        full = len(found) == limit
        return {
            "runs": [shaped.run(run) for run in found],
            "next_key": key_of(found[-1].created_at, found[-1].id) if full else None,
        }

    return either(request, control.runs.find(which), page)


@router.get(
    "/runs/{run}",
    operation_id="get_run",
    responses=answers(shapes.Status, 404, example=examples.status(), lossless=True),
)
def get_run(request: Request, control: Acting, run: RunName) -> Response:
    """Show what a run is doing and why, its attempts, and its story."""
    return either(request, control.runs.status(run), shaped.status)


@router.get(
    "/runs/{run}/receipt",
    operation_id="get_receipt",
    responses=answers(shapes.Receipt, 404, example=examples.receipt(), lossless=True),
)
def get_receipt(request: Request, control: Acting, run: RunName) -> Response:
    """Show where a run's time and money went."""
    return either(request, control.runs.receipt(run), shaped.receipt)


@router.post(
    "/runs/{run}/stop",
    operation_id="stop_run",
    responses=answers(shapes.Run, 404, 409, example=examples.run(), lossless=True),
)
def stop_run(request: Request, control: Acting, run: RunName) -> Response:
    """Stop a run: SIGTERM, and SIGKILL after its stop_grace. No error when it has ended already."""
    return either(request, control.runs.stop(run), shaped.run)


@router.get(
    "/top", operation_id="get_top", tags=["runs"], responses=answers(shapes.Top, example=examples.top(), lossless=True)
)
def get_top(request: Request, control: Acting, limit: Limit = 50) -> Response:
    """Show what is not over: all of it counted, some of it shown."""
    return either(request, control.runs.overview(limit), lambda found: shaped.alive(found, control.operator.foreign()))
