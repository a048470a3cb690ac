"""The contract for the object store, which holds the messages between agent and control plane, and the archive.

Keys are relative to the installation's prefix. Reads return every acknowledged write (Amazon S3 User Guide, "Data
consistency model"). Every method may raise `Throttled`, `Transient` and `Misconfigured`, and may be repeated.
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
        """Store the object. Return False if `if_absent` is set and an object exists, which is then kept.

        After a lost answer and a retry, the existing object may be from the first try: read it to find out.
        """

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes | None:
        """Return the object's bytes from `start` on, at most `length` (> 0) of them; None if there is no object.

        A range that begins after the object's end is empty. At most `length` bytes are in memory, however large
        the object is: pass `length` for every object that a machine can write.
        """

    def list(self, prefix: str, *, after: str = "") -> Iterator[Entry]:
        """Yield every object under `prefix` whose key sorts after `after`, in order of keys."""

    def copy(self, source: str, target: str) -> None:
        """Copy an object within the bucket, without downloading it; raises `NotFound` if `source` does not exist."""

    def delete(self, keys: Collection[str]) -> None:
        """Delete the objects; a missing object is no error."""
