"""The view of a piece of a log."""

import base64
from dataclasses import dataclass
from typing import Annotated

from provisioner.core.views.codec import Absent

ABSENT = Absent.ABSENT


@dataclass(frozen=True)
class Data:
    """Bytes: as text where they are UTF-8, and so that none is lost where they are not."""

    text: str | Absent = ABSENT
    base64: str | Absent = ABSENT


@dataclass(frozen=True)
class Log:
    """A piece of a stream, in `text` or `base64`; or, with `missing_at_least`, that bytes are nowhere."""

    attempt: int
    stream: str
    offset: int
    text: Annotated[str | Absent, "Where the bytes are UTF-8."] = ABSENT
    base64: Annotated[str | Absent, "Where they are not."] = ABSENT
    missing_at_least: Annotated[int | Absent | None, "From `offset` on; null where nobody knows how many."] = ABSENT


@dataclass(frozen=True)
class Page:
    """A page of a run's log."""

    pieces: tuple[Log, ...]
    next: Annotated[
        str | None,
        "As `cursor` it goes on from here, now or later: an empty page has all that there is yet. Null: nothing comes.",
    ]


def piece(attempt: int, stream: str, offset: int, data: bytes) -> Log:
    """Return the view of bytes: as text if they are UTF-8, otherwise in Base64, so that none is lost."""
    shown = data_view(data)
    return Log(attempt, stream, offset, shown.text, shown.base64)


def data_view(data: bytes) -> Data:
    """Return the view of bytes."""
    try:
        return Data(text=data.decode())
    except UnicodeDecodeError:
        return Data(base64=base64.b64encode(data).decode())


def data_of(view: Log) -> bytes:
    """Return the bytes of a piece. Raises ValueError if there are none, or their Base64 is wrong."""
    if isinstance(view.text, str):
        return view.text.encode()
    if isinstance(view.base64, str):
        return base64.b64decode(view.base64, validate=True)
    raise ValueError("a piece of a log has no bytes")
