"""Endpoints for the commands of lists: states, outputs, the job log, and how to stop or repeat commands."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response, StreamingResponse

from provisioner.core.access.callers import Caller
from provisioner.core.views.commands import Command, CommandPage, CommandState
from provisioner.core.views.pages import index_in
from provisioner.core.views.run import Run
from provisioner.faces.api.http import examples
from provisioner.faces.api.http.answers import shown
from provisioner.faces.api.http.caller import Acting, Calling, RunName, Server, Serving
from provisioner.faces.api.http.document import answers
from provisioner.faces.api.native.runs import Cursor, Limit
from provisioner.ports.control.lists import CommandFilter

router = APIRouter(tags=["commands"])

BYTES, CSV = "application/octet-stream", "text/csv"
#: An example of a job log.
JOB_LOG = (
    "Seq,Host,Starttime,JobRuntime,Send,Receive,Exitval,Signal,Command\n"
    "1,i-0123456789abcdef0,1764465538.123,60.500,0,5230,0,0,python infer.py --shard 0\n"
)

Index = Annotated[int, Path(ge=0, lt=10**9, description="The command's place in the list, from 0.", examples=[0])]


class Rerun(BaseModel):
    """Which commands of an ended run are to run again. Every field is optional."""

    model_config = ConfigDict(extra="forbid")

    unfinished: Annotated[bool, Field(description="Also the commands that were cancelled or did not run.")] = False
    idempotency_key: Annotated[
        str, Field(max_length=200, description="The same key within 24 h returns the same run; with other inputs, 409.")
    ] = ""


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

    return await streamed(server, caller, lambda: control.commands.output(run, index), BYTES)


async def streamed(
    server: Server,
    caller: Caller,
    open_: Callable[[], Iterator[bytes]],
    media_type: str,
    headers: Mapping[str, str] | None = None,
) -> StreamingResponse:
    """Return an answer with these bytes as they are read."""

    def read() -> Iterator[bytes]:
        # A generator, so that the store and the bucket are read by the threads for this.
        yield from open_()

    pieces = server.readers.each_of(caller.name, read())
    # An error before the first piece has an answer of its own; a later one breaks the connection.
    first = await anext(pieces, b"")

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return StreamingResponse(whole(), media_type=media_type, headers=headers)


def _job_log() -> dict[int | str, dict[str, Any]]:
    found = answers(str, 404)
    found[200]["content"] = {CSV: {"schema": {"type": "string"}, "example": JOB_LOG}}
    return found


@router.get("/runs/{run}/commands.csv", operation_id="get_job_log", responses=_job_log(), response_class=Response)
async def get_job_log(server: Serving, caller: Calling, control: Acting, run: RunName) -> Response:
    """Return the ended commands of a run's list as CSV, with the columns of GNU parallel's --joblog, by index."""
    return await streamed(server, caller, lambda: control.commands.csv(run), CSV)


@router.post(
    "/runs/{run}/commands/{index}/stop",
    operation_id="stop_command",
    responses=answers(Command, 404, 409, example=examples.command()),
)
def stop_command(control: Acting, run: RunName, index: Index) -> Response:
    """Stop one command: SIGTERM, and SIGKILL after the job's stop_grace. The run goes on. No error if it has ended."""
    return shown(control.commands.stop(run, index))


@router.post(
    "/runs/{run}/rerun",
    operation_id="rerun_commands",
    responses=answers(Run, 404, 409, example=examples.run()),
)
def rerun_commands(control: Acting, run: RunName, body: Rerun | None = None) -> Response:
    """Start a run of the same job and revision, with the commands of an ended run that failed or were lost.

    409 if the run has not ended.
    """
    asked = body or Rerun()
    return shown(control.commands.rerun(run, asked.idempotency_key, unfinished=asked.unfinished))
