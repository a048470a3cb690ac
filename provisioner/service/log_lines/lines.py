"""Lines of streams, and searches in streams, for all callers of a process."""

from collections.abc import Callable
from typing import TypeVar

from provisioner.core.run.records import Node
from provisioner.core.views.log import Hits, LinePage
from provisioner.ports.bucket import Bucket
from provisioner.ports.clock import Clock
from provisioner.ports.control.logs import LineQuery, Search
from provisioner.ports.pool import Pool
from provisioner.service.log_lines.content import Content, Moved
from provisioner.service.log_lines.indexes import Indexes
from provisioner.service.log_lines.pages import page
from provisioner.service.log_lines.search import search

T = TypeVar("T")

#: Seconds after which a search ends, and returns where to continue.
SEARCHING = 1.0


class Lines:
    """Reads lines of nodes' streams by their indexes. Methods may be called concurrently."""

    def __init__(self, bucket: Bucket, pool: Pool, clock: Clock) -> None:
        self._clock = clock
        self.indexes = Indexes(bucket, pool, clock)

    def page(self, node: Node, stream: str, query: LineQuery, again: Callable[[], Node]) -> LinePage:
        """Return lines of a stream. `again` reads the node's record anew: its log may be archived meanwhile."""
        return self._read(node, stream, again, lambda content: page(content, query))

    def search(self, node: Node, stream: str, wish: Search, again: Callable[[], Node]) -> Hits:
        """Return lines with a text, after a search of SEARCHING seconds; `again` as for `page`."""
        until = self._clock.elapsed() + SEARCHING

        def find(content: Content) -> Hits:
            with self.indexes.heavy() as free:
                return search(content, wish, lambda: not free or self._clock.elapsed() >= until)

        return self._read(node, stream, again, find)

    def _read(self, node: Node, stream: str, again: Callable[[], Node], deed: Callable[[Content], T]) -> T:
        try:
            return deed(self.indexes.content(node, stream))
        except Moved:
            self.indexes.forget(node, stream)
            return deed(self.indexes.content(again(), stream))
