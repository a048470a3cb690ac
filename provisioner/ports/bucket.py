"""The contract with the object store that is bus and archive.

Keys are relative to the installation's prefix. Reads see every acknowledged write (Amazon S3 User
Guide, "Data consistency model"). Every method may raise `Throttled`, `Transient` and
`Misconfigured`; all of them may be repeated.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Entry:
    """One object in a listing; `size` in bytes, `modified` in Unix seconds."""

    key: str
    size: int
    modified: float


class Bucket(Protocol):
    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Store the object; False when `if_absent` and there is one already, which stays as it is.

        After a lost answer the False may be about our own write: read it to know.
        """

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes | None:
        """Return the object's bytes from `start` on, at most `length` (> 0) of them; None without an object.

        A range that begins after the object's end is empty. At most `length` bytes are in memory, however large
        the object is: pass `length` for every object that a machine can write.
        """

    def list(self, prefix: str, *, after: str = "") -> Iterator[Entry]:
        """Every object under `prefix` whose key sorts behind `after`, in order of keys."""

    def copy(self, source: str, target: str) -> None:
        """Copy inside the store, bytes never passing through here; `NotFound` without a source."""

    def delete(self, keys: Collection[str]) -> None:
        """Remove these; those that are not there are no error."""
