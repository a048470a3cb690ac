"""Lines of a run's log for the page's scripts, as JSON with rendered rows; and the whole log as a file."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from provisioner.faces.api.http.answers import answer
from provisioner.faces.api.http.caller import RunName
from provisioner.faces.api.native.commands import streamed
from provisioner.faces.api.native.lines import LINES_MOST, Attempt, Rank, StreamName
from provisioner.faces.page.log_rows import hit_spans, rows
from provisioner.faces.page.render import HEADERS, rendered
from provisioner.faces.page.routing import page_router
from provisioner.faces.page.visitor import Visit, Visiting
from provisioner.ports.control.logs import LineQuery, LogPiece, LogQuery, Place, Search
from provisioner.service.log_lines.search import TEXT_MOST

router = page_router()

#: Maximum number of hits of one answer.
HITS_MOST = 200


@router.get("/run/{run}/lines")
async def lines(
    visit: Visiting,
    run: RunName,
    stream: StreamName = "output",
    attempt: Attempt = None,
    rank: Rank = 0,
    first: Annotated[int | None, Query(ge=1, le=10**15)] = None,
    offset: Annotated[int | None, Query(ge=0, le=10**15 - 1)] = None,
    count: Annotated[int, Query(ge=1, le=LINES_MOST)] = 200,
) -> Response:
    """Return rows from a line on, or the last ones; from a script that polls while a run is live."""
    place, query = Place(stream, attempt, rank), LineQuery(first, offset, count, following=True)
    page = await visit.server.readers.read(visit.caller.name, visit.control.logs.lines, run, place, query)
    found = {
        "attempt": page.attempt,
        "first": page.first,
        "count": len(page.lines),
        "total": page.total,
        "open": page.open,
        "over": page.over,
        "read": page.read,
        "size": page.size,
        "html": rendered("parts/lines.html", {"rows": rows(page), "stream": stream}),
    }
    return _json(found)


@router.get("/run/{run}/find")
async def find(
    visit: Visiting,
    run: RunName,
    q: Annotated[str, Query(max_length=TEXT_MOST)] = "",
    stream: StreamName = "output",
    attempt: Attempt = None,
    rank: Rank = 0,
    after: Annotated[str, Query(max_length=40)] = "",
    limit: Annotated[int, Query(ge=1, le=HITS_MOST)] = 100,
    ignore_case: bool = False,
) -> Response:
    """Return the next lines with a text; `next` is the `after` of the next request, or null at the end."""
    wanted = Search(q, after, limit, ignore_case)
    found = await visit.server.readers.read(
        visit.caller.name, visit.control.logs.search, run, Place(stream, attempt, rank), wanted
    )
    hits = [
        {"line": hit.line, "html": rendered("parts/hit.html", {"hit": hit, "spans": hit_spans(hit)}).strip()}
        for hit in found.hits
    ]
    return _json({"hits": hits, "next": found.next, "searched": found.searched, "size": found.size})


@router.get("/run/{run}/log/raw")
async def raw(
    visit: Visiting, run: RunName, stream: StreamName = "output", attempt: Attempt = None, rank: Rank = 0
) -> Response:
    """Return the bytes of one stream that are there now, as a file."""
    id, number = await visit.server.readers.read(visit.caller.name, _attempt, visit, run, Place(stream, attempt, rank))
    name = f"{id[:12]}-{number}-{rank}-{stream}.log"
    headers = {
        **HEADERS,
        "content-disposition": f'attachment; filename="{name}"',
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
    }
    query = LogQuery((stream,), number or None, rank=rank)
    return await streamed(visit.server, visit.caller, lambda: _bytes(visit, run, query), "text/plain", headers)


def _attempt(visit: Visit, run: str, place: Place) -> tuple[str, int]:
    """Return the run's id, and the attempt at the place: 0 before the first one."""
    return visit.control.runs.get(run).id, visit.control.logs.lines(run, place, LineQuery(count=1)).attempt


def _bytes(visit: Visit, run: str, query: LogQuery) -> Iterator[bytes]:
    return (piece.data for piece in visit.control.logs.read(run, query) if isinstance(piece, LogPiece))


def _json(value: object) -> Response:
    found = answer(value)
    found.headers.update({**HEADERS, "cache-control": "no-store"})
    return found
