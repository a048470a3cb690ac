"""Read the commands of lists: their states, how they ended, the output of each, and the job log.

The store has the state of each command, and the indices that each chunk of records has. A chunk in the archive has exit
codes, times, and the byte ranges of each command's output. So reading lists no prefix of the bucket.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from provisioner.core.commands.blocks import Blocks, Count
from provisioner.core.commands.blocks import CommandState as Stored
from provisioner.core.commands.records import CommandList, RecordChunk
from provisioner.core.errors import Conflict, Invalid, NotFound
from provisioner.core.logs.archive import kept_chunk_key
from provisioner.core.protocol.command_lines import CommandEnd, lines_about, read_ends
from provisioner.core.protocol.keys import chunk_key
from provisioner.core.protocol.words import RECORDS
from provisioner.core.recipe import duration
from provisioner.core.run.lists.receiving import RECORDS_MOST
from provisioner.core.run.lists.repeating import options_of, too_many
from provisioner.core.run.records import Node, Run
from provisioner.core.views.codec import moment
from provisioner.core.views.commands import OPEN, Command, CommandPage, CommandState
from provisioner.core.views.run import Run as View
from provisioner.ports.bucket import Bucket
from provisioner.ports.clock import Clock
from provisioner.ports.control.lists import ALL, CommandFilter
from provisioner.ports.pool import Pool
from provisioner.ports.store import Store
from provisioner.service.control_loop.lists.texts import Texts
from provisioner.service.lists import joblog
from provisioner.service.lists.acting import Acting
from provisioner.service.runs import Runs

#: Maximum number of blocks, and of chunks of records, that a page reads. A page that needs more ends early. One command
#: may need more chunks: they are read in groups.
BLOCKS_MOST, CHUNKS_MOST = 8, 64
#: Number of commands whose chunks one query finds.
NEAR = 1000
#: Maximum number of characters of a command in a page.
TEXT_MOST = 4096
#: Maximum number of bytes of output that are read at once, and of rows of the job log.
PIECE, ROWS = 4 << 20, 100

_STATES = {
    Stored.FRESH: CommandState.WAITING,
    Stored.WAITING: CommandState.WAITING,
    Stored.OUT: CommandState.ASSIGNED,
    Stored.SUCCEEDED: CommandState.SUCCEEDED,
    Stored.FAILED: CommandState.FAILED,
    Stored.LOST: CommandState.LOST,
    Stored.CANCELLED: CommandState.CANCELLED,
    Stored.NOT_RUN: CommandState.NOT_RUN,
}
_FINAL = frozenset(CommandState) - OPEN
#: States that only a record of the command's end gives.
_RECORDED = frozenset({CommandState.SUCCEEDED, CommandState.FAILED, CommandState.CANCELLED})


@dataclass(frozen=True)
class _Place:
    """A command's place in its list."""

    index: int
    state: CommandState
    generation: int
    failures: int
    deaths: int


@dataclass(frozen=True)
class _Ended:
    """The end of a try, and the chunk that has its record."""

    end: CommandEnd
    chunk: RecordChunk


@dataclass(frozen=True)
class _Begun:
    """A try that runs in the last report of a machine."""

    node: Node
    generation: int
    at: float


