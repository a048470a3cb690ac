"""Reading logs: from the mailbox while a run lives, from the archive once it is kept there."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from provisioner.core.errors import Retryable, Transient
from provisioner.core.logs import cursor as places
from provisioner.core.logs.archive import Manifest, chunk_offset, kept_chunk_key, manifest_key, node_prefix
from provisioner.core.logs.cursor import At, Cursor
from provisioner.core.protocol.codec import decode
from provisioner.core.protocol.keys import chunk_key, log_prefix
from provisioner.core.run.machine_messages import CHUNK_MOST, CHUNKS_MOST
from provisioner.core.run.records import Node, Run
from provisioner.ports.control import LogGap, LogPage, LogPiece
from provisioner.service.installation import Installation
from provisioner.service.runs import Runs
from provisioner.service.ssh_entry.direct import Direct

#: A follower keeps its machine shipping every second for this long, and renews it at half of it.
FOLLOWED = 60.0
#: A follower looks for new chunks this often; while it hears them from the machine, so often.
LOOK_EVERY, LOOK_BESIDE = 0.5, 5.0
#: Most objects that one look reads: a job that writes one byte a second makes one object of each byte.
LOOK_READS = 256
#: Most bytes that are read for a tail, and bytes of the first read; later reads have four times as many. The beginning
#: of a longer last line is cut off.
TAIL_MOST, TAIL_BLOCK = 4 << 20, 256 << 10


class Logs:
    """The bytes of a run's streams, in order, each once."""

    def __init__(self, installation: Installation, runs: Runs) -> None:
        self._installation = installation
        self._runs = runs

    def read(
        self, run: Run, streams: Sequence[str], attempt: int | None = None, tail: int | None = None
    ) -> Iterator[LogPiece | LogGap]:
        """What is there now."""
        cursor = self._start(run, streams, attempt, tail)
        while True:
            nodes = self._nodes(run, attempt)
            for node in nodes:
                yield from self._new(node, streams, cursor)
            # A mailbox may be emptied while it is read: then the rest is in the archive.
            if [node.archived_at for node in nodes] == [node.archived_at for node in self._nodes(run, attempt)]:
                break
        yield from self._gaps(run, streams, attempt)

    def follow(
        self,
        run: Run,
        streams: Sequence[str],
        attempt: int | None,
        tail: int | None,
        pause: Callable[[float], None],
        direct: Direct | None = None,
    ) -> Iterator[LogPiece | LogGap]:
        """What is there and what comes, until the run has ended and its log is kept; survives a slow bucket.

        With `direct`, what the machine has written is here before the bucket has it.
        """
        cursor, look_at, known = None, 0.0, 0
        while True:
            run = self._runs.run(run.id)
            nodes = self._nodes(run, attempt)
            over = run.ended_at is not None and all(node.archived_at is not None for node in nodes)
            if not over:
                self._runs.amend(run.id, self._followed)
            now = self._installation.clock.now()
            try:
                cursor = self._start(run, streams, attempt, tail) if cursor is None else cursor
                if over or now >= look_at or len(nodes) != known:
                    for node in nodes:
                        yield from self._new(node, streams, cursor)
                    look_at, known = now + LOOK_BESIDE, len(nodes)
                if over:
                    yield from self._gaps(run, streams, attempt)
                    return
                if direct and direct.on(run, nodes, {stream: self._at(cursor, nodes, stream) for stream in streams}):
                    pause(0.0)
                    yield from self._heard(direct, nodes[-1], cursor)
                    continue
            except Retryable:
                # The bucket is not to be had now; the next look goes on from the same byte.
                if direct:
                    direct.close()
            look_at = 0.0
            pause(LOOK_EVERY)

    def look(
        self,
        run: Run,
        streams: Sequence[str],
        attempt: int | None,
        tail: int | None,
        place: str,
        limit: int,
        *,
        following: bool,
    ) -> LogPage:
        """What is new since `place`, at most `limit` bytes of it."""
        nodes = self._nodes(run, attempt)
        over = run.ended_at is not None and all(node.archived_at is not None for node in nodes)
        if following and not over:
            self._runs.amend(run.id, self._followed)
        cursor = places.read(place) if place else self._start(run, streams, attempt, tail)
        found: list[tuple[LogPiece | LogGap, str]] = []
        full = False
        for piece, last in self._bounded(nodes, streams, cursor, limit):
            found.append((piece, cursor.write()))
            full = last
        over = over and not full
        if over or not (full or following):
            found += [(gap, cursor.write()) for gap in self._gaps(run, streams, attempt)]
        return LogPage(run, tuple(found), cursor.write(), over)

    def _bounded(
        self, nodes: Sequence[Node], streams: Sequence[str], cursor: Cursor, limit: int
    ) -> Iterator[tuple[LogPiece, bool]]:
        """Yield the new pieces, each with whether it is the last piece of this look.

        The last piece is the one that reaches `limit` bytes, and is cut there, or piece number LOOK_READS.
        """
        reads = 0

        def room() -> int:
            # One byte beyond the limit shows whether a UTF-8 character ends at the limit.
            return limit + 1

        for node in nodes:
            for stream in streams:
                before = cursor.at(node.attempt, stream)
                for piece in self._new(node, [stream], cursor, room):
                    reads += 1
                    if len(piece.data) >= limit:
                        piece = replace(piece, data=piece.data[: _whole(piece.data, limit)])
                        # Listing must find its chunk again.
                        cursor.move(node.attempt, stream, At(before.chunk, piece.offset + len(piece.data)))
                        yield piece, True
                        return
                    if reads == LOOK_READS:
                        yield piece, True
                        return
                    yield piece, False
                    before, limit = cursor.at(node.attempt, stream), limit - len(piece.data)

    @staticmethod
    def _at(cursor: Cursor, nodes: Sequence[Node], stream: str) -> int:
        return cursor.at(nodes[-1].attempt, stream).byte if nodes else 0

    def _heard(self, direct: Direct, node: Node, cursor: Cursor) -> Iterator[LogPiece]:
        """What comes from the machine for a while; what was shipped before it could be read there, from the bucket."""
        for piece in direct.pieces(LOOK_EVERY):
            if piece.offset > cursor.at(node.attempt, piece.stream).byte:
                yield from self._new(node, [piece.stream], cursor)
            at = cursor.at(node.attempt, piece.stream)
            if piece.offset > at.byte:
                raise Transient(f"{piece.stream}: the bucket does not show what it has taken")
            if data := piece.data[at.byte - piece.offset :]:
                cursor.move(node.attempt, piece.stream, At(at.chunk, at.byte + len(data)))
                yield replace(piece, offset=at.byte, data=data)

    def _start(self, run: Run, streams: Sequence[str], attempt: int | None, tail: int | None) -> Cursor:
        """Where to begin: everywhere at the first byte, or so many lines before the latest attempt's end."""
        nodes = self._nodes(run, attempt)
        if tail is None or not nodes:
            return Cursor()
        cursor = Cursor()
        for stream in streams:
            for node in nodes[:-1]:
                cursor.end(node.attempt, stream)
            cursor.move(nodes[-1].attempt, stream, self._before_end(nodes[-1], stream, tail))
        return cursor

    def _before_end(self, node: Node, stream: str, lines: int) -> At:
        """Return the position at which the last `lines` lines begin, but read at most the last TAIL_MOST bytes.

        They are read in at most LOOK_READS + `lines` blocks.
        """
        bucket, room, reads, ended = self._installation.bucket, TAIL_MOST, LOOK_READS + lines, False
        for chunk, key, size in reversed(list(self._chunks(node, stream))):
            if lines == 0 and not ended:
                return At(chunk, chunk + size)
            while size > 0:
                if not room or not reads:
                    return At(chunk, chunk + size)
                block = min(size, room, TAIL_BLOCK if room == TAIL_MOST else 4 * TAIL_BLOCK)
                data = bucket.get(key, start=size - block, length=block) or b""
                size, room, reads, stop = size - block, room - block, reads - 1, len(data)
                if not ended:
                    # A newline at the end of the log ends the last line and begins no further line.
                    stop, ended = stop - data.endswith(b"\n"), True
                while (found := data.rfind(b"\n", 0, stop)) >= 0:
                    lines, stop = lines - 1, found
                    if lines == 0:
                        return At(chunk, chunk + size + found + 1)
        return At()

    def _followed(self, run: Run) -> Run:
        until = self._installation.clock.now() + FOLLOWED
        return run if run.followed_until > until - FOLLOWED / 2 else replace(run, followed_until=until)

    def _nodes(self, run: Run, attempt: int | None) -> list[Node]:
        return [node for node in self._installation.store.nodes(run.id) if attempt in (None, node.attempt)]

    def _new(
        self, node: Node, streams: Sequence[str], cursor: Cursor, room: Callable[[], int] = lambda: CHUNK_MOST
    ) -> Iterator[LogPiece]:
        """Yield the pieces after the cursor, and move it; `room` returns how many bytes the next read may get."""
        for stream in streams:
            if cursor.ended(node.attempt, stream):
                continue
            at = cursor.at(node.attempt, stream)
            # Listing begins behind the key it is given.
            after = self._key(node, stream, at.chunk - 1) if at.chunk else ""
            for offset, key, size in self._chunks(node, stream, after):
                if offset + size <= at.byte:
                    at = At(offset + size, at.byte)
                    cursor.move(node.attempt, stream, at)
                    continue
                skip, most = max(0, at.byte - offset), room()
                data = self._installation.bucket.get(key, start=skip, length=most)
                if data is None:
                    # Emptied after it was kept: the next look finds it in the archive.
                    return
                end = offset + skip + len(data)
                # If the chunk has more bytes, the next listing must find it again.
                at = At(end if len(data) < most else offset, max(end, at.byte))
                cursor.move(node.attempt, stream, at)
                if data:
                    yield LogPiece(node.attempt, stream, offset + skip, data)
            if node.archived_at is not None:
                # It is not listed again: who follows the hundredth attempt asks for that one alone.
                cursor.end(node.attempt, stream)

    def _chunks(self, node: Node, stream: str, after: str = "") -> Iterator[tuple[int, str, int]]:
        """Yield the offset, key and size of each chunk, in order, and at most as many chunks as are archived."""
        prefix = self._prefix(node, stream)
        for entry in islice(self._installation.bucket.list(prefix, after=after), CHUNKS_MOST):
            offset = chunk_offset(entry.key, prefix)
            if offset is not None and entry.size <= CHUNK_MOST:
                yield offset, entry.key, entry.size

    def _prefix(self, node: Node, stream: str) -> str:
        if node.archived_at is not None:
            return f"{node_prefix(node.run, node.attempt, node.rank)}log/{stream}/"
        return log_prefix(node.box, stream)

    def _key(self, node: Node, stream: str, offset: int) -> str:
        if node.archived_at is not None:
            return kept_chunk_key(node.run, node.attempt, node.rank, stream, offset)
        return chunk_key(node.box, stream, offset)

    def _gaps(self, run: Run, streams: Sequence[str], attempt: int | None) -> Iterator[LogGap]:
        for node in self._nodes(run, attempt):
            if node.archived_at is None:
                continue
            data = self._installation.bucket.get(manifest_key(node.run, node.attempt, node.rank))
            kept = decode(Manifest, data).streams if data else {}
            for stream in streams:
                if stream in kept and kept[stream].missing_from is not None:
                    yield LogGap(node.attempt, stream, kept[stream].missing_from or 0, kept[stream].missing_at_least)


def _whole(data: bytes, limit: int) -> int:
    """Where to cut, so that no character of UTF-8 is torn."""
    for at in range(min(limit, len(data)), max(limit - 4, 0), -1):
        if at == len(data) or data[at] & 0xC0 != 0x80:
            return at
    return limit
