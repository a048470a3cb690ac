"""Hostile machines: the objects they write harm only their own run, and cost each pass a bounded amount of work."""

import hashlib
from collections.abc import Callable, Iterator

import pytest

from provisioner.core.errors import Transient
from provisioner.core.logs import archive
from provisioner.core.protocol.codec import decode, encode
from provisioner.core.protocol.keys import chunk_key, log_prefix, report_key, result_key
from provisioner.core.protocol.messages import Chunk, Report, Result, Span, StreamEnd
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.machine_messages import CHUNK_MOST, CLOCK_SKEW, REPORT_MOST, RESULT_HEAD
from provisioner.core.run.records import Node, Run
from provisioner.core.run.states import State
from provisioner.ports.bucket import Entry
from provisioner.ports.control.logs import LogQuery
from provisioner.rehearsal.fakes.bucket import MemoryBucket
from provisioner.service.control import Service
from provisioner.service.control_loop import inbox
from provisioner.service.control_loop.archive import COPIES, EMPTYING
from provisioner.service.control_loop.loop import Intervals
from provisioner.service.control_loop.one_pass import PassResult
from provisioner.service.logs import LOOK_READS, TAIL_BLOCK, TAIL_LINE, TAIL_MOST
from tests.service.agents import Script
from tests.service.world import TESTER, World, parts

FAR = (-9e15, 9e15)


class Counted(MemoryBucket):
    """A bucket that counts its calls; each copy calls `took` with 10 ms, which may advance the world's clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__(now)
        self.read = self.gets = self.listed = self.copies = 0
        self.took: Callable[[float], None] = lambda _: None

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes | None:
        found = super().get(key, start=start, length=length)
        self.gets += 1
        self.read += len(found or b"")
        return found

    def list(self, prefix: str, *, after: str = "") -> Iterator[Entry]:
        for entry in super().list(prefix, after=after):
            self.listed += 1
            yield entry

    def copy(self, source: str, target: str) -> None:
        self.copies += 1
        super().copy(source, target)
        self.took(0.01)


class Attacked:
    """A world with two runs whose commands run for an hour; the first one's machine is hostile."""

    def __init__(self) -> None:
        self.world = World(scripts=lambda _: Script(command=3600.0))
        self.bucket = self.world.bucket = Counted(self.world.clock.now)
        self.runs = [self.world.start(name) for name in ("hostile", "quiet")]
        self.service = self.process()
        self.until(lambda: all(self.run(each).state is State.RUNNING for each in self.runs))

    def process(self) -> Service:
        """Start a control plane whose bucket lists lazily, as S3 does; the world's own fetches whole listings."""
        world = self.world
        installation = world.installed(world.store, world.cloud, self.bucket)
        shared = parts(installation, "a process", Intervals())
        self.loop, service = shared.loop, Service(shared, TESTER)
        self.logs = service.logs
        return service

    def until(self, holds: Callable[[], bool], passes: int = 100) -> None:
        for _ in range(passes):
            if holds():
                return
            self.turn()
        raise AssertionError(f"not within {passes} passes: {self.world.told[-3:]}")

    def turn(self) -> None:
        self.world.told.extend(self.service.operator.step())
        self.world.advance(10.0)

    def drive(self, until: Callable[[], bool]) -> None:
        """Run passes with pauses between them, as a daemon does."""
        self.service.operator.drive(until, self.world.told.extend)

    def run(self, run: Run) -> Run:
        found = self.world.store.run(run.id)
        assert found
        return found

    def node(self, run: Run) -> Node:
        return self.world.store.nodes(run.id)[-1]

    def put(self, name: str, data: bytes) -> None:
        self.bucket.put(f"inbox/{self.node(self.runs[0]).box}/{name}", data)

    def report(self, sequence: int, at: float | None = None) -> None:
        """Put a report of the hostile machine, whose agent numbers its own reports from 1."""
        at = self.world.now() if at is None else at
        told = Report(sequence, at, "p", Step.COMMAND, {"command": Span(at)})
        self.bucket.put(report_key(self.node(self.runs[0]).box, sequence), encode(told))

    def left(self, run: Run) -> list[str]:
        return [key for key in self.bucket.objects if key.startswith(f"inbox/{self.node(run).box}/")]

    def events(self) -> list[str]:
        return [event.text for event in self.world.store.events(self.runs[0].id)]

    def end(self, *, chunks: int = 0, size: int = 5, told: StreamEnd | None = None, reason: str = "") -> Node:
        """Put this many chunks, a result and a last report of the hostile machine; return its node."""
        node, now = self.node(self.runs[0]), self.world.now()
        for number in range(chunks):
            self.bucket.put(chunk_key(node.box, "output", number * size), b"x" * size)
        ends = {"output": told or StreamEnd(chunks * size, "")}
        result = Result(node.run, node.attempt, 0, "p", Outcome.SUCCEEDED, Step.COMMAND, 0, reason, now, streams=ends)
        self.bucket.put(result_key(node.box), encode(result))
        self.bucket.put(report_key(node.box, 9999), encode(Report(9999, now, "p", Step.LOGS, finished=True)))
        return node


