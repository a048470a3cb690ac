"""Fold the events of a run's story into chapters, so that a story of many tries and attempts can be seen at once."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from provisioner.core.views.run import Event

#: The kind of chapter that an event belongs to, by the beginning of its text (`core/run/story.py`). Other events belong
#: to the chapter before them.
KINDS = (
    (re.compile(r"(queued|launching): |waits, |no machine \("), "waiting"),
    (re.compile(r"attempt \d+: |(booting|preparing): "), "starting"),
    (re.compile("running: "), "running"),
    (re.compile("(stopping|done): "), "ending"),
)


@dataclass(frozen=True)
class Chapter:
    """Related events, the oldest first; there is at least one."""

    kind: str
    events: tuple[Event, ...]
    #: Seconds until the next chapter; None for the last one.
    seconds: float | None

    @property
    def first(self) -> Event:
        return self.events[0]

    @property
    def last(self) -> Event:
        return self.events[-1]


def chapters(events: Iterable[Event]) -> tuple[Chapter, ...]:
    """Return the story's chapters. A new one begins when the run starts to wait, to prepare, to execute, or to end."""
    parts: list[tuple[str, list[Event]]] = []
    for event in events:
        kind = next((kind for begin, kind in KINDS if begin.match(event.text)), None)
        if not parts or (kind and kind != parts[-1][0]):
            parts.append((kind or "waiting", []))
        parts[-1][1].append(event)
    ends = [found[0].at for _, found in parts[1:]]
    return tuple(
        Chapter(kind, tuple(found), ends[number] - found[0].at if number < len(ends) else None)
        for number, (kind, found) in enumerate(parts)
    )
