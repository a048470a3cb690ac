"""Logs: a page at a time, or as they are written."""

from typing import Annotated, Any, Literal, TypedDict

from fastapi import APIRouter, Header, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from provisioner.core.errors import Invalid
from provisioner.core.logs import cursor as places
from provisioner.faces.api.http import examples
from provisioner.faces.api.http.answers import either, wants
from provisioner.faces.api.http.caller import Acting, Calling, RunName, Serving, source_of, token_of
from provisioner.faces.api.http.document import answers
from provisioner.faces.api.http.stream import Following, Watched
from provisioner.faces.views import shaped, shapes
from provisioner.ports.control.logs import LogPage, LogPiece, LogQuery

router = APIRouter(tags=["logs"])

EVENTS = "text/event-stream"
#: Bytes of a page, at least and at most.
LEAST, MOST = 1 << 10, 1 << 20

Stream = Literal["system", "setup", "output"]


class Page(TypedDict):
    """A page of a run's log."""

    pieces: list[shapes.Log]
    next: Annotated[
        str | None,
        "As `cursor` it goes on from here, now or later: an empty page has all that there is yet. Null: nothing comes.",
    ]


def _responses() -> dict[int | str, dict[str, Any]]:
    found = answers(Page, 404, example={"pieces": [examples.log()], "next": "1.output.8.8"}, lossless=True)
    told = "Events `log` (a piece of the log, its id the place behind it) and at last `end` (the run)."
    found[200]["content"][EVENTS] = {"schema": {"type": "string", "description": told}}
    return found


@router.get("/runs/{run}/logs", operation_id="get_logs", responses=_responses())
async def get_logs(
    request: Request,
    server: Serving,
    caller: Calling,
    control: Acting,
    run: RunName,
    stream: Annotated[list[Stream] | None, Query(description="Unset: setup and output.")] = None,
    attempt: Annotated[int | None, Query(ge=1, le=100_000, description="Only this attempt's.")] = None,
    tail: Annotated[int | None, Query(ge=0, le=10_000, description="Begin so many lines before the end.")] = None,
    offset: Annotated[
        int | None, Query(ge=0, le=10**15 - 1, description="Begin at this byte; of one stream and attempt.")
    ] = None,
    cursor: Annotated[str, Query(max_length=places.LONGEST, description="`next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=LEAST, le=MOST, description="Bytes of a page.")] = MOST,
    heartbeat: Annotated[
        float | None,
        Query(ge=1, le=60, description="Seconds of silence after which a follower gets a comment.  [default: 15]"),
    ] = None,
    last_event_id: Annotated[
        str, Header(max_length=places.LONGEST, description="Where to go on, as an EventSource says it by itself.")
    ] = "",
) -> Response:
    """Read a run's log, or with `Accept: text/event-stream` follow it until the run's end."""
    streams = tuple(dict.fromkeys(stream or ("setup", "output")))
    query, place = LogQuery(streams, attempt, tail), cursor or _at(streams, attempt, offset)
    if not wants(request, EVENTS):
        found = await server.readers.read(caller.name, control.logs.page, run, query, place, limit)
        return either(request, found, _page)
    place = last_event_id or place
    if place:
        places.read(place)
    found_run = await run_in_threadpool(control.runs.get, run)
    token, source = token_of(request), source_of(request)
    watched = Watched(found_run.id, query)
    return Following(server.hub, caller.name, watched, place, lambda: server.access.admit(token, source), heartbeat)


def _page(look: LogPage) -> Page:
    # A page before the last tells no gap: the next one would tell it again.
    pieces = [shaped.log(piece) for piece, _ in look.pieces if look.over or isinstance(piece, LogPiece)]
    return {"pieces": pieces, "next": None if look.over else look.cursor}


def _at(streams: tuple[str, ...], attempt: int | None, offset: int | None) -> str:
    if offset is None:
        return ""
    if len(streams) != 1 or attempt is None:
        raise Invalid("offset: name one stream and the attempt whose byte it is")
    return places.Cursor({(attempt, streams[0]): places.At(0, offset)}).write()
