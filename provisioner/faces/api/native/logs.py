"""Endpoint for logs: one page, or a stream that follows the log."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from provisioner.core.errors import Invalid
from provisioner.core.logs import cursor as places
from provisioner.core.views.log import Page
from provisioner.faces.api.http import examples
from provisioner.faces.api.http.answers import shown, wants
from provisioner.faces.api.http.caller import Acting, Calling, RunName, Serving, source_of, token_of
from provisioner.faces.api.http.document import answers
from provisioner.faces.api.http.stream import Following, Watched
from provisioner.ports.control.logs import LogPiece, LogQuery, view_of
from provisioner.service.logs import LogPage

router = APIRouter(tags=["logs"])

EVENTS = "text/event-stream"
#: Least and most bytes of a page that a client may request.
LEAST, MOST = 1 << 10, 1 << 20

Stream = Literal["system", "setup", "output"]


def _responses() -> dict[int | str, dict[str, Any]]:
    found = answers(Page, 404, example=Page((examples.log(),), "1.output.8.8"))
    told = (
        "Events `log` (a piece of the log; the event's id is the position after it); for a list of commands `progress` "
        "(how far it is), when it changes and at most once a second; and finally `end` (the run)."
    )
    found[200]["content"][EVENTS] = {"schema": {"type": "string", "description": told}}
    return found


@router.get("/runs/{run}/logs", operation_id="get_logs", responses=_responses())
async def get_logs(
    request: Request,
    server: Serving,
    caller: Calling,
    control: Acting,
    run: RunName,
    stream: Annotated[list[Stream] | None, Query(description="Streams. Default: setup and output.")] = None,
    attempt: Annotated[int | None, Query(ge=1, le=100_000, description="Only the log of this attempt.")] = None,
    rank: Annotated[int | None, Query(ge=0, le=999, description="Only the log of this rank. Default: all.")] = None,
    tail: Annotated[
        int | None, Query(ge=0, le=10_000, description="Begin this many lines before the end of each stream.")
    ] = None,
    offset: Annotated[
        int | None, Query(ge=0, le=10**15 - 1, description="Begin at this byte; requires `attempt` and one `stream`.")
    ] = None,
    cursor: Annotated[str, Query(max_length=places.LONGEST, description="`next` of the previous page.")] = "",
    gaps: Annotated[
        bool,
        Query(description="Report missing bytes in each page that reaches the present end, not only in the last page."),
    ] = False,
    limit: Annotated[int, Query(ge=LEAST, le=MOST, description="Most bytes of a page.")] = MOST,
    heartbeat: Annotated[
        float | None,
        Query(ge=1, le=60, description="Seconds without an event after which a follower gets a comment. Default: 15."),
    ] = None,
    last_event_id: Annotated[
        str,
        Header(
            max_length=places.LONGEST,
            description="The log continues after the event with this id. EventSource sends it when it reconnects.",
        ),
    ] = "",
) -> Response:
    """Return a page of a run's log. With `Accept: text/event-stream`, follow the log until the run ends."""
    streams = tuple(dict.fromkeys(stream or ("setup", "output")))
    query, place = LogQuery(streams, attempt, tail, rank), cursor or _at(streams, attempt, rank, offset)
    if offset is not None and rank is None and (await run_in_threadpool(control.runs.get, run)).scale > 1:
        raise Invalid("offset requires `rank` for a run with several machines")
    if not wants(request, EVENTS):
        found = await server.readers.read(caller.name, control.logs.page, run, query, place, limit)
        return shown(_page(found, gaps=gaps))
    place = last_event_id or place
    if place:
        places.read(place)
    found_run = await run_in_threadpool(control.runs.get, run)
    token, source = token_of(request), source_of(request)
    watched = Watched(found_run.id, query)
    return Following(
        server.hub, caller.name, watched, place, lambda: server.service.gate.admit(token, source), heartbeat
    )


def _page(look: LogPage, *, gaps: bool) -> Page:
    # Without `gaps`, only the last page has gaps: each following page would repeat them.
    pieces = tuple(view_of(piece) for piece, _ in look.pieces if look.over or gaps or isinstance(piece, LogPiece))
    return Page(pieces, None if look.over else look.cursor)


def _at(streams: tuple[str, ...], attempt: int | None, rank: int | None, offset: int | None) -> str:
    if offset is None:
        return ""
    if len(streams) != 1 or attempt is None:
        raise Invalid("offset requires `attempt` and exactly one `stream`")
    place = places.Cursor()
    place.move(attempt, streams[0], places.At(0, offset), rank or 0)
    return place.write()
