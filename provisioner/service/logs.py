"""Read the logs of runs: from the machine's mailbox, or from the archive after the log was copied there."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from provisioner.core.errors import Invalid, NotFound, Retryable, Transient
from provisioner.core.logs import cursor as cursors
from provisioner.core.logs.archive import Manifest, manifest_key
from provisioner.core.logs.cursor import At, Cursor
from provisioner.core.protocol.codec import decode
from provisioner.core.run.machines.messages import CHUNK_MOST
from provisioner.core.run.records import Node, Run
from provisioner.core.views.commands import Progress
from provisioner.core.views.log import Hits, LinePage
from provisioner.core.views.run import Run as View
from provisioner.ports.bucket import Bucket
from provisioner.ports.clock import Clock
from provisioner.ports.control.logs import (
    MERGED_MOST,
    LineQuery,
    LogGap,
    LogPiece,
    LogQuery,
    Place,
    Search,
    ignore,
)
from provisioner.ports.store import Store
from provisioner.service.acting import Acting
from provisioner.service.log_lines.chunks import chunks, key
from provisioner.service.log_lines.lines import Lines
from provisioner.service.runs import Runs
from provisioner.service.ssh_entry.direct import Direct
from provisioner.service.ssh_entry.entrance import Entrance

#: Seconds for which the machine ships its log every second after a client asked to follow it. While a client follows
#: the log, this period is renewed when half of it is over.
FOLLOWED = 60.0
#: Seconds between two listings of new chunks while a log is followed, without and with an SSH connection.
LOOK_EVERY, LOOK_BESIDE = 0.5, 5.0
#: Maximum number of objects that one page reads: a job that writes one byte a second makes an object of each byte.
LOOK_READS = 256
#: Maximum number of bytes that are read for a tail, and bytes of them for each line. If the lines are longer, the
#: beginning of the tail is cut off: a progress bar may be a line of many megabytes.
TAIL_MOST, TAIL_LINE = 4 << 20, 64 << 10
#: Bytes of the first read of a tail, and the minimum of all its bytes; later reads have four times as many.
TAIL_BLOCK = 256 << 10


@dataclass(frozen=True)
class LogPage:
    """The part of a run's log after a cursor, up to a limit."""

    run: View
    #: The pieces and gaps, each with the cursor at its end.
    pieces: tuple[tuple[LogPiece | LogGap, str], ...]
    #: The cursor at the end of the page, for the next page.
    cursor: str
    #: Whether this is the last page: the run has ended, and its log is archived.
    over: bool


