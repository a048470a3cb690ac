"""The first page, and addresses of Saturn's page that lead to ours."""

from starlette.responses import Response

from provisioner.faces.page.routing import page_router
from provisioner.faces.page.visitor import Visiting

router = page_router()


@router.get("/")
async def start(visit: Visiting) -> Response:
    return visit.see_other("/jobs")


@router.get("/dash/resources/job/{job}")
async def saturn_job(visit: Visiting, job: str) -> Response:
    # `job` has no slash, so it cannot lead to another site.
    return visit.see_other(f"/job/{job}")
