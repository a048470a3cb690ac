"""The contract for the logs of runs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from provisioner.core.views import log
from provisioner.core.views.log import Log


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


def view_of(piece: LogPiece | LogGap) -> Log:
    """Return the view of a piece or a gap."""
    if isinstance(piece, LogGap):
        return Log(piece.attempt, piece.stream, piece.offset, missing_at_least=piece.at_least)
    return log.piece(piece.attempt, piece.stream, piece.offset, piece.data)


def ignore(_: Sequence[str]) -> None:
    """Ignore the errors of a look."""


class Logs(Protocol):
    """Runs are named as in `Runs`, with the same errors."""

    def read(self, run: str, query: LogQuery) -> Iterator[LogPiece | LogGap]:
        """Return the bytes that are in the bucket now, each once and in order; then the gaps."""

    def follow(
        self, run: str, query: LogQuery, looked: Callable[[Sequence[str]], None] = ignore, *, direct: bool = False
    ) -> Iterator[LogPiece | LogGap]:
        """Return the bytes that are there and those that are written until the run's end, and then the gaps.

        Makes passes if no daemon does. `looked` is called after each look, with the errors as text. With `direct` the
        bytes come from the machine itself, over SSH; if that is impossible, one of the errors says why.
        """
