"""The record of an uploaded list of commands, and the parts in which the bucket has it.

A part is an object with the texts of commands, each with a NUL byte after it. Machines have no right to read it.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

#: Maximum number of commands of a list, and maximum number of bytes that are uploaded for one.
MOST_COMMANDS, MOST_BYTES = 10_000_000, 2 << 30
#: A part ends with the command by which it has this many commands, or this many bytes.
PART_COMMANDS, PART_BYTES = 10_000, 4 << 20
#: Maximum number of bytes of the texts of a batch: an agent reads no object of more than 16 MiB.
BATCH_BYTES = 8 << 20
#: The prefix of all parts of all uploads.
PARTS = "uploads/"


@dataclass(frozen=True)
class Upload:
    """A list of commands that is stored apart from recipes. It never changes; each of several runs may use it."""

    id: str
    owner: str
    created_at: float
    #: Number of commands.
    total: int
    #: Number of bytes of all parts.
    size: int
    #: The index of the first command of each part; the parts are numbered from 0.
    parts: tuple[int, ...]
    #: The digest of the parts, one after the other.
    sha256: str
    #: Number of bytes of the longest command, without its NUL byte.
    longest: int
    version: int = 0

    @property
    def batch_most(self) -> int:
        """Maximum number of commands of a batch, so that their texts have at most BATCH_BYTES."""
        return BATCH_BYTES // (self.longest + 1)

    def indices(self, part: int) -> range:
        """Return the indices of the commands in a part."""
        return range(self.parts[part], self.parts[part + 1] if part + 1 < len(self.parts) else self.total)

    def spread(self, first: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Yield where `count` commands from `first` on are: the part, and the begin and end of their places in it."""
        part, after = bisect_right(self.parts, first) - 1, first + count
        while first < after:
            here = self.indices(part)
            yield part, first - here.start, min(after, here.stop) - here.start
            first, part = here.stop, part + 1


def part_key(upload: str, number: int) -> str:
    """Return the key of a part of an upload; the first one has the number 0."""
    return f"{PARTS}{upload}/{number:06d}"


def upload_of(key: str) -> str:
    """Return the id of the upload that a part belongs to."""
    return key.removeprefix(PARTS).partition("/")[0]
