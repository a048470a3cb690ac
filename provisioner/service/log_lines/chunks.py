"""The chunks of a stream in the bucket: in the machine's mailbox, or in the archive after the log was copied there."""

from collections.abc import Iterator
from itertools import islice

from provisioner.core.logs.archive import chunk_offset, kept_chunk_key, kept_log_prefix
from provisioner.core.protocol.keys import chunk_key, log_prefix
from provisioner.core.run.machines.messages import CHUNK_MOST, CHUNKS_MOST
from provisioner.core.run.records import Node
from provisioner.ports.bucket import Bucket


def key(node: Node, stream: str, offset: int) -> str:
    """Return the key of the chunk that begins at byte `offset`."""
    if node.archived_at is not None:
        return kept_chunk_key(node.run, node.attempt, node.rank, stream, offset)
    return chunk_key(node.box, stream, offset, node.later)


def chunks(bucket: Bucket, node: Node, stream: str, after: str = "") -> Iterator[tuple[int, str, int]]:
    """Yield the offset, key and size of each chunk, in order; at most CHUNKS_MOST chunks, like the archive."""
    if node.archived_at is not None:
        prefix = kept_log_prefix(node.run, node.attempt, node.rank, stream)
    else:
        prefix = log_prefix(node.box, stream, node.later)
    for entry in islice(bucket.list(prefix, after=after), CHUNKS_MOST):
        offset = chunk_offset(entry.key, prefix)
        if offset is not None and entry.size <= CHUNK_MOST:
            yield offset, entry.key, entry.size
