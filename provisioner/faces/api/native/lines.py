"""Endpoints for a run's log by its lines: pages of lines, and searches."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from provisioner.core.views.log import Hits, LinePage
from provisioner.faces.api.http import examples
from provisioner.faces.api.http.answers import shown
from provisioner.faces.api.http.caller import Acting, Calling, RunName, Serving
from provisioner.faces.api.http.document import answers
from provisioner.faces.api.native.logs import Stream
from provisioner.ports.control.logs import LineQuery, Place, Search
from provisioner.service.log_lines.search import TEXT_MOST

router = APIRouter(tags=["logs"])

#: Most lines of a page, and most hits of a search.
LINES_MOST, HITS_MOST = 1000, 1000

StreamName = Annotated[Stream, Query(description="The stream.")]
Attempt = Annotated[int | None, Query(ge=1, le=100_000, description="The attempt. Default: the latest one.")]
Rank = Annotated[int, Query(ge=0, le=999, description="The rank.")]


@router.get(
    "/runs/{run}/lines", operation_id="get_lines", responses=answers(LinePage, 404, example=examples.line_page())
)
async def get_lines(
    server: Serving,
    caller: Calling,
    control: Acting,
    run: RunName,
    stream: StreamName = "output",
    attempt: Attempt = None,
    rank: Rank = 0,
    first: Annotated[
        int | None, Query(ge=1, le=10**15, description="Number of the first line. Default: the last lines.")
    ] = None,
    offset: Annotated[
        int | None, Query(ge=0, le=10**15 - 1, description="Begin with the line that has the byte at this offset.")
    ] = None,
    count: Annotated[int, Query(ge=1, le=LINES_MOST, description="Most lines of the page.")] = 200,
    following: Annotated[
        bool, Query(description="The machine ships its log every second for a minute from now on.")
    ] = False,
) -> Response:
    """Return lines of one stream, also while it is written. A long line is cut in the middle.

    A stream that is read for the first time is counted in steps of a second: while `read` is less than `size`, `total`
    grows with each request.
    """
    place, query = Place(stream, attempt, rank), LineQuery(first, offset, count, following)
    return shown(await server.readers.read(caller.name, control.logs.lines, run, place, query))


@router.get("/runs/{run}/search", operation_id="search_log", responses=answers(Hits, 404, example=examples.hits()))
async def search_log(
    server: Serving,
    caller: Calling,
    control: Acting,
    run: RunName,
    text: Annotated[str, Query(min_length=1, max_length=TEXT_MOST, description="Plain text within one line.")],
    stream: StreamName = "output",
    attempt: Attempt = None,
    rank: Rank = 0,
    after: Annotated[str, Query(max_length=40, description="`next` of the previous search.")] = "",
    limit: Annotated[int, Query(ge=1, le=HITS_MOST, description="Most lines to find.")] = 100,
    ignore_case: Annotated[bool, Query(description="`a` to `z` also match `A` to `Z`.")] = False,
) -> Response:
    """Return the lines of one stream that have a text, in order. A search ends after a second; `next` continues it."""
    wanted = Search(text, after, limit, ignore_case)
    return shown(await server.readers.read(caller.name, control.logs.search, run, Place(stream, attempt, rank), wanted))
