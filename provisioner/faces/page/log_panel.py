"""The log panel: which stream, attempt and rank are shown, the lines to begin with, and the links to all others.

A browser without scripts reads the log by these links. With scripts, log.js takes over the lines and reads the others.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import urlencode

from provisioner.core.errors import Invalid
from provisioner.core.plain import plain
from provisioner.core.protocol.words import STREAMS, Step
from provisioner.core.views.log import Hit, LinePage
from provisioner.core.views.run import Attempt, Status
from provisioner.faces.page.ansi import Span
from provisioner.faces.page.log_rows import Row, hit_spans, rows
from provisioner.faces.page.visitor import Visit
from provisioner.ports.control.logs import LineQuery, Logs, Place, Search
from provisioner.service.log_lines.search import TEXT_MOST

#: Lines that the page of the log, and the panel in another page, begin with.
LINES, LINES_EMBEDDED = 500, 150
#: A page begins at a multiple of as many lines, as the blocks of log_list.js do.
BLOCK = 100
#: Lines above the line to which a link leads, and lines that one page of hits has.
ABOVE, HITS = 10, 100
#: Cookie of the browser whose visitor wraps long lines.
WRAP = "log_wrap"
#: Largest number in an address: log.js reads numbers exactly up to 2^53.
LARGEST = 10**12

TITLES = {
    "system": "Boot, image and git",
    "setup": "Packages and the start script",
    "output": "The command",
}


@dataclass(frozen=True)
class Asked:
    """What the address names; None and "" if it names nothing."""

    stream: str = ""
    attempt: int | None = None
    rank: int | None = None
    first: int | None = None
    text: str = ""
    exact: bool = False
    after: str = ""


@dataclass(frozen=True)
class Choice:
    """A link to another stream, attempt or rank."""

    name: str
    title: str
    query: str
    shown: bool


@dataclass(frozen=True)
class Places:
    """The streams, attempts and ranks of a run, and the place that is shown."""

    run: str
    #: The path of the page with the panel.
    here: str
    place: Place
    #: The query of the newest stream of the newest attempt; `newest` if it is shown because the address names no place.
    newest_query: str
    newest: bool
    streams: tuple[Choice, ...]
    attempts: tuple[Choice, ...]
    ranks: tuple[Choice, ...]
    #: "Rank" of a gang, "Machine" of a list.
    rank_word: str
    #: Whether nothing of this will change any more.
    over: bool

    @property
    def query(self) -> str:
        return query_of(self.place)

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        return tuple((name, str(value)) for name, value in parameters_of(self.place).items())


@dataclass(frozen=True)
class FoundLine:
    """A hit of a search, and the query of the page with its line."""

    hit: Hit
    query: str

    @property
    def spans(self) -> Iterator[tuple[Span, bool]]:
        return hit_spans(self.hit)


@dataclass(frozen=True)
class Panel:
    """The values of the template parts/log.html."""

    places: Places
    page: LinePage
    #: Whether the page is the end of the log, because the address names no line.
    tail: bool
    embedded: bool
    wrap: bool
    text: str
    exact: bool
    #: None without a search.
    hits: tuple[FoundLine, ...] | None
    more_hits: str
    #: Names and queries of other pages of lines.
    pages: tuple[tuple[str, str], ...]
    empty_text: str

    #: Maximum number of characters of a search.
    longest = TEXT_MOST

    @property
    def rows(self) -> list[Row]:
        return rows(self.page)

    @property
    def state(self) -> str:
        return "complete" if self.page.over else "live" if self.page.total else "waiting"

    @property
    def digits(self) -> int:
        return max(4, len(str(self.page.total)))


def asked_of(query: Mapping[str, str]) -> Asked:
    """Return what the parameters of an address name. Raises Invalid for a wrong value; others are ignored."""
    stream = query.get("stream", "")
    if stream and stream not in STREAMS:
        raise Invalid(f"stream: {stream!r} is none of {', '.join(STREAMS)}")
    return Asked(
        stream,
        _number(query, "attempt", 1),
        _number(query, "rank", 0),
        _number(query, "first", 1),
        query.get("q", ""),
        bool(query.get("case")),
        query.get("after", ""),
    )


def _number(query: Mapping[str, str], name: str, least: int) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and least <= int(text[:20]) <= LARGEST):
        raise Invalid(f"{name}: {text[:60]!r} is not a number from {least} on")
    return int(text)


def parameters_of(place: Place) -> dict[str, str | int]:
    attempt = {"attempt": place.attempt} if place.attempt else {}
    return {"stream": place.stream, **attempt, "rank": place.rank}


def query_of(place: Place, **more: str | int) -> str:
    return urlencode({**parameters_of(place), **more})


def places_of(status: Status, asked: Asked, here: str) -> Places:
    """Return the places of a run's log, and which one to show."""
    numbers = sorted({each.attempt for each in status.attempts})
    newest = _newest(status.attempts, numbers[-1] if numbers else None, 0)
    attempt = asked.attempt if asked.attempt is not None else newest.attempt
    rank = asked.rank or 0
    place = Place(asked.stream or _newest(status.attempts, attempt, rank).stream, attempt, rank)
    ranks = sorted((each for each in status.attempts if each.attempt == attempt), key=lambda each: each.rank)
    return Places(
        status.run.id,
        here,
        place,
        query_of(newest),
        asked.attempt is None and not asked.stream and asked.rank is None,
        tuple(
            Choice(each, TITLES[each], query_of(replace(place, stream=each)), each == place.stream) for each in STREAMS
        ),
        tuple(
            Choice(
                str(number),
                _ended([each for each in status.attempts if each.attempt == number]),
                query_of(replace(place, attempt=number, rank=0)),
                number == attempt,
            )
            for number in numbers
        ),
        tuple(
            Choice(str(each.rank), _rank(each), query_of(replace(place, rank=each.rank)), each.rank == rank)
            for each in ranks
        ),
        "Machine" if status.run.commands else "Rank",
        status.run.certain_at is not None,
    )


