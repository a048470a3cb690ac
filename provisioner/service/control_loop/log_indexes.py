"""Make the indexes of archived logs between passes, so that the first reader of a long log does not wait.

The streams that wait are only in memory. After a crash, or if too many wait, a stream is indexed when it is first read.
"""

from collections import deque

from provisioner.core.logs.archive import Manifest
from provisioner.core.run.records import Node
from provisioner.service.installation import Installation
from provisioner.service.log_lines.indexes import Indexes, is_stored

#: Maximum number of streams that wait: of more, the oldest are left to their first readers.
WAITING = 1000
#: Maximum number of bytes of one read; a step makes several at the same time, and a pass that is due waits for them.
PIECE = 1 << 20


class LogIndexes:
    """Makes the indexes of streams one after the other, step by step."""

    def __init__(self, installation: Installation) -> None:
        self._indexes = Indexes(installation.bucket, installation.pool, installation.clock, extending=0.0, piece=PIECE)
        self._waiting = deque[tuple[Node, str]](maxlen=WAITING)

    def add(self, node: Node, manifest: Manifest) -> None:
        """Add the long streams of a node whose log was archived."""
        for stream, kept in manifest.streams.items():
            if is_stored(sum(length for _, length in kept.chunks), len(kept.chunks)):
                self._waiting.append((node, stream))

    def step(self) -> bool:
        """Make one step; return False if no stream waits."""
        if not self._waiting:
            return False
        node, stream = self._waiting[0]
        over = True
        try:
            over = self._indexes.content(node, stream).over
        finally:
            # After an error, the stream's first reader makes the index.
            if over:
                self._indexes.forget(node, stream)
                self._waiting.remove((node, stream))
        return True
