"""Hostile machines: the objects they write harm only their own run, and cost each pass a bounded amount of work."""

import hashlib

import pytest

from provisioner.core.logs import archive
from provisioner.core.protocol.codec import decode, encode
from provisioner.core.protocol.keys import chunk_key, log_prefix, report_key, result_key
from provisioner.core.protocol.messages import Chunk, Report, Result, Span, StreamEnd
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.machines.messages import CLOCK_SKEW, REPORT_MOST, RESULT_HEAD
from provisioner.core.run.records import Run
from provisioner.core.run.states import State
from provisioner.ports.control.logs import LogQuery
from provisioner.service.control_loop import inbox
from provisioner.service.control_loop.archive import EMPTYING
from provisioner.service.logs import LOOK_READS, TAIL_BLOCK, TAIL_LINE, TAIL_MOST
from tests.service.attacked import Attacked

FAR = (-9e15, 9e15)


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
    monkeypatch.setattr("provisioner.service.log_lines.chunks.CHUNKS_MOST", 100)
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
