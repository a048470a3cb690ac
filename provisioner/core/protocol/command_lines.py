"""Encode the ends of a list's commands as lines, and decode them; standard library only.

The agent appends one line to the stream `records` for each command that has ended, with these fields, separated by one
space:

    BATCH INDEX GENERATION BEGAN-MS TOOK-MS CODE WHY EXTENTS

An extent is written as `CHUNK+SKIP+LENGTH`, the extents are separated by commas, and `-` means none. A command with
more extents than fit has `@` instead. They are then in lines `x INDEX GENERATION EXTENTS` just before.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

#: Where bytes of a command's output are: the offset in the name of a chunk of the stream `output`, the number of bytes
#: before them in this chunk, and their number.
Extent = tuple[int, int, int]

#: Why the agent ended a command: its limit, the kernel's lack of memory, a fault of its GPU, an order or a limit that
#: ends the whole work of the machine (`stop`), or an order to stop this command alone: `cancel`, or `skip` if it had
#: not begun and now never does.
WHYS = ("limit", "oom", "xid", "stop", "cancel", "skip")
#: Maximum number of bytes of a line, with its end.
LINE_MOST = 4096
#: Maximum number of extents in the line of an end, and in a line `x`.
EXTENTS_HERE, EXTENTS_BEFORE = 8, 80
#: The largest exit status (wait(2)).
EXIT_CODE_MOST = 255

_EXTENTS = rb"\d{1,15}\+\d{1,15}\+\d{1,15}(?:,\d{1,15}\+\d{1,15}\+\d{1,15})*"
_END = re.compile(
    rb"(\d{1,15}) (\d{1,15}) (\d{1,15}) (\d{1,15}) (\d{1,15}) (\d{1,3}) (-|%b) (-|@|%b)\n"
    % ("|".join(WHYS).encode(), _EXTENTS)
)
_MORE = re.compile(rb"x (\d{1,15}) (\d{1,15}) (%b)\n" % _EXTENTS)


@dataclass(frozen=True)
class CommandEnd:
    """How one command of a list ended."""

    #: The number of the batch that had the command.
    batch: int
    index: int
    generation: int
    #: Unix seconds of the machine's clock, in whole milliseconds.
    began: float
    #: Seconds, in whole milliseconds.
    took: float
    #: The exit code; 128 + s if signal s ended the command.
    code: int
    #: One of WHYS; empty if the command ended by itself.
    why: str = ""
    extents: tuple[Extent, ...] = ()


def write_end(end: CommandEnd) -> bytes:
    """Return the lines of one end."""
    lines, here = "", ",".join(map(_extent, end.extents)) or "-"
    if len(end.extents) > EXTENTS_HERE:
        here = "@"
        for first in range(0, len(end.extents), EXTENTS_BEFORE):
            several = ",".join(map(_extent, end.extents[first : first + EXTENTS_BEFORE]))
            lines += f"x {end.index} {end.generation} {several}\n"
    # A clock that is set back while the command runs must not make the line unreadable.
    began, took = (max(0, round(seconds * 1000)) for seconds in (end.began, end.took))
    fields = (end.batch, end.index, end.generation, began, took, end.code, end.why or "-", here)
    return (lines + " ".join(map(str, fields)) + "\n").encode()


def _extent(extent: Extent) -> str:
    return "+".join(map(str, extent))


def read_ends(data: bytes) -> Iterator[CommandEnd | str]:
    """Return the ends in `data`, in their order; for a line that cannot be read, the reason.

    A line without its end is one of these: the last extent may be cut.
    """
    #: The command of the last lines `x`, and their extents.
    whose: tuple[bytes, bytes] | None = None
    before: list[Extent] = []
    for line in io.BytesIO(data):
        short = len(line) <= LINE_MOST
        if short and (more := _MORE.fullmatch(line)):
            if whose != (more[1], more[2]):
                whose, before = (more[1], more[2]), []
            before.extend(_extents(more[3]))
            continue
        if short and (found := _END.fullmatch(line)) and int(found[6]) <= EXIT_CODE_MOST:
            extents = (before if whose == (found[2], found[3]) else ()) if found[8] == b"@" else _extents(found[8])
            batch, index, generation, began, took, code = map(int, found.groups()[:6])
            why = found[7].decode().strip("-")
            yield CommandEnd(batch, index, generation, began / 1000, took / 1000, code, why, tuple(extents))
        else:
            yield f"invalid line {line[:80]!r}"
        whose, before = None, []


def lines_about(data: bytes, indices: Collection[int]) -> bytes:
    """Return those lines in `data` that may be about these commands: twenty times as fast as reading all ends.

    The index is the second field of every line.
    """
    wanted = {b"%d" % index for index in indices}
    return b"".join(line for line in io.BytesIO(data) if not wanted.isdisjoint(line.split(b" ", 2)[1:2]))


def _extents(text: bytes) -> list[Extent]:
    found = []
    for each in text.split(b",") if text != b"-" else ():
        chunk, skip, length = each.split(b"+")
        found.append((int(chunk), int(skip), int(length)))
    return found
