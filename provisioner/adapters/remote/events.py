"""Follow a log over Server-Sent Events (WHATWG HTML), and resume after the last event when a connection breaks."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from provisioner.adapters.remote.calls import Calls, Query
from provisioner.core.errors import Invalid, Transient
from provisioner.core.views.codec import Absent, from_json
from provisioner.core.views.log import Log, data_of
from provisioner.ports.clock import Clock
from provisioner.ports.control.logs import LogGap, LogPiece

#: Maximum number of consecutive connections, one second apart, that may break before an event or a heartbeat arrives.
FRUITLESS = 120
#: Maximum number of bytes of an event. An event of our server has at most 256 KiB of a log, as base64 or escaped text.
LARGEST = 16 << 20


@dataclass(frozen=True)
class Event:
    name: str
    id: str
    data: str


def follow(
    calls: Calls, clock: Clock, path: str, query: Query, looked: Callable[[Sequence[str]], None]
) -> Iterator[LogPiece | LogGap]:
    """Yield each piece once, until the log's end; `looked` is called about every second while no piece arrives."""
    place, fruitless = "", 0
    while True:
        with calls.stream(path, [*query, ("heartbeat", 1)], place) as data:
            for event in events(data):
                fruitless = 0
                if event is None:
                    looked(())
                elif event.name == "end":
                    return
                elif event.name == "log":
                    yield piece(event.data)
                    place = event.id
        fruitless += 1
        if fruitless > FRUITLESS:
            raise Transient(f"{fruitless} connections in a row were lost before any event arrived: try again later")
        # A stream that broke after an event is resumed at once.
        if fruitless > 1:
            clock.wait(1.0)


def events(data: Iterator[bytes]) -> Iterator[Event | None]:
    """Yield the events of a stream, and None for a heartbeat. An incomplete event at the end is dropped."""
    rest = b""
    for more in data:
        *blocks, rest = (rest + more).split(b"\n\n")
        for block in blocks:
            yield from _event(block)
        if len(rest) > LARGEST:
            raise Invalid(f"an event of the server is larger than {LARGEST >> 20} MiB: check PROVISION_URL")


def _event(block: bytes) -> Iterator[Event | None]:
    fields: dict[str, str] = {}
    for line in block.decode(errors="replace").split("\n"):
        name, _, value = line.partition(":")
        fields[name] = value.removeprefix(" ")
    if "data" in fields:
        yield Event(fields.get("event", ""), fields.get("id", ""), fields["data"])
    elif "" in fields:
        yield None


def piece(text: str) -> LogPiece | LogGap:
    """Return the piece or the gap in the data of a `log` event. Raises Invalid."""
    try:
        return piece_of(from_json(Log, json.loads(text)))
    except (Invalid, ValueError, RecursionError) as error:
        raise Invalid(f"invalid log data from the server ({error}): check PROVISION_URL") from error


def piece_of(view: Log) -> LogPiece | LogGap:
    """Return the piece or the gap that a view shows. Raises Invalid if a piece has no bytes."""
    if not isinstance(view.missing_at_least, Absent):
        return LogGap(view.attempt, view.stream, view.offset, view.missing_at_least, view.rank)
    try:
        return LogPiece(view.attempt, view.stream, view.offset, data_of(view), view.rank)
    except ValueError as error:
        raise Invalid(f"invalid log data from the server ({error}): check PROVISION_URL") from error