@pytest.fixture
def attacked() -> Attacked:
    return Attacked()


BAD = {
    "too large": (f"{500:010d}", b"{}" + b" " * REPORT_MOST),
    "no JSON": (f"{500:010d}", b"\xff\x00"),
    "deep": (f"{500:010d}", b"[" * 50_000),
    "another number": (f"{500:010d}", encode(Report(499, 0.0, "p", Step.BOOT))),
    "another name": ("x" * 300, b"{}"),
    "a folder": ("a/b/c", b"{}"),
}


@pytest.mark.parametrize("kind", BAD)
def test_an_object_that_is_no_report_is_counted_and_told_once(attacked: Attacked, kind: str) -> None:
    """Each pass deletes the object, however often it is put again, and the machine's next report is read."""
    known = len(attacked.events())
    for _ in range(5):
        attacked.put(*BAD[kind])
        attacked.turn()
    node = attacked.node(attacked.runs[0])
    assert 4 <= node.unreadable <= 5
    assert len(attacked.events()) == known + 1
    attacked.report(600)
    attacked.turn()
    heard = attacked.node(attacked.runs[0])
    assert heard.report
    assert (heard.report.sequence, heard.unreadable) == (600, 5)
    assert not [key for key in attacked.left(attacked.runs[0]) if BAD[kind][0] in key]


def test_a_large_object_is_not_read(attacked: Attacked) -> None:
    """The listing has the object's size."""
    attacked.turn()
    before = attacked.bucket.read
    attacked.put(f"{500:010d}", b"x" * 50_000_000)
    attacked.turn()
    assert attacked.bucket.read - before < REPORT_MOST


def test_a_bad_report_does_not_hide_the_one_before_it(attacked: Attacked) -> None:
    """The newest report that can be decoded counts."""
    attacked.report(500)
    attacked.put(f"{501:010d}", b"{")
    attacked.turn()
    node = attacked.node(attacked.runs[0])
    assert node.report
    assert node.report.sequence == 500


