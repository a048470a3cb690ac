"""The page of waiting runs: the cause of each wait, the refused offers, and the time of the next try."""

from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response

from provisioner.core.run.states import State
from provisioner.core.views.pages import key_in
from provisioner.faces.page.routing import page_router
from provisioner.faces.page.visitor import Visit, Visiting
from provisioner.ports.store import RunFilter

router = page_router()

#: Number of runs on a page.
PAGE = 50
Cursor = Annotated[str, Query(max_length=200)]


@router.get("/queue")
def queue(visit: Visiting, cursor: Cursor = "") -> Response:
    return visit.page("queue.html", **_found(visit, cursor))


@router.get("/queue/parts/now")
def queue_now(visit: Visiting, cursor: Cursor = "") -> Response:
    return visit.part("parts/queue.html", **_found(visit, cursor))


def _found(visit: Visit, cursor: str) -> dict[str, Any]:
    waiting = RunFilter(states=(State.QUEUED, State.LAUNCHING), after=key_in(cursor), limit=PAGE)
    return {"top": visit.control.runs.overview(0), "runs": visit.control.runs.page(waiting), "cursor": cursor}
