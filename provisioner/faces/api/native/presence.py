"""The control plane itself: its clock, and whether anybody acts."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from provisioner.faces.api.http import examples
from provisioner.faces.api.http.answers import either
from provisioner.faces.api.http.caller import Acting
from provisioner.faces.api.http.document import answers
from provisioner.faces.views import shaped, shapes
from provisioner.ports.control.operator import ServerStatus

router = APIRouter(tags=["server"])


@router.get(
    "/server", operation_id="get_server", responses=answers(shapes.Server, example=examples.server(), lossless=True)
)
def get_server(request: Request, control: Acting) -> Response:
    """Show whether somebody acts, and what time it is there."""
    found = ServerStatus(
        control.operator.now(),
        control.operator.served(),
        control.operator.unfinished(),
        control.operator.foreign(),
        control.operator.hindrance(),
    )
    return either(request, found, shaped.server)
