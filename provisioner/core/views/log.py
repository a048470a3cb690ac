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
