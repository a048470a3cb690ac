"""Copy the logs of mailboxes to the archive in steps, and choose which long log is copied next.

A log may have any number of chunks. One step copies a few of them. The progress of a copy is only in memory: a new
process lists the chunks of a long log that are in the archive, and copies the other chunks.
"""

from array import array
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice

from provisioner.core.logs import archive
from provisioner.core.protocol.words import STREAMS
from provisioner.core.run.machines.messages import CHUNK_MOST, CHUNKS_MOST
from provisioner.ports.bucket import Entry
from provisioner.service.installation import Installation

#: Maximum number of objects that one call of S3 lists or deletes, and maximum number of chunks that one step copies. A
#: step copies its chunks concurrently: a pass that becomes due meanwhile waits only as long as one copy takes.
PAGE, COPIES = 1000, 8


class Copying:
    """Copies the log in one folder of a mailbox, step by step; a step that raised an error may be repeated."""

    def __init__(self, installation: Installation, folder: str, run: str, attempt: int, rank: int, owner: str) -> None:
        self._installation = installation
        self._folder, self._node, self.owner = folder, (run, attempt, rank), owner
        self._streams = list(STREAMS)
        #: The chunks of all streams, as in `_page`, if one page lists them all; None before that listing.
        self._short: dict[str, array[int]] | None = None
        #: State of the present stream, the first of `_streams`: the key after which the next page begins, the number of
        #: listed objects, and whether the last page was listed.
        self._after, self._seen, self._listed = "", 0, False
        #: The page's chunks that are not copied yet: offset, size, offset, size, … A list of pairs would take ten times
        #: the memory.
        self._page = array("q")
        #: Offsets and sizes of the chunks of a long page that are already in the archive.
        self._kept: set[tuple[int, int]] = set()
        #: By stream: the copied chunks, as in `_page`.
        self._copied = {stream: array("q") for stream in STREAMS}

    @property
    def long(self) -> bool:
        """Whether more than one step is left, as far as the log is listed."""
        return len(self._page) > 2 * COPIES or (self._seen > 0 and not self._listed)

    @property
    def complete(self) -> bool:
        return not self._streams

    def anew(self) -> "Copying":
        """Return a copy of the same log from its beginning."""
        return Copying(self._installation, self._folder, *self._node, self.owner)

    def step(self) -> None:
        """List a page of chunks, or copy some of the listed chunks."""
        stream = self._streams[0]
        if not self._page:
            self._list(stream)
        else:
            self._copy(stream, self._page[: 2 * COPIES])
            del self._page[: 2 * COPIES]
        if self._listed and not self._page:
            del self._streams[0]
            self._after, self._seen, self._listed = "", 0, False

    def _list(self, stream: str) -> None:
        prefix, after = f"{self._folder}{stream}/", self._after
        if self._short is None:
            self._short = self._list_all()
        if self._short:
            self._page, self._listed = self._short[stream], True
        else:
            entries = list(islice(self._installation.bucket.list(prefix, after=after), PAGE))
            self._seen += len(entries)
            # Chunks beyond CHUNKS_MOST are not copied; the manifest has the offset from which they are missing.
            self._listed = len(entries) < PAGE or self._seen >= CHUNKS_MOST
            self._after = entries[-1].key if entries else ""
            self._page = array("q", chain.from_iterable(_chunks(entries, prefix)))
        self._kept = set()
        if self.long:
            kept = archive.kept_log_prefix(*self._node, stream)
            after = after and kept + after.removeprefix(prefix)
            self._kept = set(_chunks(islice(self._installation.bucket.list(kept, after=after), PAGE), kept))

    def _list_all(self) -> "dict[str, array[int]]":
        """Return the chunks of every stream; empty if there are so many that each stream is listed by itself."""
        entries = list(islice(self._installation.bucket.list(self._folder), PAGE))
        if len(entries) == PAGE:
            return {}
        prefixes = {stream: f"{self._folder}{stream}/" for stream in STREAMS}
        return {
            stream: array("q", chain.from_iterable(_chunks((e for e in entries if e.key.startswith(prefix)), prefix)))
            for stream, prefix in prefixes.items()
        }

    def _copy(self, stream: str, chunks: "array[int]") -> None:
        pairs = [
            (f"{self._folder}{stream}/{offset:015d}", archive.kept_chunk_key(*self._node, stream, offset))
            for offset, size in _pairs(chunks)
            if (offset, size) not in self._kept
        ]
        for failure in self._installation.pool.map(lambda pair: self._installation.bucket.copy(*pair), pairs):
            if isinstance(failure, Exception):
                raise failure
        self._copied[stream].extend(chunks)

    def chunks(self) -> dict[str, list[tuple[int, int]]]:
        """Return the offset and size of every copied chunk, by stream."""
        return {stream: list(_pairs(chunks)) for stream, chunks in self._copied.items()}


def _pairs(flat: "array[int]") -> Iterator[tuple[int, int]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _chunks(entries: Iterable[Entry], prefix: str) -> list[tuple[int, int]]:
    """Return the offset and size of each object that is a chunk."""
    return [
        (offset, entry.size)
        for entry in entries
        if (offset := archive.chunk_offset(entry.key, prefix)) is not None and entry.size <= CHUNK_MOST
    ]


class LongLogs:
    """The copies that need more than one pass, by the folder of the log.

    Owners take turns, and an owner's logs are copied one after the other: an owner with hundreds of long logs delays no
    other owner's log, and only a log whose copy has begun takes memory. Methods may be called concurrently.
    """

    def __init__(self) -> None:
        #: In the order in which the logs are copied.
        self._copies: dict[str, Copying] = {}
        #: The number of each owner's last turn, and of the last turn of all.
        self._turns: dict[str, int] = {}
        self._turn = 0

    def get(self, folder: str) -> Copying | None:
        return self._copies.get(folder)

    def add(self, folder: str, copying: Copying) -> None:
        """Add a copy that has made steps. If another copy of its owner is before it, it will list the log again."""
        if folder not in self._copies:
            waits = any(each.owner == copying.owner and not each.complete for each in list(self._copies.values()))
            self._copies[folder] = copying.anew() if waits else copying

    def remove(self, folder: str) -> None:
        self._copies.pop(folder, None)

    def keep_only(self, folders: Collection[str]) -> None:
        """Remove the copies of all folders except these."""
        self._copies = {folder: copying for folder, copying in self._copies.items() if folder in folders}
        owners = {copying.owner for copying in self._copies.values()}
        self._turns = {owner: turn for owner, turn in self._turns.items() if owner in owners}

    def incomplete(self) -> list[str]:
        """Return the folders of incomplete copies; those of the owner whose last turn is longest ago come first."""
        left = [(folder, copying.owner) for folder, copying in list(self._copies.items()) if not copying.complete]
        return [folder for folder, _ in sorted(left, key=lambda pair: self._turns.get(pair[1], 0))]

    def step(self, folder: str, copying: Copying) -> None:
        """Make one step of a copy, which may be one that was not added. This is its owner's turn."""
        self._turn += 1
        self._turns[copying.owner] = self._turn
        try:
            copying.step()
        except Exception:
            if self._copies.pop(folder, None):
                # The step may fail again and again, so the owner's other copies come first.
                self._copies[folder] = copying.anew()
            raise