class Commands:
    """The implementation of provisioner.ports.control.lists.Commands."""

    def __init__(
        self, store: Store, bucket: Bucket, pool: Pool, clock: Clock, texts: Texts, runs: Runs, acting: Acting
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._pool = pool
        self._clock = clock
        self._texts = texts
        self._runs = runs
        self._acting = acting

    def page(self, run: str, which: CommandFilter = ALL) -> CommandPage:
        found, commands = self._list(run)
        begun = _begun(self._store.nodes(found.id))
        picked, last = self._picked(commands, begun, which)
        chunks: dict[str, RecordChunk] = {}
        for at, covering in enumerate(self._chunks(found, picked)):
            chunks |= {chunk.id: chunk for chunk in covering}
            if len(chunks) > CHUNKS_MOST and at:
                picked, last = picked[:at], picked[at - 1].index
                break
        ended = self._tries(list(chunks.values()), picked)
        texts, early = (
            self._texts.texts(found, [place.index for place in picked]),
            too_many(commands, options_of(found)),
        )
        views = tuple(
            _view(place, _of(place, ended), begun.get(place.index), text[:TEXT_MOST], early=early)
            for place, text in zip(picked, texts, strict=True)
        )
        return CommandPage(views, str(last) if last + 1 < commands.total else None)

    def get(self, run: str, index: int) -> Command:
        found, commands = self._list(run)
        place, begun = self._place(found, commands, index)
        ended = self._tries(next(self._chunks(found, [place])), [place])
        [text] = self._texts.texts(found, [index])
        return _view(place, _of(place, ended), begun, text, early=too_many(commands, options_of(found)))

    def output(self, run: str, index: int) -> Iterator[bytes]:
        found, commands = self._list(run)
        place, begun = self._place(found, commands, index)
        tries = self._tries(self._store.record_chunks(found.id, index, index), [place])
        last = _of(place, tries) or max(tries, key=lambda each: each.end.generation, default=None)
        if last is None:
            raise Conflict(self._no_output(found, place, begun))
        return self._bytes(found, index, last)

    def csv(self, run: str) -> Iterator[bytes]:
        found, commands = self._list(run)
        return self._job_log(found, commands)

    def stop(self, run: str, index: int) -> Command:
        found, commands = self._list(run)
        self._place(found, commands, index)
        self._acting.stop(found, index)
        return self.get(found.id, index)

    def rerun(self, run: str, idempotency_key: str = "", *, unfinished: bool = False) -> View:
        found, commands = self._list(run)
        return self._runs.view(self._acting.rerun(found, commands, idempotency_key, unfinished=unfinished))

    def _no_output(self, run: Run, place: _Place, begun: _Begun | None) -> str:
        """Return why there is no output of a command."""
        index = place.index
        if place.state is CommandState.RUNNING and begun:
            node = begun.node
            several = f" --attempt {node.attempt} --rank {node.rank}"
            lasts = duration.text(float(round(max(1.0, self._clock.now() - begun.at - node.clock_ahead))))
            return (
                f"command {index} has been running on rank {node.rank} for {lasts}: its output can be read after it "
                f"has ended; `provision logs {run.id[:12]}{several}` has what that machine's commands wrote so far"
            )
        if place.state in _FINAL:
            return f"command {index} is {place.state}: it has no output"
        return f"command {index} is {place.state}: its output can be read after it has ended"

    def _job_log(self, run: Run, commands: CommandList) -> Iterator[bytes]:
        """Yield the job log, one block of the list after the other."""
        yield joblog.HEADER
        hosts = {(node.attempt, node.rank): node.instance_id for node in self._store.nodes(run.id)}
        size, early = commands.block_size, too_many(commands, options_of(run))
        for first in range(0, commands.total, size):
            indices = range(first, min(first + size, commands.total))
            blocks = Blocks(commands, self._store.blocks(run.id, [first // size]))
            stops = frozenset(commands.stops)
            places = {index: _place(blocks, index, {}, stops) for index in indices}
            if not any(place.state in _FINAL for place in places.values()):
                continue
            wanted = {index for index, place in places.items() if place.state in _RECORDED}
            ended: dict[int, _Ended] = {}
            chunks = self._store.record_chunks(run.id, indices[0], indices[-1]) if wanted else ()
            for at in range(0, len(chunks), CHUNKS_MOST):
                for each in self._ended(chunks[at : at + CHUNKS_MOST], wanted):
                    index = each.end.index
                    if newest := _of(places[index], [each, *([ended[index]] if index in ended else [])]):
                        ended[index] = newest
            over = [index for index in indices if places[index].state in _FINAL]
            rows = (
                joblog.row(
                    index,
                    _host(ended.get(index), hosts),
                    _end_of(ended.get(index)),
                    text,
                    places[index].generation,
                    _why(places[index], ended.get(index), early=early),
                )
                for index, text in zip(over, self._texts.texts(run, over), strict=True)
            )
            # The rows of a block may be larger than the memory.
            while several := b"".join(islice(rows, ROWS)):
                yield several

    def _list(self, run: str) -> tuple[Run, CommandList]:
        found = self._runs.record(run)
        commands = self._store.command_list(found.id)
        if commands is None:
            raise Invalid(f"run {found.id[:12]} has one command; only runs of a list have numbered commands")
        return found, commands

    def _place(self, run: Run, commands: CommandList, index: int) -> tuple[_Place, _Begun | None]:
        if not 0 <= index < commands.total:
            raise NotFound(f"run {run.id[:12]} has no command {index}: its commands are 0 to {commands.total - 1}")
        begun = _begun(self._store.nodes(run.id))
        blocks = Blocks(commands, self._store.blocks(run.id, [index // commands.block_size]))
        return _place(blocks, index, begun, frozenset(commands.stops)), begun.get(index)

    def _picked(
        self, commands: CommandList, begun: Mapping[int, _Begun], which: CommandFilter
    ) -> tuple[list[_Place], int]:
        """Return the places of the commands of a page, and the last index that was looked at."""
        wanted: Sequence[int] = range(which.after + 1, commands.total)
        if which.states == (CommandState.RUNNING,):
            wanted = sorted(index for index in begun if which.after < index < commands.total)
        if not wanted:
            return [], commands.total - 1
        size = commands.block_size
        numbers = range(wanted[0] // size, wanted[0] // size + BLOCKS_MOST)
        blocks, picked = Blocks(commands, self._store.blocks(commands.id, numbers)), list[_Place]()
        stops = frozenset(commands.stops)
        for index in wanted:
            if index // size not in numbers:
                return picked, index - 1
            place = _place(blocks, index, begun, stops)
            if not which.states or place.state in which.states:
                picked.append(place)
                if len(picked) == which.limit:
                    return picked, index
        return picked, commands.total - 1

    def _chunks(self, run: Run, places: Sequence[_Place]) -> Iterator[Sequence[RecordChunk]]:
        """Yield, for each of the commands, the chunks that may have the record of its end.

        The commands are in their order. One query finds the chunks of NEAR commands.
        """
        until = -1
        near: Sequence[RecordChunk] = ()
        for place in places:
            if place.state not in _RECORDED:
                yield ()
                continue
            if place.index > until:
                until = min(place.index + NEAR, places[-1].index)
                near = self._store.record_chunks(run.id, place.index, until)
            yield [chunk for chunk in near if chunk.first <= place.index <= chunk.last]

    def _tries(self, chunks: Sequence[RecordChunk], places: Collection[_Place]) -> list[_Ended]:
        """Return the records that gave these commands their states, and perhaps others. Reads the last chunks first."""
        wanted, found = {place.index for place in places}, list[_Ended]()
        for end in range(len(chunks), 0, -CHUNKS_MOST):
            found += self._ended(chunks[max(0, end - CHUNKS_MOST) : end], wanted)
            if found and all(_of(place, found) or place.state not in _RECORDED for place in places):
                break
        return found

    def _ended(self, chunks: Iterable[RecordChunk], wanted: Collection[int]) -> list[_Ended]:
        """Return the records of these commands that the chunks have."""

        def read(chunk: RecordChunk) -> list[_Ended]:
            key = kept_chunk_key(chunk.run, chunk.attempt, chunk.rank, RECORDS, chunk.offset)
            data = chunk.rest.encode("latin-1") + (self._bucket.get(key, length=RECORDS_MOST) or b"")
            # The end of the last line may be in the next chunk, which then has its beginning in `rest`.
            lines = read_ends(lines_about(data[: data.rfind(b"\n") + 1], wanted))
            return [_Ended(each, chunk) for each in lines if isinstance(each, CommandEnd) and each.index in wanted]

        found = list[_Ended]()
        for each in self._pool.map(read, list(chunks)):
            if isinstance(each, Exception):
                raise each
            found += each
        return found

    def _bytes(self, run: Run, index: int, ended: _Ended) -> Iterator[bytes]:
        for chunk, skip, length in ended.end.extents:
            while length > 0:
                data = self._read(ended.chunk, chunk, skip, min(length, PIECE))
                if not data:
                    raise NotFound(f"run {run.id[:12]}: {length} bytes of the output of command {index} are missing")
                yield data
                skip, length = skip + len(data), length - len(data)

    def _read(self, ended: RecordChunk, chunk: int, skip: int, length: int) -> bytes:
        """Return bytes of a chunk of the stream `output`, of the node that wrote the record; empty if they are missing.

        The log may be archived meanwhile: then the second look finds it in the archive.
        """
        for _ in range(2):
            for node in self._store.nodes(ended.run):
                if (node.attempt, node.rank) == (ended.attempt, ended.rank):
                    key = chunk_key(node.box, "output", chunk, node.later)
                    if node.archived_at is not None:
                        key = kept_chunk_key(node.run, node.attempt, node.rank, "output", chunk)
                    if data := self._bucket.get(key, start=skip, length=length):
                        return data
        return b""


def _begun(nodes: Iterable[Node]) -> dict[int, _Begun]:
    """Return the tries that ran in the last reports of machines that still work, by index."""
    return {
        each.index: _Begun(node, each.generation, each.began)
        for node in nodes
        if not node.verdict and node.report and node.report.commands
        for each in node.report.commands.running
    }


def _place(blocks: Blocks, index: int, begun: Mapping[int, _Begun], stops: Collection[int]) -> _Place:
    state, generation = _STATES[blocks.state(index)], blocks.generation(index)
    if state is CommandState.WAITING and index in stops:
        # It is cancelled in the store when its turn comes.
        state = CommandState.CANCELLED
    if state is CommandState.ASSIGNED and index in begun and begun[index].generation == generation:
        state = CommandState.RUNNING
    counts = (blocks.count(index, name) for name in (Count.FAILURES, Count.DEATHS))
    return _Place(index, state, generation, *counts)


def _of(place: _Place, ended: Iterable[_Ended]) -> _Ended | None:
    """Return the record that gave the command its state, or None.

    If the run ended before a command that had failed could run again, that is the record of an earlier try.
    """
    if place.state not in _RECORDED:
        return None
    mine = (each for each in ended if each.end.index == place.index and each.end.generation <= place.generation)
    newest = max(mine, key=lambda each: each.end.generation, default=None)
    if newest is None or (newest.end.generation < place.generation and place.state is not CommandState.FAILED):
        return None
    return newest


def _end_of(ended: _Ended | None) -> CommandEnd | None:
    """Return the end of a command that has begun; None for one that was stopped before."""
    return ended.end if ended and ended.end.why != "skip" else None


def _why(place: _Place, ended: _Ended | None, *, early: bool) -> str:
    """Return why the command ended or did not run, or ""; `early` is whether `list.max_failures` ended the list."""
    if end := _end_of(ended):
        return end.why
    if ended is not None:
        return "cancel"
    return "max_failures" if early and place.state is CommandState.NOT_RUN else ""


def _host(ended: _Ended | None, hosts: Mapping[tuple[int, int], str]) -> str:
    return hosts.get((ended.chunk.attempt, ended.chunk.rank), "") if ended else ""


def _view(place: _Place, ended: _Ended | None, begun: _Begun | None, text: str, *, early: bool) -> Command:
    end = _end_of(ended)
    running = begun if place.state is CommandState.RUNNING else None
    by = ended.chunk if ended else running.node if running else None
    return Command(
        index=place.index,
        state=place.state,
        generation=place.generation,
        exit_code=end.code if end else None,
        why=_why(place, ended, early=early) or None,
        began_at=moment(end.began if end else running.at if running else None),
        seconds=end.took if end else None,
        attempt=by.attempt if by else None,
        rank=by.rank if by else None,
        output_bytes=sum(length for _, _, length in end.extents) if end else None,
        text=text,
        failures=place.failures,
        deaths=place.deaths,
    )
