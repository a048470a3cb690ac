"""A stream of one node in a bucket, its chunks as a test wants them, and what a reader must see of it."""

from dataclasses import replace

from provisioner.core.logs.archive import (
    KeptStream,
    Manifest,
    kept_chunk_key,
    lines_key,
    manifest_key,
)
from provisioner.core.protocol.codec import encode
from provisioner.core.protocol.keys import chunk_key
from provisioner.core.run.records import Node
from provisioner.core.views.log import Hits, LinePage
from provisioner.ports.control.logs import LineQuery, Search
from provisioner.rehearsal.fakes.clock import InlinePool, StepClock
from provisioner.service.log_lines.lines import Lines
from tests.service.attacked import Counted

RUN = "1f9cb11a918f4d3e8f1f0e8b5b1b2c3d"


class Stream:
    """The stream `output` of one node: in its mailbox, and in the archive after `archive`."""

    def __init__(self, *chunks: tuple[int, bytes]) -> None:
        self.clock = StepClock()
        self.bucket = Counted(self.clock.now)
        self.node = Node("n", RUN, 1, 0, "l", "t", "i-1", "box", 0.0, 1)
        self.chunks: list[tuple[int, bytes]] = []
        self.lines = self.process()
        self.write(*chunks)

    def process(self) -> Lines:
        """Return the reader of a process that has read nothing yet."""
        return Lines(self.bucket, InlinePool(), self.clock)

    def write(self, *chunks: tuple[int, bytes]) -> None:
        for offset, data in chunks:
            self.bucket.put(chunk_key("box", "output", offset), data)
            self.chunks.append((offset, data))
        self.clock.step(1.0)

    def append(self, *pieces: bytes) -> None:
        """Write one chunk of each piece, after the others."""
        for piece in pieces:
            end = self.chunks[-1][0] + len(self.chunks[-1][1]) if self.chunks else 0
            self.write((end, piece))

    def archive(self, missing_from: int | None = None, missing_at_least: int | None = None) -> None:
        """Move the chunks to the archive."""
        for offset, data in self.chunks:
            self.bucket.put(kept_chunk_key(RUN, 1, 0, "output", offset), data)
        self.bucket.delete([key for key in self.bucket.objects if key.startswith("machines/")])
        chunks = tuple((offset, len(data)) for offset, data in sorted(self.chunks))
        kept = KeptStream(sum(size for _, size in chunks), chunks, missing_from, missing_at_least)
        self.bucket.put(manifest_key(RUN, 1, 0), encode(Manifest(RUN, 1, 0, {"output": kept})))
        self.node = replace(self.node, archived_at=1.0)

    @property
    def index(self) -> bytes | None:
        """The stored index."""
        return self.bucket.objects.get(lines_key(RUN, 1, 0, "output"), (None,))[0]

    def page(self, first: int | None = None, count: int = 200, offset: int | None = None) -> LinePage:
        return self.lines.page(self.node, "output", LineQuery(first, offset, count), lambda: self.node)

    def search(self, text: str, after: str = "", limit: int = 100, *, ignore_case: bool = False) -> Hits:
        wish = Search(text, after, limit, ignore_case)
        return self.lines.search(self.node, "output", wish, lambda: self.node)

    def find_all(self, text: str, limit: int = 100, *, ignore_case: bool = False) -> list[int]:
        """Return the numbers of all lines with the text, from as many searches as it takes."""
        found, after = [], ""
        while True:
            hits = self.search(text, after, limit, ignore_case=ignore_case)
            found += [hit.line for hit in hits.hits]
            if hits.next is None:
                return found
            assert hits.next != after, "the search makes no progress"
            after = hits.next


def texts(page: LinePage) -> list[str]:
    return [line.text for line in page.lines]
