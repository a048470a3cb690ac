"""Where a reader of a run's log is: in every stream of every attempt at a byte; as text, too, to go on from there."""

import re
from dataclasses import dataclass

from provisioner.core.errors import Invalid
from provisioner.core.work import STREAMS


@dataclass(frozen=True)
class At:
    """At a byte, in the chunk that begins at `chunk` or just behind it."""

    chunk: int = 0
    byte: int = 0


#: By attempt and stream; at the beginning of those that are not there.
Cursor = dict[tuple[int, str], At]
#: Longer than any stream, and as long as a chunk's key may say.
BEYOND = At(10**15 - 1, 10**15 - 1)

#: The beginning of everything.
START = "start"
_PART = re.compile(rf"([1-9]\d{{0,5}})\.({'|'.join(STREAMS)})\.(\d{{1,15}})\.(\d{{1,15}})", re.ASCII)
#: Characters: of some two hundred attempts, and below what a server takes as one header (h11: 16 KiB in all).
LONGEST = 12_000


def write(cursor: Cursor) -> str:
    """The cursor as one short word: equal places are equal words."""
    parts = (f"{attempt}.{stream}.{at.chunk}.{at.byte}" for (attempt, stream), at in sorted(cursor.items()))
    return ",".join(parts) or START


def read(text: str) -> Cursor:
    """What `write` wrote; raises Invalid for anything else."""
    if text == START:
        return {}
    found: Cursor = {}
    for part in text.split(",") if len(text) <= LONGEST else ("",):
        match = _PART.fullmatch(part)
        if not match:
            raise Invalid(f"{text[:60]!r} is no place in a log; take the `next` or the id of what came before")
        found[int(match[1]), match[2]] = At(int(match[3]), int(match[4]))
    return found