def _newest(attempts: Sequence[Attempt], number: int | None, rank: int) -> Place:
    """Return the latest stream of an attempt's rank that has bytes, or gets some next."""
    found = next((each for each in attempts if (each.attempt, each.rank) == (number, rank)), None)
    if found is None:
        return Place("output", number, rank)
    for stream, steps in (("output", (Step.COMMAND, Step.LOGS)), ("setup", (Step.SETUP, Step.BARRIER))):
        if found.bytes_produced.get(stream) or found.step in steps:
            return Place(stream, number, rank)
    before = found.outcome is None or found.bytes_produced.get("system")
    return Place("system" if before else "output", number, rank)


def _ended(nodes: Sequence[Attempt]) -> str:
    reason = next((each.reason for each in nodes if each.reason), None)
    return plain(reason) if reason else "unfinished"


def _rank(node: Attempt) -> str:
    return f"{node.rank}: {node.outcome or node.step or 'boot'}"


def panel_of(visit: Visit, status: Status, here: str) -> Panel:
    """Return the panel for the address of the visit; `here` is the path of the page that shows it."""
    asked, embedded = asked_of(visit.request.query_params), here != f"/run/{status.run.id}/log"
    wrap = visit.request.cookies.get(WRAP) == "1"
    return _panel(visit.control.logs, status, asked, here, embedded=embedded, wrap=wrap)


def _panel(logs: Logs, status: Status, asked: Asked, here: str, *, embedded: bool, wrap: bool) -> Panel:
    places, count = places_of(status, asked, here), LINES_EMBEDDED if embedded else LINES
    place, tail = places.place, asked.first is None
    first = None if asked.first is None else (asked.first - 1) // BLOCK * BLOCK + 1
    page = logs.lines(status.run.id, place, LineQuery(first, count=count, following=not places.over))
    query = partial(query_of, place)
    hits: tuple[FoundLine, ...] | None = None
    more = ""
    if asked.text:
        search = Search(asked.text, asked.after, HITS, ignore_case=not asked.exact)
        found = logs.search(status.run.id, place, search)
        hits = tuple(FoundLine(each, query(first=max(1, each.line - ABOVE))) for each in found.hits)
        case = {"case": "1"} if asked.exact else {}
        more = query(q=asked.text, **case, after=found.next) if found.next else ""
    return Panel(
        places,
        page,
        tail,
        embedded,
        wrap,
        asked.text,
        asked.exact,
        hits,
        more,
        _pages(page, count, query),
        _empty(status, page),
    )


def _pages(page: LinePage, count: int, query: Callable[..., str]) -> tuple[tuple[str, str], ...]:
    after = page.first + len(page.lines)
    # Rounded up, because `_panel` rounds down: no line is left out between two pages.
    earlier = max(0, -((1 + count - page.first) // BLOCK)) * BLOCK + 1
    before = [("First lines", query(first=1)), ("Earlier lines", query(first=earlier))]
    later = [("Later lines", query(first=after)), ("Last lines", query())]
    return (*(before if page.first > 1 else ()), *(later if after <= page.total else ()))


def _empty(status: Status, page: LinePage) -> str:
    """Return the text in place of the lines while there are none."""
    if page.read < page.size:
        return "The lines of this log are being counted."
    if page.gaps:
        return "All of this stream is lost: its bytes were written, but did not reach the bucket."
    if not status.attempts:
        waiting = status.run.waiting
        return f"No machine yet: {plain(waiting.text)}" if waiting else "The run has no machine, so it has no log."
    return "Nothing was written to this stream." if page.over else "Nothing was written to this stream yet."