class Logs:
    """The implementation of provisioner.ports.control.logs.Logs: the bytes of a run's streams, in order, each once."""

    def __init__(
        self,
        store: Store,
        bucket: Bucket,
        clock: Clock,
        runs: Runs,
        lines: Lines,
        entrance: Entrance,
        acting: Acting | None,
    ) -> None:
        """`acting` makes passes while a log is followed; None to make no passes."""
        self._store = store
        self._bucket = bucket
        self._clock = clock
        self._runs = runs
        self._lines = lines
        self._entrance = entrance
        self._acting = acting

    def read(self, run: str, query: LogQuery) -> Iterator[LogPiece | LogGap]:
        return self._read(self._runs.record(run), query)

    def _read(self, run: Run, query: LogQuery) -> Iterator[LogPiece | LogGap]:
        cursor = self._start(run, query)
        while True:
            nodes = self._nodes(run, query)
            for node in nodes:
                yield from self._new(node, query.streams, cursor)
            # A mailbox may be archived and emptied while it is read: then read the rest from the archive.
            if [node.archived_at for node in nodes] == [node.archived_at for node in self._nodes(run, query)]:
                break
        yield from self._gaps(run, query)

    def follow(
        self, run: str, query: LogQuery, looked: Callable[[Sequence[str]], None] = ignore, *, direct: bool = False
    ) -> Iterator[LogPiece | LogGap]:
        return self._follow_and_act(self._runs.record(run), query, looked, direct)

    def _follow_and_act(
        self, run: Run, query: LogQuery, looked: Callable[[Sequence[str]], None], direct: bool
    ) -> Iterator[LogPiece | LogGap]:
        line = Direct(self._entrance, self._clock) if direct else None

        def pause(seconds: float) -> None:
            looked([*(self._acting.meanwhile() if self._acting else ()), *(line.told if line else ())])
            self._clock.wait(seconds)

        try:
            yield from self._follow(run, query, pause, line)
        finally:
            if line:
                line.close()
            if self._acting:
                self._acting.release()

    def _follow(
        self, run: Run, query: LogQuery, pause: Callable[[float], None], direct: Direct | None
    ) -> Iterator[LogPiece | LogGap]:
        """Yield all pieces, also new ones, until the run has ended and its log is archived; then yield the gaps.

        While the bucket cannot be read, the pieces are late. With `direct`, the machine may send pieces over SSH before
        the bucket has them.
        """
        cursor, look_at, known = None, 0.0, 0
        while True:
            run = self._runs.record(run.id)
            nodes = self._nodes(run, query)
            over = run.ended_at is not None and all(node.archived_at is not None for node in nodes)
            if not over:
                self._runs.amend(run.id, self._followed)
            now = self._clock.now()
            try:
                cursor = self._start(run, query) if cursor is None else cursor
                if over or now >= look_at or len(nodes) != known:
                    for node in nodes:
                        yield from self._new(node, query.streams, cursor)
                    look_at, known = now + LOOK_BESIDE, len(nodes)
                if over:
                    yield from self._gaps(run, query)
                    return
                bytes_at = {stream: self._at(cursor, nodes, stream) for stream in query.streams}
                # One connection reads the log of one machine.
                if direct and (run.scale == 1 or query.rank is not None) and direct.on(run, nodes, bytes_at):
                    pause(0.0)
                    yield from self._heard(direct, nodes[-1], cursor)
                    continue
            except Retryable:
                # The bucket cannot be read now; the next look continues from the same byte.
                if direct:
                    direct.close()
            look_at = 0.0
            pause(LOOK_EVERY)

    def page(
        self, run: str, query: LogQuery, cursor: str = "", limit: int = 1 << 20, *, following: bool = False
    ) -> LogPage:
        """Return at most `limit` bytes after `cursor`; if `cursor` is "", the page begins where the query says.

        A page that reaches the log's end also has the gaps; with `following`, only the run's last page has them.
        `following` also makes the machine ship its log every second for FOLLOWED seconds. Raises Invalid for a wrong
        cursor.
        """
        found = self._runs.record(run)
        nodes = self._nodes(found, query)
        over = found.ended_at is not None and all(node.archived_at is not None for node in nodes)
        if following and not over:
            self._runs.amend(found.id, self._followed)
        place = cursors.read(cursor, _ranks(found, query)) if cursor else self._start(found, query)
        pieces: list[tuple[LogPiece | LogGap, str]] = []
        full = False
        for piece, last in self._bounded(nodes, query.streams, place, limit):
            pieces.append((piece, place.write()))
            full = last
        over = over and not full
        if over or not (full or following):
            pieces += [(gap, place.write()) for gap in self._gaps(found, query)]
        return LogPage(self._runs.view(found), tuple(pieces), place.write(), over)

    def lines(self, run: str, place: Place, query: LineQuery) -> LinePage:
        found, node = self._at_place(run, place)
        if query.following and (found.ended_at is None if node is None else node.archived_at is None):
            self._runs.amend(found.id, self._followed)
        if node is None:
            over = found.ended_at is not None
            return LinePage(0, place.rank, place.stream, 1, (), (), 0, open=False, over=over, size=0, read=0)
        return self._lines.page(node, place.stream, query, lambda: self._again(node))

    def search(self, run: str, place: Place, search: Search) -> Hits:
        _, node = self._at_place(run, place)
        if node is None:
            return Hits(0, place.rank, place.stream, (), None, 0, 0)
        return self._lines.search(node, place.stream, search, lambda: self._again(node))

    def _at_place(self, run: str, place: Place) -> tuple[Run, Node | None]:
        """Return the run and the node whose stream is read, or None before the run's first attempt."""
        found = self._runs.record(run)
        nodes = self._nodes(found, LogQuery((place.stream,), place.attempt, rank=place.rank))
        if not nodes and place.attempt is not None:
            raise NotFound(f"run {found.id[:12]} has no attempt {place.attempt} with a rank {place.rank}")
        return found, max(nodes, key=lambda node: node.attempt, default=None)

    def _again(self, node: Node) -> Node:
        return next(each for each in self._store.nodes(node.run) if each.id == node.id)

    def progress(self, run: str) -> Progress | None:
        """Return the progress of the run's list with its speed; None if the run has one command."""
        return self._runs.progress(self._runs.record(run))

    def _bounded(
        self, nodes: Sequence[Node], streams: Sequence[str], cursor: Cursor, limit: int
    ) -> Iterator[tuple[LogPiece, bool]]:
        """Yield the new pieces, each with whether it fills the page.

        A page is full at `limit` bytes, where the last piece is cut, or after LOOK_READS pieces.
        """
        reads = 0

        def room() -> int:
            # One byte beyond the limit shows whether a UTF-8 character ends at the limit.
            return limit + 1

        for node in nodes:
            for stream in streams:
                before = cursor.at(node.attempt, stream, node.rank)
                for piece in self._new(node, [stream], cursor, room):
                    reads += 1
                    if len(piece.data) >= limit:
                        piece = replace(piece, data=piece.data[: _whole(piece.data, limit)])
                        # The next listing must include this chunk again.
                        cut = At(before.chunk, piece.offset + len(piece.data))
                        cursor.move(node.attempt, stream, cut, node.rank)
                        yield piece, True
                        return
                    if reads == LOOK_READS:
                        yield piece, True
                        return
                    yield piece, False
                    before, limit = cursor.at(node.attempt, stream, node.rank), limit - len(piece.data)

    @staticmethod
    def _at(cursor: Cursor, nodes: Sequence[Node], stream: str) -> int:
        return cursor.at(nodes[-1].attempt, stream, nodes[-1].rank).byte if nodes else 0

    def _heard(self, direct: Direct, node: Node, cursor: Cursor) -> Iterator[LogPiece]:
        """Yield the pieces that the machine sends within LOOK_EVERY seconds; read missing bytes from the bucket."""
        for piece in direct.pieces(LOOK_EVERY):
            if piece.offset > cursor.at(node.attempt, piece.stream, node.rank).byte:
                yield from self._new(node, [piece.stream], cursor)
            at = cursor.at(node.attempt, piece.stream, node.rank)
            if piece.offset > at.byte:
                raise Transient(f"{piece.stream}: bytes that the machine has shipped are not in the bucket yet")
            if data := piece.data[at.byte - piece.offset :]:
                cursor.move(node.attempt, piece.stream, At(at.chunk, at.byte + len(data)), node.rank)
                yield replace(piece, offset=at.byte, data=data)

    def _start(self, run: Run, query: LogQuery) -> Cursor:
        """Return the cursor at which the query begins: the first byte, or with `tail` near the latest attempt's end."""
        nodes, cursor = self._nodes(run, query), Cursor(_ranks(run, query))
        if query.tail is None or not nodes:
            return cursor
        for stream in query.streams:
            for node in nodes:
                if node.attempt < nodes[-1].attempt:
                    cursor.end(node.attempt, stream, node.rank)
                else:
                    cursor.move(node.attempt, stream, self._before_end(node, stream, query.tail), node.rank)
        return cursor

    def _before_end(self, node: Node, stream: str, lines: int) -> At:
        """Return the position at which the last `lines` lines begin.

        At most TAIL_LINE bytes are read for each line, though for few lines up to TAIL_BLOCK, in at most LOOK_READS +
        `lines` blocks.
        """
        bucket, reads, ended = self._bucket, LOOK_READS + lines, False
        room = min(max(lines * TAIL_LINE, TAIL_BLOCK), TAIL_MOST)
        for chunk, name, size in reversed(list(chunks(bucket, node, stream))):
            if lines == 0 and not ended:
                return At(chunk, chunk + size)
            while size > 0:
                if not room or not reads:
                    return At(chunk, chunk + size)
                block = min(size, room, 4 * TAIL_BLOCK if ended else TAIL_BLOCK)
                data = bucket.get(name, start=size - block, length=block) or b""
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
        until = self._clock.now() + FOLLOWED
        return run if run.followed_until > until - FOLLOWED / 2 else replace(run, followed_until=until)

    def _nodes(self, run: Run, query: LogQuery) -> list[Node]:
        """Return the nodes whose logs are read, in order. Raises NotFound, and Invalid if a rank must be named."""
        # Machines that join a list while it runs get further ranks.
        if query.rank is not None and query.rank >= run.scale and not run.commands:
            raise NotFound(f"run {run.id[:12]} has no rank {query.rank}: its ranks are 0 to {run.scale - 1}")
        if query.rank is None and run.scale > MERGED_MOST:
            raise Invalid(f"run {run.id[:12]} has {run.scale} ranks, too many for one log: name one (--rank, `rank`)")
        return [
            node
            for node in self._store.nodes(run.id)
            if query.attempt in (None, node.attempt) and query.rank in (None, node.rank)
        ]

    def _new(
        self, node: Node, streams: Sequence[str], cursor: Cursor, room: Callable[[], int] = lambda: CHUNK_MOST
    ) -> Iterator[LogPiece]:
        """Yield the pieces after the cursor, and move the cursor. No read returns more bytes than `room()`."""
        for stream in streams:
            if cursor.ended(node.attempt, stream, node.rank):
                continue
            at = cursor.at(node.attempt, stream, node.rank)
            # A listing begins after the given key.
            after = key(node, stream, at.chunk - 1) if at.chunk else ""
            for offset, chunk, size in chunks(self._bucket, node, stream, after):
                if offset + size <= at.byte:
                    at = At(offset + size, at.byte)
                    cursor.move(node.attempt, stream, at, node.rank)
                    continue
                skip, most = max(0, at.byte - offset), room()
                data = self._bucket.get(chunk, start=skip, length=most)
                if data is None:
                    # The mailbox was emptied after its log was archived: the next look finds the chunk in the archive.
                    return
                end = offset + skip + len(data)
                # If the chunk has more bytes, the next listing must include it again.
                at = At(end if len(data) < most else offset, max(end, at.byte))
                cursor.move(node.attempt, stream, at, node.rank)
                if data:
                    yield LogPiece(node.attempt, stream, offset + skip, data, node.rank)
            if node.archived_at is not None:
                # Do not list an archived log again: at the hundredth attempt, 99 listings would find nothing new.
                cursor.end(node.attempt, stream, node.rank)

    def _gaps(self, run: Run, query: LogQuery) -> Iterator[LogGap]:
        for node in self._nodes(run, query):
            if node.archived_at is None:
                continue
            data = self._bucket.get(manifest_key(node.run, node.attempt, node.rank))
            kept = decode(Manifest, data).streams if data else {}
            for stream in query.streams:
                if stream in kept and kept[stream].missing_from is not None:
                    missing = kept[stream].missing_from or 0
                    yield LogGap(node.attempt, stream, missing, kept[stream].missing_at_least, node.rank)


def _ranks(run: Run, query: LogQuery) -> Sequence[int]:
    if query.rank is not None:
        return (query.rank,)
    # While a list runs, machines join its attempt.
    return () if run.commands else range(run.scale)


def _whole(data: bytes, limit: int) -> int:
    """Return the largest number of bytes, at most `limit`, that does not split a UTF-8 character."""
    for at in range(min(limit, len(data)), max(limit - 4, 0), -1):
        if at == len(data) or data[at] & 0xC0 != 0x80:
            return at
    return limit
