"""Endpoints that list, show and stop runs and show their receipts; and an overview of unfinished runs."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.states import State
from provisioner.core.views.overview import Machines, Top
from provisioner.core.views.pages import key_in
from provisioner.core.views.receipt import Receipt
from provisioner.core.views.run import Run, RunRecipe, Runs, Status
from provisioner.faces.api.http import examples
from provisioner.faces.api.http.answers import shown
from provisioner.faces.api.http.caller import Acting, RunName
from provisioner.faces.api.http.document import answers
from provisioner.ports.store import RunFilter

router = APIRouter(tags=["runs"])

Limit = Annotated[int, Query(ge=1, le=1000, description="Most entries to return.")]
Cursor = Annotated[str, Query(max_length=200, description="`next_key` of the previous page.")]


@router.get(
    "/runs",
    operation_id="list_runs",
    responses=answers(Runs, 404, example=Runs((examples.run(),), None)),
)
def list_runs(
    control: Acting,
    job: Annotated[str, Query(max_length=400, description="Only runs of this job: NAME, OWNER/NAME or its id.")] = "",
    owner: Annotated[list[str], Query(max_length=100, description="Only runs of these owners.")] = [],  # noqa: B006
    id: Annotated[list[str], Query(max_length=100, description="Only runs with these full ids.")] = [],  # noqa: B006
    state: Annotated[list[State], Query(description="Only these states.")] = [],  # noqa: B006 - FastAPI copies it
    outcome: Annotated[list[Outcome], Query(description="Only these outcomes.")] = [],  # noqa: B006
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
    return shown(control.runs.page(which))


@router.get(
    "/runs/{run}",
    operation_id="get_run",
    responses=answers(Status, 404, example=examples.status()),
)
def get_run(control: Acting, run: RunName) -> Response:
    """Show what a run is doing and why, its attempts, and its events."""
    return shown(control.runs.status(run))


@router.get(
    "/runs/{run}/receipt",
    operation_id="get_receipt",
    responses=answers(Receipt, 404, example=examples.receipt()),
)
def get_receipt(control: Acting, run: RunName) -> Response:
    """Show where a run's time and money went."""
    return shown(control.runs.receipt(run))


@router.get(
    "/runs/{run}/recipe",
    operation_id="get_run_recipe",
    responses=answers(RunRecipe, 404, example=examples.run_recipe()),
)
def get_run_recipe(control: Acting, run: RunName) -> Response:
    """Show what a run executes: the recipe as it was when the run was triggered, with the inputs of its start."""
    return shown(control.runs.recipe(run))


@router.post(
    "/runs/{run}/stop",
    operation_id="stop_run",
    responses=answers(Run, 404, 409, example=examples.run()),
)
def stop_run(control: Acting, run: RunName) -> Response:
    """Stop a run: SIGTERM, and SIGKILL after its stop_grace. No error if it has ended already."""
    return shown(control.runs.stop(run))


@router.get("/top", operation_id="get_top", tags=["runs"], responses=answers(Top, example=examples.top()))
def get_top(control: Acting, limit: Limit = 50) -> Response:
    """Show unfinished runs: the numbers of all runs and machines, and details of at most `limit` runs."""
    return shown(control.runs.overview(limit))


@router.get(
    "/machines", operation_id="list_machines", tags=["runs"], responses=answers(Machines, example=examples.machines())
)
def list_machines(control: Acting, limit: Limit = 50) -> Response:
    """List the machines of unfinished runs, those first that need attention, with their cost so far.

    An admin gets all machines of the installation that are not terminated.
    """
    return shown(control.runs.machines(limit))