def test_a_flood_of_reports_costs_each_pass_the_same(attacked: Attacked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pass lists a bounded number of reports and reads few of them.

    The other machine's report is read in the same pass, and in the end the flood is deleted.
    """
    monkeypatch.setattr(inbox, "EACH_MOST", 50)
    for sequence in range(1000, 1500):
        attacked.report(sequence)
    quiet = attacked.node(attacked.runs[1])
    assert quiet.report
    attacked.world.advance(20.0)
    listed, gets = attacked.bucket.listed, attacked.bucket.gets
    attacked.turn()
    assert attacked.bucket.listed - listed < 100
    assert attacked.bucket.gets - gets < 20
    heard = attacked.node(attacked.runs[1])
    assert heard.report
    assert heard.report.sequence > quiet.report.sequence
    attacked.until(lambda: len(attacked.left(attacked.runs[0])) < 10)
    last = attacked.node(attacked.runs[0])
    assert last.report
    assert last.report.sequence == 1499


def test_inboxes_that_are_left_out_are_first_in_the_next_pass(
    attacked: Attacked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until an inbox has been listed, nothing is presumed from the silence of its machine."""
    monkeypatch.setattr(inbox, "MOST", 1)
    heard = []
    for _ in range(4):
        attacked.world.advance(30.0)
        before = {run.id: attacked.node(run).reported_at for run in attacked.runs}
        attacked.turn()
        heard.append({run.job_name for run in attacked.runs if attacked.node(run).reported_at != before[run.id]})
    assert heard in ([{"hostile"}, {"quiet"}] * 2, [{"quiet"}, {"hostile"}] * 2)


@pytest.mark.parametrize("at", FAR)
def test_far_times_are_clamped_when_they_are_read(attacked: Attacked, at: float) -> None:
    """The times of a report, of a result and of its verdict are clamped."""
    attacked.report(500, at)
    attacked.turn()
    node, now = attacked.node(attacked.runs[0]), attacked.world.now()
    assert node.report
    earliest, latest = node.bound_at - CLOCK_SKEW, now + CLOCK_SKEW
    assert earliest <= node.report.at <= latest
    assert earliest <= node.report.spans["command"].began <= latest
    told = Result(node.run, 1, 0, "p", Outcome.FAILED, Step.COMMAND, 1, "", at, {"command": Span(at, at)})
    attacked.bucket.put(result_key(node.box), encode(told))
    last = Report(501, now, "p", Step.LOGS, finished=True)
    attacked.bucket.put(report_key(node.box, 501), encode(last))
    attacked.until(lambda: attacked.run(attacked.runs[0]).ended_at is not None)
    over = attacked.run(attacked.runs[0])
    assert over.verdict
    assert over.verdict.exit_code == 1
    assert earliest <= over.verdict.at <= attacked.world.now() + CLOCK_SKEW


def test_a_result_with_more_than_its_head_gives_its_exit_code_and_end_marks(attacked: Attacked) -> None:
    """The result has an entry for every chunk of the log, and the store keeps none of these entries."""
    sums = tuple(Chunk(5 * number, 5, hashlib.sha256(b"x" * 5).hexdigest()) for number in range(1000))
    node = attacked.end(chunks=1000, told=StreamEnd(5000, "a" * 64, sums))
    assert len(attacked.bucket.objects[result_key(node.box)][0]) > RESULT_HEAD
    attacked.until(lambda: attacked.run(attacked.runs[0]).done_at is not None)
    kept = attacked.node(attacked.runs[0])
    assert kept.result
    assert (kept.result.exit_code, kept.result.streams) == (0, {"output": StreamEnd(5000, "a" * 64)})
    manifest = decode(archive.Manifest, attacked.bucket.objects[archive.manifest_key(node.run, 1, 0)][0])
    assert manifest.streams["output"].missing_from is None
    # The archive has the result as the machine wrote it, with every chunk's checksum.
    found = decode(Result, attacked.bucket.objects[archive.kept_result_key(node.run, 1, 0)][0])
    assert found.streams["output"].chunks == sums


def test_a_result_of_any_size_is_read_in_bounds(attacked: Attacked) -> None:
    """The head of the result says how the attempt ended."""
    node = attacked.end()
    data, modified = attacked.bucket.objects[result_key(node.box)]
    attacked.bucket.objects[result_key(node.box)] = (data + b" " * 50_000_000, modified)
    before = attacked.bucket.read
    attacked.until(lambda: attacked.run(attacked.runs[0]).done_at is not None)
    assert attacked.bucket.read - before < 1_000_000
    over = attacked.run(attacked.runs[0])
    assert over.verdict
    assert (over.verdict.outcome, over.verdict.exit_code) == (Outcome.SUCCEEDED, 0)


def _kept_whole(attacked: Attacked, node: Node) -> None:
    manifest = decode(archive.Manifest, attacked.bucket.objects[archive.manifest_key(node.run, 1, 0)][0])
    assert (manifest.streams["output"].length, manifest.streams["output"].missing_from) == (15_000, None)


def _done(attacked: Attacked) -> bool:
    return attacked.run(attacked.runs[0]).done_at is not None


def test_a_pass_copies_a_small_part_of_a_long_log(attacked: Attacked) -> None:
    node = attacked.end(chunks=3000)
    copies = []
    while not _done(attacked):
        before = attacked.bucket.copies
        attacked.loop.once()
        copies.append(attacked.bucket.copies - before)
        attacked.world.advance(1.0)
        assert len(copies) < 450, "the log is never archived"
    # The last two steps of a log are made in one pass, and then the result is copied.
    assert max(copies) <= 2 * COPIES + 1
    _kept_whole(attacked, node)
    assert not [key for key in attacked.bucket.objects if node.box in key]


def test_a_pass_copies_a_part_of_one_long_log(attacked: Attacked) -> None:
    """A pass copies no more of two long logs than of one, so many long logs do not make it longer."""
    _end_both(attacked)
    for _ in range(5):
        before = attacked.bucket.copies
        attacked.loop.once()
        assert attacked.bucket.copies - before < 2 * COPIES


def test_a_long_log_is_copied_between_passes(attacked: Attacked) -> None:
    """Copying gets half of the time, so 3,000 copies of 10 ms each take 60 s: about 60 passes instead of 375."""
    node, passes = attacked.end(chunks=3000), list[object]()
    attacked.bucket.took, began = attacked.world.clock.step, attacked.world.now()
    attacked.loop.run(lambda: _done(attacked), passes.append)
    assert 55.0 < attacked.world.now() - began < 75.0
    assert len(passes) < 75
    _kept_whole(attacked, node)


def test_a_run_started_while_a_long_log_is_copied_is_launched_after_one_step(attacked: Attacked) -> None:
    attacked.end(chunks=3000)
    started = list[tuple[Run, int]]()

    def took(seconds: float) -> None:
        attacked.world.clock.step(seconds)
        if attacked.bucket.copies == 1000:
            started.append((attacked.world.start("late"), 1000))

    attacked.bucket.took = took
    attacked.drive(lambda: bool(started) and attacked.run(started[0][0]).state is not State.QUEUED)
    assert attacked.bucket.copies - 1000 <= 2 * COPIES


@pytest.mark.parametrize(("runs", "launched"), [(1, True), (2, False)], ids=["one", "a burst"])
def test_one_run_stored_during_a_pass_is_launched_by_it(attacked: Attacked, runs: int, launched: bool) -> None:
    """One run waits only for the current step of the pass. Several runs wait, and are launched together."""
    attacked.end(chunks=10)
    late = list[Run]()

    def took(_: float) -> None:
        if not late:
            late.extend(attacked.world.start(f"late{number}") for number in range(runs))

    attacked.bucket.took = took
    while not late:
        attacked.loop.once()
        attacked.world.advance(1.0)
    assert {attacked.run(each).state is not State.QUEUED for each in late} == {launched}


def test_a_process_that_makes_one_pass_copies_a_long_log(attacked: Attacked) -> None:
    """Without a daemon, each command makes one pass and ends."""
    node = attacked.end(chunks=3000)
    attacked.service = attacked.process()
    attacked.turn()
    attacked.service = attacked.process()
    attacked.turn()
    assert attacked.node(attacked.runs[0]).archived_at is not None
    _kept_whole(attacked, node)


def test_a_process_that_makes_one_pass_copies_for_a_limited_time(attacked: Attacked) -> None:
    """The next process continues where the last one stopped, so a log of any length is archived in the end."""
    node, most = attacked.end(chunks=3000), Intervals().copying
    attacked.bucket.took = attacked.world.clock.step
    copies = []
    while not _done(attacked):
        before = attacked.bucket.copies
        attacked.service = attacked.process()
        attacked.turn()
        copies.append(attacked.bucket.copies - before)
        assert len(copies) < 20, "the log is never archived"
    assert max(copies) < most / 0.01 + 3 * COPIES
    assert sum(copies) < 3010
    _kept_whole(attacked, node)


def test_a_copy_that_is_killed_half_way_is_continued(attacked: Attacked) -> None:
    """A new process copies only what the archive does not have."""
    node = attacked.end(chunks=3000)
    attacked.drive(lambda: attacked.bucket.copies > 500)
    assert attacked.node(attacked.runs[0]).archived_at is None
    attacked.service = attacked.process()
    attacked.drive(lambda: _done(attacked))
    assert attacked.bucket.copies < 3010
    _kept_whole(attacked, node)


def test_a_chunk_that_was_copied_in_part_is_copied_again(attacked: Attacked) -> None:
    """An archived chunk of another size is not the machine's chunk."""
    node = attacked.end(chunks=3000)
    key = archive.kept_chunk_key(node.run, 1, 0, "output", 5000)
    attacked.bucket.put(key, b"xx")
    attacked.drive(lambda: _done(attacked))
    assert attacked.bucket.objects[key][0] == b"xxxxx"


def _end_both(attacked: Attacked) -> None:
    """Put 3,000 chunks and a result for each of the two runs."""
    for run in attacked.runs:
        node, now = attacked.node(run), attacked.world.now()
        for number in range(3000):
            attacked.bucket.put(chunk_key(node.box, "output", number * 5), b"xxxxx")
        told = Result(node.run, 1, 0, "p", Outcome.SUCCEEDED, Step.COMMAND, 0, "", now, streams={})
        attacked.bucket.put(result_key(node.box), encode(told))
        attacked.bucket.put(report_key(node.box, 9999), encode(Report(9999, now, "p", Step.LOGS, finished=True)))


def test_a_copy_that_fails_is_repeated_in_the_next_pass_which_reports_the_error(attacked: Attacked) -> None:
    """The copy is not repeated every 25 ms between the passes: each try makes 16 calls to an S3 that is away."""

    def failing(_: float) -> None:
        raise Transient("S3 is away")

    attacked.end(chunks=3000)
    attacked.bucket.took = failing
    pulses = list[PassResult]()
    attacked.loop.run(lambda: len(pulses) == 20, pulses.append)
    assert attacked.bucket.copies <= 5 * len(pulses)
    assert any("S3 is away" in str(trouble.error) for trouble in pulses[-1].errors)


def test_two_long_logs_are_copied_by_turns(attacked: Attacked) -> None:
    """The copying of the second log does not wait for the end of the first."""
    _end_both(attacked)
    attacked.drive(lambda: attacked.bucket.copies > 2000)
    kept = [sum(key.startswith(f"runs/{run.id}/1/0/log/") for key in attacked.bucket.objects) for run in attacked.runs]
    assert min(kept) > 0.8 * max(kept)


def test_what_is_beyond_the_most_chunks_is_called_missing(attacked: Attacked, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are missing from the first one that is not archived."""
    monkeypatch.setattr("provisioner.service.control_loop.archive.CHUNKS_MOST", 1000)
    node = attacked.end(chunks=2500)
    attacked.until(lambda: attacked.run(attacked.runs[0]).done_at is not None)
    manifest = decode(archive.Manifest, attacked.bucket.objects[archive.manifest_key(node.run, 1, 0)][0])
    assert (manifest.streams["output"].missing_from, manifest.streams["output"].missing_at_least) == (5000, 7500)
    assert attacked.bucket.copies < 1010


def test_a_chunk_that_no_agent_makes_is_called_missing(attacked: Attacked) -> None:
    """The chunk is larger than an agent's largest chunk."""
    node = attacked.end(told=StreamEnd(CHUNK_MOST + 1, ""))
    attacked.bucket.put(chunk_key(node.box, "output", 0), b"x" * (CHUNK_MOST + 1))
    attacked.until(lambda: attacked.run(attacked.runs[0]).done_at is not None)
    manifest = decode(archive.Manifest, attacked.bucket.objects[archive.manifest_key(node.run, 1, 0)][0])
    assert (manifest.streams["output"].missing_from, manifest.streams["output"].missing_at_least) == (0, CHUNK_MOST + 1)


def test_a_mailbox_of_many_objects_is_emptied_in_many_passes(
    attacked: Attacked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is done when the mailbox is empty, and the result is among the last objects to be deleted."""
    monkeypatch.setattr("provisioner.service.control_loop.archive.PAGE", 10)
    delete = attacked.bucket.delete

    def slow(keys: list[str]) -> None:
        delete(keys)
        attacked.world.clock.step(EMPTYING)

    monkeypatch.setattr(attacked.bucket, "delete", slow)
    node, seen = attacked.end(chunks=50), set()
    for _ in range(100):
        left = [key for key in attacked.bucket.objects if key.startswith(f"machines/{node.box}/")]
        seen.add(len(left))
        assert not left or result_key(node.box) in left
        if attacked.run(attacked.runs[0]).done_at is not None:
            break
        attacked.turn()
    assert not left
    assert len(seen) > 3


# Reading logs


def test_a_tail_reads_a_bounded_part_of_a_log_without_line_breaks(attacked: Attacked) -> None:
    """The tail begins at the first byte of the part that was read."""
    node, size = attacked.node(attacked.runs[0]), 4 << 20
    for number in range(20):
        attacked.bucket.put(chunk_key(node.box, "output", number * size), b"x" * size)
    run = attacked.run(attacked.runs[0])
    for lines, most in ((1, TAIL_BLOCK), (10, 10 * TAIL_LINE), (10_000, TAIL_MOST)):
        before = attacked.bucket.read
        look = attacked.logs.page(run.id, LogQuery(("output",), tail=lines), limit=1 << 18)
        assert attacked.bucket.read - before <= most + (1 << 18) + 1
        [(piece, _)] = look.pieces
        assert piece.offset == 20 * size - most


@pytest.mark.parametrize("lines", [1, 3, 700])
def test_a_tail_of_small_chunks_has_all_its_lines(attacked: Attacked, lines: int) -> None:
    """A job that prints one line a second makes one chunk of each line."""
    node = attacked.node(attacked.runs[0])
    for number in range(1000):
        attacked.bucket.put(chunk_key(node.box, "output", number * 5), b"%04d\n" % number)
    run, logs, place, found = attacked.run(attacked.runs[0]), attacked.logs, "", b""
    while (look := logs.page(run.id, LogQuery(("output",), tail=lines), place)).cursor != place:
        place = look.cursor
        found += b"".join(getattr(piece, "data", b"") for piece, _ in look.pieces)
    assert found.splitlines() == [b"%04d" % number for number in range(1000 - lines, 1000)]


def test_a_look_reads_a_bounded_number_of_objects_and_bytes(attacked: Attacked) -> None:
    """The bounds hold for any sizes of chunks, and the next look continues where this look ended."""
    node, run = attacked.node(attacked.runs[0]), attacked.run(attacked.runs[0])
    for number in range(1000):
        attacked.bucket.put(chunk_key(node.box, "output", number), b"x")
    attacked.bucket.put(chunk_key(node.box, "output", 1000), "é".encode() * 500_000)
    logs, place, found, looks = attacked.logs, "", b"", 0
    while True:
        gets, read = attacked.bucket.gets, attacked.bucket.read
        look = logs.page(run.id, LogQuery(("output",)), place, 99_999)
        assert attacked.bucket.gets - gets <= LOOK_READS
        assert attacked.bucket.read - read <= 100_000
        if look.cursor == place:
            break
        place, looks = look.cursor, looks + 1
        data = b"".join(getattr(piece, "data", b"") for piece, _ in look.pieces)
        # No character is cut in two.
        data.decode()
        found += data
    assert found == b"x" * 1000 + "é".encode() * 500_000


def test_a_hostile_mailbox_lists_bounded_pages(attacked: Attacked, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader of the machine's log lists a bounded number of objects."""
    monkeypatch.setattr("provisioner.service.logs.CHUNKS_MOST", 100)
    node, run = attacked.node(attacked.runs[0]), attacked.run(attacked.runs[0])
    for number in range(1000):
        attacked.bucket.put(f"{log_prefix(node.box, 'output')}!{number}", b"x")
    before = attacked.bucket.listed
    attacked.logs.page(run.id, LogQuery(("output",), tail=10), limit=1000)
    assert attacked.bucket.listed - before <= 300


def test_what_is_kept_of_a_report_is_small(attacked: Attacked) -> None:
    """A report of nearly any size takes little room in the store and in memory."""
    spans = {f"step {number}": Span(0.0) for number in range(1000)}
    told = Report(500, attacked.world.now(), "p" * 9000, Step.COMMAND, spans)
    attacked.put(f"{500:010d}", encode(told))
    attacked.turn()
    node = attacked.node(attacked.runs[0])
    assert node.report
    assert node.report.sequence == 500
    assert len(encode(node)) < 2000
