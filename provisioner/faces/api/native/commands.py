"""Endpoints for the commands of lists: their states, and the output of each."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.responses import Response, StreamingResponse

from provisioner.core.views.commands import Command, CommandPage, CommandState
from provisioner.core.views.pages import index_in
from provisioner.faces.api.http import examples
from provisioner.faces.api.http.answers import shown
from provisioner.faces.api.http.caller import Acting, Calling, RunName, Serving
from provisioner.faces.api.http.document import answers
from provisioner.faces.api.native.runs import Cursor, Limit
from provisioner.ports.control.lists import CommandFilter

router = APIRouter(tags=["commands"])

BYTES = "application/octet-stream"

Index = Annotated[int, Path(ge=0, lt=10**9, description="The command's place in the list, from 0.", examples=[0])]


@router.get(
    "/runs/{run}/commands",
    operation_id="list_commands",
    responses=answers(CommandPage, 404, example=CommandPage((examples.command(),), "0")),
)
async def list_commands(
    server: Serving,
    caller: Calling,
    control: Acting,
    run: RunName,
    state: Annotated[list[CommandState], Query(description="Only these states.")] = [],  # noqa: B006 - FastAPI copies it
    limit: Limit = 50,
    cursor: Cursor = "",
) -> Response:
    """List the commands of a run's list, in order. A page may have fewer than `limit` and still not be the last one."""
    which = CommandFilter(tuple(state), index_in(cursor), limit)
    return shown(await server.readers.read(caller.name, control.commands.page, run, which))


@router.get(
    "/runs/{run}/commands/{index}",
    operation_id="get_command",
    responses=answers(Command, 404, example=examples.command()),
)
async def get_command(server: Serving, caller: Calling, control: Acting, run: RunName, index: Index) -> Response:
    """Show one command of a run's list."""
    return shown(await server.readers.read(caller.name, control.commands.get, run, index))


def _responses() -> dict[int | str, dict[str, Any]]:
    found = answers(str, 404, 409)
    found[200]["content"] = {BYTES: {"schema": {"type": "string", "format": "binary"}}}
    return found


@router.get(
    "/runs/{run}/commands/{index}/output",
    operation_id="get_command_output",
    responses=_responses(),
    response_class=Response,
)
async def get_command_output(server: Serving, caller: Calling, control: Acting, run: RunName, index: Index) -> Response:
    """Return the output of one command as it was written, except for masked secrets. 409 until it has ended."""

    def read() -> Iterator[bytes]:
        # A generator, so that the store and the bucket are read by the threads for this.
        yield from control.commands.output(run, index)

    pieces = server.readers.each_of(caller.name, read())
    # An error before the first piece has an answer of its own; a later one breaks the connection.
    first = await anext(pieces, b"")

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return StreamingResponse(whole(), media_type=BYTES)
