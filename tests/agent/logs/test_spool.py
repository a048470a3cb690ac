"""The spool: written bytes are shipped once and in order, whatever happens in between."""

import hashlib
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.agent.logs import spool as spool_module
from provisioner.agent.logs.shipper import OFTEN, Shipper, pace
from provisioner.agent.logs.spool import Spool, Stream
from provisioner.core.protocol.messages import Chunk
from provisioner.core.run.machines.messages import CHUNKS_MOST
from tests.polling import until


def ship(stream: Stream, bucket: dict[int, bytes], *, lose_answer: bool = False) -> None:
    segment = stream.next()
    if segment is not None:
        data = segment.path.read_bytes()
        # No acknowledged chunk may be overwritten with other data.
        assert bucket.setdefault(segment.offset, data) == data
        if not lose_answer:
            stream.acknowledged(segment, segment.chunk(data), data)


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(["ship", "lost answer", "restart"]))))
def test_chunks_put_together_are_the_stream(tmp_path_factory: object, acts: list[bytes | str]) -> None:
    """Through lost answers and restarts of the agent, no byte is lost, doubled or changed."""
    folder: Path = tmp_path_factory.mktemp("spool")  # type: ignore[attr-defined]
    stream, written, bucket = Spool(folder, 1 << 20).stream("output"), b"", dict[int, bytes]()
    for act in acts:
        if isinstance(act, bytes):
            stream.write(act)
            written += act
        elif act == "restart":
            stream.close()
            stream = Spool(folder, 1 << 20).stream("output")
        else:
            ship(stream, bucket, lose_answer=act == "lost answer")
    while stream.waiting:
        ship(stream, bucket)
    assert b"".join(bucket[offset] for offset in sorted(bucket)) == written
    end = stream.end()
    assert [(chunk.offset, chunk.length) for chunk in end.chunks] == [(o, len(bucket[o])) for o in sorted(bucket)]
    assert end.length == len(written)
    assert end.sha256 in ("", hashlib.sha256(written).hexdigest())


def test_a_full_spool_makes_the_writer_wait(tmp_path: Path) -> None:
    """No byte is dropped: the writer continues when the bucket has taken the waiting bytes."""
    spool = Spool(tmp_path, 100)
    stream, bucket = spool.stream("output"), dict[int, bytes]()
    stream.write(b"a" * 90)
    writer = threading.Thread(target=stream.write, args=(b"b" * 90,))
    writer.start()
    spool.stream("system").write(b"the agent never waits", wait=False)
    assert (stream.produced, writer.is_alive()) == (90, True)
    ship(stream, bucket)
    ship(spool.stream("system"), {})
    writer.join()
    assert stream.produced == 180
    stream.close()


def test_missing_note_of_a_chunk_keeps_later_offsets(tmp_path: Path) -> None:
    """On a full disk a chunk may be acknowledged but not noted: later chunks must keep their offsets."""
    stream, bucket = Spool(tmp_path, 100).stream("output"), dict[int, bytes]()
    for piece in (b"one", b"two"):
        stream.write(piece)
        ship(stream, bucket)
    stream.write(b"three")
    stream.close()
    notes = tmp_path / "output.chunks"
    notes.write_text(notes.read_text().splitlines(keepends=True)[0])
    again = Spool(tmp_path, 100).stream("output")
    assert (again.shipped, again.produced) == (6, 11)
    ship(again, bucket)
    notes.write_text("")
    last = Spool(tmp_path, 100).stream("output")
    last.forward(11)
    last.write(b"four")
    ship(last, bucket)
    assert b"".join(bucket[offset] for offset in sorted(bucket)) == b"onetwothreefour"
    assert last.end().length == 15


def test_the_shipper_ships_what_waits_before_it_finishes(tmp_path: Path) -> None:
    """A stream is shipped while it is written, and is complete at the end."""
    spool, bucket = Spool(tmp_path, 1 << 20), dict[tuple[str, int], bytes]()
    shipper = Shipper(spool, lambda name, chunk, data: bucket.__setitem__((name, chunk.offset), data), lambda: False)
    shipper.start()
    spool.stream("output").write(b"early")
    until(lambda: ("output", 0) in bucket, "the first chunk")
    spool.stream("output").write(b"late")
    spool.stream("setup").write(b"other")
    shipper.finish()
    assert bucket == {("output", 0): b"early", ("output", 5): b"late", ("setup", 0): b"other"}


