"""The commands of a run's list: which failed, the output of each, and running the failed ones again."""

from collections.abc import Iterator
from functools import partial
from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from provisioner.core.errors import Conflict
from provisioner.core.views.commands import CommandState
from provisioner.core.views.pages import index_in
from provisioner.faces.api.http.caller import RunName
from provisioner.faces.api.native.commands import CSV, Index, streamed
from provisioner.faces.page.ansi import Painter, Span
from provisioner.faces.page.render import HEADERS
from provisioner.faces.page.routing import page_router
from provisioner.faces.page.visitor import Changing, Visit, Visiting
from provisioner.ports.control.lists import CommandFilter

router = page_router()

#: Number of commands of a page.
PAGE = 100
#: Maximum number of bytes of a command's output that its page shows, and that are read for it.
SHOWN_MOST, READ_MOST = 100_000, 8 << 20

States = Annotated[str, Query(max_length=40)]


@router.get("/run/{run}/commands")
async def commands(visit: Visiting, run: RunName, state: States = "", cursor: States = "") -> Response:
    return await visit.server.readers.read(visit.caller.name, _commands, visit, run, state, cursor)


def _commands(visit: Visit, run: str, state: str, cursor: str) -> Response:
    found = visit.control.runs.get(run)
    states = (CommandState(state),) if state in set(CommandState) else ()
    page = visit.control.commands.page(found.id, CommandFilter(states, index_in(cursor), PAGE))
    return visit.page(
        "run_commands.html",
        title=f"Commands of {found.job}",
        run=found,
        of_run=found.id,
        commands_shown=page.commands,
        next_key=page.next_key,
        state=states[0].value if states else "",
        states=tuple(CommandState),
    )


@router.get("/run/{run}/commands.csv")
async def job_log(visit: Visiting, run: RunName) -> Response:
    """Return the job log, with the columns of GNU parallel's --joblog."""
    read = partial(visit.control.commands.csv, run)
    return await streamed(visit.server, visit.caller, read, CSV, _file("commands.csv"))


def _file(name: str) -> dict[str, str]:
    """Return the headers with which a browser stores the answer as a file."""
    return {**HEADERS, "content-disposition": f'attachment; filename="{name}"'}


@router.get("/run/{run}/commands/{index}")
async def command(visit: Visiting, run: RunName, index: Index) -> Response:
    return await visit.server.readers.read(visit.caller.name, _command, visit, run, index)


def _command(visit: Visit, run: str, index: int) -> Response:
    found = visit.control.runs.get(run)
    item = visit.control.commands.get(found.id, index)
    output, trouble = b"", ""
    try:
        output = _beginning(visit.control.commands.output(found.id, index))
    except Conflict as error:
        trouble = str(error)
    # The end of an output says why its command failed. Of an output that is too large to be read, there is no end.
    whole = len(output) < READ_MOST
    shown = output[-SHOWN_MOST:] if whole else output[:SHOWN_MOST]
    return visit.page(
        "run_command.html",
        title=f"Command {index} of {found.job}",
        run=found,
        command=item,
        output=_painted(shown.decode(errors="replace")),
        part="" if len(shown) == len(output) else "end" if whole else "beginning",
        trouble=trouble,
    )


def _painted(text: str) -> list[list[Span]]:
    """Return the lines of an output with their colours, which may last for several lines."""
    painter = Painter()
    return [painter.paint(line, last=True) for line in text.removesuffix("\n").split("\n")] if text else []


def _beginning(pieces: Iterator[bytes]) -> bytes:
    """Return the whole output, or its first READ_MOST bytes."""
    found = bytearray()
    for piece in pieces:
        found += piece
        if len(found) >= READ_MOST:
            break
    return bytes(found[:READ_MOST])


@router.get("/run/{run}/commands/{index}/output")
async def command_output(visit: Visiting, run: RunName, index: Index) -> Response:
    """Return the whole output of a command, to be stored as a file."""
    read = partial(visit.control.commands.output, run, index)
    return await streamed(visit.server, visit.caller, read, "text/plain", _file(f"command-{index}.txt"))


@router.post("/run/{run}/commands/{index}/stop")
def stop_command(visit: Changing, run: RunName, index: Index) -> Response:
    visit.control.commands.stop(run, index)
    return visit.see_other(f"/run/{run}/commands/{index}", f"Stop of command {index} requested.")


@router.post("/run/{run}/rerun")
async def rerun(visit: Changing, run: RunName) -> Response:
    key, unfinished = visit.form.get("key", "")[:200], bool(visit.form.get("unfinished"))
    again = await visit.server.readers.read(
        visit.caller.name, visit.control.commands.rerun, run, key, unfinished=unfinished
    )
    return visit.see_other(f"/run/{again.id}", f"The failed commands of run {run[:12]} run again.")
