"""The page of a run's log, and the live list of its streams, attempts and ranks."""

from starlette.responses import Response

from provisioner.faces.api.http.caller import RunName
from provisioner.faces.page.log_panel import asked_of, panel_of, places_of
from provisioner.faces.page.routing import page_router
from provisioner.faces.page.visitor import Visit, Visiting

router = page_router()


@router.get("/run/{run}/log")
async def log_page(visit: Visiting, run: RunName) -> Response:
    return await visit.server.readers.read(visit.caller.name, _log_page, visit, run)


def _log_page(visit: Visit, run: str) -> Response:
    status = visit.control.runs.status(run)
    if status.run.id != run:
        # The address had only the beginning of the id.
        query = f"?{visit.request.url.query}" if visit.request.url.query else ""
        return visit.see_other(f"/run/{status.run.id}/log{query}")
    panel = panel_of(visit, status, f"/run/{status.run.id}/log")
    return visit.page("log.html", title=f"Log of run {status.run.id[:12]}", run=status.run, log=panel)


@router.get("/run/{run}/log/parts/places")
def log_places(visit: Visiting, run: RunName) -> Response:
    """Return the links to the streams, attempts and ranks; `here` is the path of the page that shows them."""
    status = visit.control.runs.status(run)
    own, query = f"/run/{status.run.id}", visit.request.query_params
    here = own if query.get("here") == own else f"{own}/log"
    answer = visit.part("parts/log_places.html", places=places_of(status, asked_of(query), here))
    if status.run.certain_at is not None:
        answer.headers["x-over"] = "1"
    return answer
