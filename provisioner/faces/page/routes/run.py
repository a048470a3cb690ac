"""The page of a run, its live parts, and its actions."""

from typing import Annotated

from fastapi import Path, Query
from starlette.responses import Response

from provisioner.core.errors import CloudError, NotFound
from provisioner.core.history.texts import as_yaml
from provisioner.faces.api.http.caller import RunName
from provisioner.faces.page.log_panel import Panel, panel_of
from provisioner.faces.page.render import HEADERS
from provisioner.faces.page.routing import page_router
from provisioner.faces.page.run.now import HAPPENS
from provisioner.faces.page.run.sections import BY_NAME, SECTIONS, RunPage
from provisioner.faces.page.visitor import Changing, Visit, Visiting

router = page_router()

FirstRank = Annotated[int, Query(ge=0, lt=10**7)]


def _page_of(visit: Visit, run: str, ranks: int = 0) -> RunPage:
    status = visit.control.runs.status(run)
    return RunPage(visit.control, status, visit.control.operator.now(), ranks)


@router.get("/run/{run}")
async def run_page(visit: Visiting, run: RunName, ranks: FirstRank = 0) -> Response:
    # The log and the section of a list read the bucket.
    return await visit.server.readers.read(visit.caller.name, _run_page, visit, run, ranks)


def _run_page(visit: Visit, run: str, ranks: int) -> Response:
    page = _page_of(visit, run, ranks)
    if page.run.id != run:
        # The address had only the beginning of the id.
        return visit.see_other(f"/run/{page.run.id}")
    return visit.page(
        "run.html",
        title=f"{page.run.outcome or page.run.state}: {page.run.job}",
        page=page,
        log=_log(visit, page),
        sections=[section for section in SECTIONS if section.applies(page)],
        happens=HAPPENS,
        query=f"?ranks={ranks}" if ranks else "",
        rerun_key=visit.server.ids.new(),
    )


def _log(visit: Visit, page: RunPage) -> Panel | None:
    """Return the panel with the log, or None if the bucket cannot be read now: then the page shows the rest."""
    try:
        return panel_of(visit, page.status, f"/run/{page.run.id}")
    except CloudError:
        return None


@router.get("/run/{run}/parts/{name}")
async def run_part(
    visit: Visiting, run: RunName, name: Annotated[str, Path(max_length=40)], ranks: FirstRank = 0
) -> Response:
    """Return a section of the page, for its update."""
    return await visit.server.readers.read(visit.caller.name, _run_part, visit, run, name, ranks)


def _run_part(visit: Visit, run: str, name: str, ranks: int) -> Response:
    section = BY_NAME.get(name)
    page = _page_of(visit, run, ranks)
    if section is None or not section.applies(page):
        raise NotFound(f"run {page.run.id[:12]} has no section {name!r}")
    answer = visit.part(section.template, page=page, happens=HAPPENS, rerun_key="")
    if page.over:
        answer.headers["x-over"] = "1"
    return answer


@router.get("/run/{run}/recipe")
def run_recipe(visit: Visiting, run: RunName) -> Response:
    return Response(as_yaml(visit.control.runs.recipe(run).recipe), headers=HEADERS, media_type="text/plain")


@router.post("/run/{run}/stop")
def stop_run(visit: Changing, run: RunName) -> Response:
    stopped = visit.control.runs.stop(run)
    message = "The run has ended already." if stopped.ended_at is not None else "Stop requested."
    return visit.see_other(f"/run/{stopped.id}", message)
