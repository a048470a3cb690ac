"""The contract for the logs of runs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from provisioner.core.run.records import Run


@dataclass(frozen=True)
class LogQuery:
    """Which part of a run's log."""

    #: Names of the streams.
    streams: tuple[str, ...]
    #: None: all attempts.
    attempt: int | None = None
    #: Begin this many lines before each stream's end, in the latest attempt if none is named; None: at the beginning.
    tail: int | None = None


@dataclass(frozen=True)
class LogPiece:
    """A contiguous piece of one stream of one attempt."""

    attempt: int
    stream: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class LogGap:
    """Missing bytes: from `offset` on, and at least how many, or None if that is unknown."""

    attempt: int
    stream: str
    offset: int
    at_least: int | None


@dataclass(frozen=True)
class LogPage:
    """What is new in a run's log since a cursor."""

    run: Run
    #: Each piece with the cursor behind it.
    pieces: tuple[tuple[LogPiece | LogGap, str], ...]
    #: The cursor behind the whole page.
    cursor: str
    #: The run has ended, its log is archived, and nothing follows this page.
    over: bool


def ignore(_: Sequence[str]) -> None:
    """Ignore the errors of a look."""


class Logs(Protocol):
    """Runs are named as in `Runs`, with the same errors."""

    def read(self, run: str, query: LogQuery) -> Iterator[LogPiece | LogGap]:
        """Return the bytes that are in the bucket now, each once and in order; then the gaps."""

    def page(
        self, run: str, query: LogQuery, cursor: str = "", limit: int = 1 << 20, *, following: bool = False
    ) -> LogPage:
        """Return at most `limit` bytes after `cursor`; "" begins as the query says.

        The page that reaches the end has the gaps; with `following` only after the run's end. With `following` the
        machine ships its log every second for a while. Raises Invalid for a wrong cursor.
        """

    def follow(
        self, run: str, query: LogQuery, looked: Callable[[Sequence[str]], None] = ignore, *, direct: bool = False
    ) -> Iterator[LogPiece | LogGap]:
        """Return the bytes that are there and those that are written until the run's end, and then the gaps.

        Makes passes if no daemon does. `looked` is called after each look, with the errors as text. With `direct` the
        bytes come from the machine itself, over SSH; if that is impossible, one of the errors says why.
        """
