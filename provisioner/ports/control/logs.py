"""The contract for the logs of runs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from provisioner.core.views import log
from provisioner.core.views.log import Hits, LinePage, Log

#: Maximum number of ranks whose logs are merged: the text of a cursor has a position for each rank and stream.
MERGED_MOST = 32


@dataclass(frozen=True)
class LogQuery:
    """The part of a run's log to return."""

    #: Names of the streams.
    streams: tuple[str, ...]
    #: None: all attempts.
    attempt: int | None = None
    #: Begin this many lines before each stream's end, in the latest attempt if `attempt` is None. None: begin at the
    #: first line.
    tail: int | None = None
    #: None: all ranks, one after the other or, while they are written, in turns.
    rank: int | None = None


@dataclass(frozen=True)
class LogPiece:
    """A contiguous piece of one stream of one rank and attempt."""

    attempt: int
    stream: str
    offset: int
    data: bytes
    rank: int = 0


@dataclass(frozen=True)
class LogGap:
    """Missing bytes of a stream from `offset` on: at least `at_least` of them, None if the number is unknown."""

    attempt: int
    stream: str
    offset: int
    at_least: int | None
    rank: int = 0


@dataclass(frozen=True)
class Place:
    """One stream of one rank and attempt of a run."""

    stream: str = "output"
    #: None: the latest attempt.
    attempt: int | None = None
    rank: int = 0


@dataclass(frozen=True)
class LineQuery:
    """The lines to return: from line `first` on, or from the line with the byte at `offset`, or else the last lines."""

    first: int | None = None
    offset: int | None = None
    count: int = 200
    #: The machine ships its log every second for a minute from now on.
    following: bool = False


@dataclass(frozen=True)
class Search:
    """The text to find in a stream."""

    text: str
    #: `next` of the previous search; "" begins at the first line.
    after: str = ""
    #: Maximum number of lines to find.
    limit: int = 100
    #: Whether `a` to `z` also match `A` to `Z`. Other letters always match only themselves.
    ignore_case: bool = False


def view_of(piece: LogPiece | LogGap) -> Log:
    """Return the view of a piece or a gap."""
    if isinstance(piece, LogGap):
        return Log(piece.attempt, piece.stream, piece.offset, missing_at_least=piece.at_least, rank=piece.rank)
    return replace(log.piece(piece.attempt, piece.stream, piece.offset, piece.data), rank=piece.rank)


def ignore(_: Sequence[str]) -> None:
    """Ignore the errors that `follow` reports."""


class Logs(Protocol):
    """The methods accept a run's name as the methods of `Runs` do, and raise the same errors for it."""

    def read(self, run: str, query: LogQuery) -> Iterator[LogPiece | LogGap]:
        """Yield the bytes that are in the bucket now, each once and in order; then the gaps."""

    def follow(
        self, run: str, query: LogQuery, looked: Callable[[Sequence[str]], None] = ignore, *, direct: bool = False
    ) -> Iterator[LogPiece | LogGap]:
        """Yield the bytes that are there now, then new bytes as they are written until the run's end; then the gaps.

        Makes passes if no daemon does. `looked` is called after each read of the log, with the errors as text. With
        `direct` the bytes come from the machine itself, over SSH; if that is impossible, one of the errors says why.
        """

    def lines(self, run: str, place: Place, query: LineQuery) -> LinePage:
        """Return lines of a stream, also while it is written; an empty page if the run has no attempt yet.

        The lines of a long stream are counted in steps: a page may have no lines, and `read` below `size`. Then call
        again. Raises NotFound for an attempt or a rank that does not exist.
        """

    def search(self, run: str, place: Place, search: Search) -> Hits:
        """Return the lines with a text, in order. Searches for about a second; `next` continues.

        Raises Invalid for a text that is empty, too long or has a newline, and for a wrong `after`.
        """
