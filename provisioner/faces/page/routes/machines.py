"""The page of machines that are not terminated, with their cost so far."""

from typing import Any

from starlette.responses import Response

from provisioner.faces.page.routing import page_router
from provisioner.faces.page.visitor import Visit, Visiting

router = page_router()

#: Maximum number of machines on the page.
MOST = 200


@router.get("/machines")
def machines(visit: Visiting) -> Response:
    return visit.page("machines.html", **_found(visit))


@router.get("/machines/parts/now")
def machines_now(visit: Visiting) -> Response:
    return visit.part("parts/machines.html", **_found(visit))


def _found(visit: Visit) -> dict[str, Any]:
    return {"top": visit.control.runs.overview(0), "found": visit.control.runs.machines(MOST)}