def test_every_waiting_segment_is_shipped_before_the_shipper_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an outage of the bucket many sealed segments wait, and each is part of the log."""
    monkeypatch.setattr(spool_module, "SEGMENT", 10)
    spool, bucket = Spool(tmp_path, 1 << 20), dict[int, bytes]()
    for number in range(200):
        spool.stream("output").write(b"%09d\n" % number)
    shipper = Shipper(spool, lambda _, chunk, data: bucket.__setitem__(chunk.offset, data), lambda: False)
    shipper.start()
    shipper.finish()
    assert sorted(bucket) == list(range(0, 2000, 10))
    assert spool.stream("output").end().length == 2000


def test_a_segment_that_was_noted_and_not_removed_is_not_shipped_again(tmp_path: Path) -> None:
    """The agent died between the note and the removal; shipping again would duplicate the bytes."""
    stream, bucket = Spool(tmp_path, 100).stream("output"), dict[int, bytes]()
    stream.write(b"first")
    segment = stream.next()
    assert segment
    data = segment.path.read_bytes()
    ship(stream, bucket)
    stream.write(b"second")
    stream.close()
    segment.path.write_bytes(data)
    again = Spool(tmp_path, 100).stream("output")
    assert (again.shipped, again.produced) == (5, 11)
    while again.waiting:
        ship(again, bucket)
    assert bucket == {0: b"first", 5: b"second"}
    assert [(chunk.offset, chunk.length) for chunk in again.end().chunks] == [(0, 5), (5, 6)]


def test_a_checksum_that_cannot_be_known_is_left_out(tmp_path: Path) -> None:
    """A wrong checksum would mark a complete log as damaged."""
    stream, bucket = Spool(tmp_path, 100).stream("output"), dict[int, bytes]()
    stream.write(b"first")
    ship(stream, bucket)
    stream.close()
    again = Spool(tmp_path, 100).stream("output")
    again.write(b"second")
    ship(again, bucket)
    assert again.end().sha256 == ""


@pytest.mark.parametrize("followed", [False, True])
def test_a_log_of_thirty_days_has_no_more_chunks_than_are_kept(followed: bool) -> None:
    """Thirty days are the longest limit of a run, and a log may be followed all the time."""
    chunks, at = 0, 0.0
    while at < 30 * 86400:
        at += pace(chunks, followed=followed)
        chunks += 1
    assert chunks < CHUNKS_MOST


def test_places_of_written_bytes_are_returned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each chunk that has some of them; bytes that follow each other in a chunk have one place."""
    monkeypatch.setattr(spool_module, "SEGMENT", 10)
    spool, bucket = Spool(tmp_path, 1 << 20), dict[int, bytes]()
    stream = spool.stream("output")
    places = [stream.write(piece) for piece in (b"1234", b"56", b"789abcdefghijk", b"", b"lm")]
    assert places == [[(0, 0, 4)], [(0, 4, 2)], [(0, 6, 10), (16, 0, 4)], [], [(16, 4, 2)]]
    while stream.waiting:
        ship(stream, bucket)
    found = [b"".join(bucket[at][skip : skip + length] for at, skip, length in each) for each in places]
    assert found == [b"1234", b"56", b"789abcdefghijk", b"", b"lm"]


def test_chunk_of_a_stream_with_a_longest_one_has_whole_writes(tmp_path: Path) -> None:
    """Records in one chunk are read together."""
    spool, bucket = Spool(tmp_path, 1 << 20), dict[int, bytes]()
    stream = spool.stream("records", 10)
    for line in (b"one\n", b"three\n", b"a longer line\n", b"two\n"):
        stream.write(line)
    while stream.waiting:
        ship(stream, bucket)
    assert list(bucket.values()) == [b"one\nthree\n", b"a longer line\n", b"two\n"]


def test_records_are_put_after_the_output_that_was_written_before_them(tmp_path: Path) -> None:
    """A record without its output would be final."""
    spool, put = Spool(tmp_path, 1 << 20), list[tuple[str, int]]()

    def take(name: str, chunk: Chunk, _: bytes) -> None:
        put.append((name, chunk.offset))
        if name == "output":
            return
        assert spool.streams["output"].shipped >= 5 * len([each for each in put if each[0] == "records"])

    shipper = Shipper(spool, take, lambda: False)
    shipper.records_every = 0.0
    records, output = spool.stream("records"), spool.stream("output")
    shipper.start()
    for number in range(3):
        output.write(b"bytes")
        records.write(b"line\n")
        until(lambda: records.shipped == 5 * (number + 1), "the record")  # noqa: B023 - called in this turn of the loop
    shipper.finish()
    assert put == [("output", 0), ("records", 0), ("output", 5), ("records", 5), ("output", 10), ("records", 10)]


@pytest.mark.parametrize(
    ("every", "followed", "interval"), [(2, False, 2), (20, False, 20), (0, False, 0), (20, True, 1)]
)
def test_records_are_put_as_often_as_their_commands_end(
    tmp_path: Path, every: float, followed: bool, interval: float
) -> None:
    shipper = Shipper(Spool(tmp_path, 100), lambda *_: None, lambda: followed)
    shipper.records_every = every
    spool = Spool(tmp_path, 100)
    assert shipper.interval(spool.stream("records")) == interval
    assert shipper.interval(spool.stream("output")) == (22 if interval == 20 else 1)


def test_the_first_record_waits_for_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short commands end soon after each other, and each put costs money."""
    clock, looks, put = [100.0], list[int](), list[bytes]()
    monkeypatch.setattr("provisioner.agent.logs.shipper.time.time", lambda: clock[0])
    spool = Spool(tmp_path, 1 << 20)
    records = spool.stream("records")

    def followed() -> bool:
        looks.append(1)
        return False

    shipper = Shipper(spool, lambda _, __, data: put.append(data), followed)
    shipper.start()
    records.write(b"one\n")
    until(lambda: len(looks) > 1, "two looks at the record")
    records.write(b"two\n")
    assert put == []
    clock[0] += OFTEN
    until(lambda: bool(put), "the chunk")
    shipper.finish()
    assert put == [b"one\ntwo\n"]


def test_records_that_fill_a_chunk_are_put_at_once(tmp_path: Path) -> None:
    """A machine that ends many commands must not have more and more chunks that wait."""
    spool, bucket = Spool(tmp_path, 1 << 20), dict[int, bytes]()
    records = spool.stream("records", 100)
    shipper = Shipper(spool, lambda _, chunk, data: bucket.__setitem__(chunk.offset, data), lambda: False)
    shipper.records_every = 600.0
    shipper.start()
    for _ in range(50):
        records.write(b"nine char\n")
    until(lambda: records.waiting < 100, "all full chunks")
    assert set(map(len, bucket.values())) <= {10, 20, 30, 40, 50, 60, 70, 80, 90, 100}
    shipper.finish()
    assert b"".join(bucket[offset] for offset in sorted(bucket)) == 50 * b"nine char\n"
