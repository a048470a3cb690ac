"""Endpoint for the state of the control plane: its time, and whether a daemon acts."""

from fastapi import APIRouter
from starlette.responses import Response

from provisioner.core.views.codec import moment
from provisioner.core.views.overview import Server
from provisioner.faces.api.http import examples
from provisioner.faces.api.http.answers import shown
from provisioner.faces.api.http.caller import Acting
from provisioner.faces.api.http.document import answers

router = APIRouter(tags=["server"])


@router.get("/server", operation_id="get_server", responses=answers(Server, example=examples.server()))
def get_server(control: Acting) -> Response:
    """Show whether a daemon acts, and the server's time."""
    operator = control.operator
    return shown(
        Server(
            at=moment(operator.now()),
            served=operator.served(),
            unfinished=operator.unfinished(),
            foreign=operator.foreign(),
            owners=operator.owners(),
            hindrance=operator.hindrance(),
        )
    )
