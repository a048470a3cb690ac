"""A parser for Server-Sent Events (WHATWG HTML, "Server-sent events")."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    name: str
    id: str
    data: Any


def events(lines: Iterable[str]) -> Iterator[Event]:
    """Yield the events of a response's lines; skip comments."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield Event(fields.get("event", "message"), fields.get("id", ""), json.loads(fields["data"]))
            fields = {}


def text(found: Iterable[Event], stream: str = "output") -> str:
    return "".join(event.data["text"] for event in found if event.name == "log" and event.data["stream"] == stream)
