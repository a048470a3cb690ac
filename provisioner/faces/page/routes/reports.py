"""Reports of browsers that refused to execute or load something (W3C, "Content Security Policy Level 3")."""

from starlette.requests import Request
from starlette.responses import Response

from provisioner.faces.api.http.caller import server_of
from provisioner.faces.page.routing import page_router

router = page_router()


@router.post("/csp-report")
async def csp_report(request: Request) -> Response:
    """Count the report. Its text is not kept: anyone can send one."""
    server_of(request).meters.reported()
    return Response(status_code=204)
