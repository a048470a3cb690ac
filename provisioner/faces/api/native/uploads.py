"""The endpoint for lists of commands that are too long for a recipe."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from provisioner.core.views.upload import Upload
from provisioner.faces.api.http import connections
from provisioner.faces.api.http.answers import problem, shown
from provisioner.faces.api.http.caller import Acting, Calling, Serving
from provisioner.faces.api.http.document import answers
from provisioner.faces.api.http.reading import in_thread

router = APIRouter(tags=["commands"])

_TEXT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"text/plain": {"schema": {"type": "string"}, "example": "python infer.py 0\npython infer.py 1\n"}},
    }
}


@router.post(
    "/uploads",
    operation_id="add_upload",
    responses=answers(Upload, 403, 413, 502, example=Upload("9b2d5b4b1f6e4c0fa7f2c1d0e3b4a596", 2, 36)),
    openapi_extra=_TEXT,
)
async def add_upload(
    request: Request,
    server: Serving,
    caller: Calling,
    control: Acting,
    owner: Annotated[
        str, Query(max_length=200, description="The owner of the jobs that the list is for. Default: the first owner.")
    ] = "",
    null: Annotated[
        bool, Query(description="Each command ends with a NUL byte, not with its line: it may have several lines.")
    ] = False,
) -> Response:
    """Store a list of commands, one in each line of a text in UTF-8; start a run with it by its id.

    At most 2 GiB and 10,000,000 lines. A list that no run uses is deleted after 24 h.
    """
    connections.expect_long_body(request.scope)
    try:
        add = partial(control.uploads.add, null=null)
        return shown(await server.uploaders.read(caller.name, add, in_thread(request.stream()), owner))
    except ClientDisconnect:
        return problem(400, "invalid", "the connection was lost before the end of the list; nothing is stored")
