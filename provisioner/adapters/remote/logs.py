"""provisioner.ports.control.logs.Logs over HTTP."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from provisioner.adapters.remote import events
from provisioner.adapters.remote.calls import Calls, Query
from provisioner.adapters.remote.names import control_host_only, run_path
from provisioner.adapters.remote.runs import RemoteRuns
from provisioner.core.views.log import Hits, LinePage, Page
from provisioner.ports.clock import Clock
from provisioner.ports.control.logs import LineQuery, LogGap, LogPiece, LogQuery, Place, Search, ignore


class RemoteLogs:
    def __init__(self, calls: Calls, clock: Clock, runs: RemoteRuns) -> None:
        self._calls = calls
        self._clock = clock
        self._runs = runs

    def read(self, run: str, query: LogQuery) -> Iterator[LogPiece | LogGap]:
        # An error about the run is raised here, before the first piece is requested.
        return self._read(self._runs.get(run).id, query)

    def _read(self, run: str, query: LogQuery) -> Iterator[LogPiece | LogGap]:
        cursor = ""
        while True:
            # With `gaps`, a page that reaches the end of the log also lists missing bytes.
            parameters = [*_parameters(query), ("gaps", 1), *([("cursor", cursor)] if cursor else [])]
            page = self._calls.ask(Page, "GET", f"{run_path(run)}/logs", parameters)
            pieces = [events.piece_of(each) for each in page.pieces]
            yield from pieces
            if page.next is None or not any(isinstance(piece, LogPiece) for piece in pieces):
                return
            cursor = page.next

    def follow(
        self, run: str, query: LogQuery, looked: Callable[[Sequence[str]], None] = ignore, *, direct: bool = False
    ) -> Iterator[LogPiece | LogGap]:
        if direct:
            control_host_only("read a log directly from the machine")
        return self._follow(self._runs.get(run).id, _parameters(query), looked)

    def lines(self, run: str, place: Place, query: LineQuery) -> LinePage:
        chosen = (
            ("first", query.first),
            ("offset", query.offset),
            ("count", query.count),
            ("following", query.following),
        )
        return self._calls.ask(LinePage, "GET", f"{run_path(run)}/lines", [*_place(place), *_chosen(chosen)])

    def search(self, run: str, place: Place, search: Search) -> Hits:
        chosen = (
            ("text", search.text),
            ("after", search.after),
            ("limit", search.limit),
            ("ignore_case", search.ignore_case),
        )
        return self._calls.ask(Hits, "GET", f"{run_path(run)}/search", [*_place(place), *_chosen(chosen)])

    def _follow(
        self, run: str, parameters: Query, looked: Callable[[Sequence[str]], None]
    ) -> Iterator[LogPiece | LogGap]:
        with self._calls.patient(lambda text: looked([text])):
            yield from events.follow(self._calls, self._clock, f"{run_path(run)}/logs", parameters, looked)


def _parameters(query: LogQuery) -> list[tuple[str, str | int]]:
    chosen = (("attempt", query.attempt), ("tail", query.tail), ("rank", query.rank))
    return [*(("stream", stream) for stream in query.streams), *_chosen(chosen)]


def _place(place: Place) -> list[tuple[str, str | int]]:
    return _chosen((("stream", place.stream), ("attempt", place.attempt), ("rank", place.rank)))


def _chosen(values: Iterable[tuple[str, str | int | None]]) -> list[tuple[str, str | int]]:
    """Return the parameters that have a value; true is 1, and false is left out."""
    return [
        (name, int(value) if isinstance(value, bool) else value)
        for name, value in values
        if value is not None and value is not False and value != ""
    ]
