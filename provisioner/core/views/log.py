"""Views of a run's log."""

import base64
from dataclasses import dataclass
from typing import Annotated

from provisioner.core.views.codec import Absent

ABSENT = Absent.ABSENT


@dataclass(frozen=True)
class Data:
    """Bytes: in `text` if they are UTF-8, otherwise in `base64`."""

    text: str | Absent = ABSENT
    base64: str | Absent = ABSENT


@dataclass(frozen=True)
class Log:
    """A piece of a stream, in `text` or `base64`; or, with `missing_at_least`, a gap of missing bytes."""

    attempt: int
    stream: str
    offset: int
    text: Annotated[str | Absent, "Present if the bytes are UTF-8."] = ABSENT
    base64: Annotated[str | Absent, "Present if they are not UTF-8."] = ABSENT
    missing_at_least: Annotated[
        int | Absent | None, "Least number of bytes missing from `offset` on; null if unknown."
    ] = ABSENT
    rank: Annotated[int, "0 for the only machine of an attempt."] = 0


@dataclass(frozen=True)
class Page:
    """A page of a run's log."""

    pieces: tuple[Log, ...]
    next: Annotated[
        str | None,
        "Pass it as `cursor` for the next page. An empty page: nothing new yet. Null: the log is complete.",
    ]


@dataclass(frozen=True)
class Line:
    """A line of a stream. Bytes that are not UTF-8 are replaced by U+FFFD; control characters are kept."""

    number: Annotated[int, "From 1."]
    offset: Annotated[int, "Offset of the line's first byte."]
    size: Annotated[int, "Bytes of the whole line, without its newline."]
    text: Annotated[str, "The line, or the beginning of a long line."]
    cut: Annotated[int, "Bytes of the line that are left out between `text` and `end`."] = 0
    end: Annotated[str, "The end of a long line."] = ""


@dataclass(frozen=True)
class Gap:
    """Missing bytes of a stream."""

    before: Annotated[int, "Number of the line after the gap; at the end of the stream, `total` plus 1."]
    offset: Annotated[int, "Offset of the first missing byte."]
    missing: Annotated[int | None, "Least number of missing bytes; null if unknown."]


@dataclass(frozen=True)
class LinePage:
    """Lines of one stream of one rank and attempt."""

    attempt: Annotated[int, "0 if the run has no attempt yet."]
    rank: int
    stream: str
    first: Annotated[int, "Number of the first line of `lines`; of the next line to come if there is none."]
    lines: Annotated[tuple[Line, ...], "At most as many as requested; fewer if they are long."]
    gaps: Annotated[tuple[Gap, ...], "The gaps before these lines, and after the last line of the stream."]
    total: Annotated[int, "Number of lines that are known so far."]
    open: Annotated[bool, "The last known line may get more bytes."]
    over: Annotated[bool, "The stream is complete, and `total` final."]
    size: Annotated[int, "Bytes of the stream that are stored so far."]
    read: Annotated[int, "Bytes of the stream whose lines are known so far; less than `size` while they are counted."]


@dataclass(frozen=True)
class Hit:
    """The first place in a line with the text of a search, and up to 512 bytes around it."""

    line: Annotated[int, "Number of the line."]
    offset: Annotated[int, "Offset of the first byte that was found."]
    before: Annotated[str, "The line before the place."]
    match: Annotated[str, "The text that was found."]
    after: Annotated[str, "The line after the place."]
    cut_before: Annotated[bool, "The line begins before `before`."] = False
    cut_after: Annotated[bool, "The line ends after `after`."] = False


@dataclass(frozen=True)
class Hits:
    """Lines of a stream that have a text, in order."""

    attempt: Annotated[int, "0 if the run has no attempt yet."]
    rank: int
    stream: str
    hits: tuple[Hit, ...]
    next: Annotated[
        str | None, "Pass it as `after` to continue the search. Null: the stream was searched to its present end."
    ]
    searched: Annotated[int, "Bytes from the beginning of the stream up to the end of this search."]
    size: Annotated[int, "Bytes of the stream that are stored so far."]


def piece(attempt: int, stream: str, offset: int, data: bytes) -> Log:
    """Return the view of a piece of a stream: as text if its bytes are UTF-8, otherwise in Base64."""
    shown = data_view(data)
    return Log(attempt, stream, offset, shown.text, shown.base64)


def data_view(data: bytes) -> Data:
    """Return the bytes as text if they are UTF-8, otherwise in Base64."""
    try:
        return Data(text=data.decode())
    except UnicodeDecodeError:
        return Data(base64=base64.b64encode(data).decode())


def data_of(view: Log) -> bytes:
    """Return the bytes of a piece. Raises ValueError if the piece is a gap, or if its Base64 is invalid."""
    if isinstance(view.text, str):
        return view.text.encode()
    if isinstance(view.base64, str):
        return base64.b64decode(view.base64, validate=True)
    raise ValueError("a log piece has neither `text` nor `base64`")
