"""The archived part of a log, and the record of missing bytes."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.logs.archive import KeptStream, chunk_offset, kept_chunk_key, kept_streams
from provisioner.core.protocol.keys import chunk_key, log_prefix
from provisioner.core.protocol.messages import Chunk, Result, StreamEnd
from provisioner.core.protocol.words import STREAMS, Outcome, Step
from tests.support.samples import report, result


def ended(*lengths: int) -> Result:
    """Return a result whose EOF mark has output chunks of these lengths."""
    chunks, offset = [], 0
    for length in lengths:
        chunks.append(Chunk(offset, length, hashlib.sha256(b"x" * length).hexdigest()))
        offset += length
    return result(Outcome.SUCCEEDED, 0, streams={"output": StreamEnd(offset, "the sum", tuple(chunks))})


def kept(listed: list[tuple[int, int]], told: Result | None = None, produced: int | None = None) -> KeptStream:
    said = replace(report(Step.COMMAND), produced={"output": produced}) if produced is not None else None
    return kept_streams({"output": listed}, told, said)["output"]


def test_log_with_every_chunk_of_the_eof_mark_is_complete() -> None:
    """If all chunks are there, no byte is missing and the checksum of the whole log is known."""
    assert kept([(0, 5), (5, 3)], ended(5, 3)) == KeptStream(8, ((0, 5), (5, 3)), sha256="the sum")
    assert kept([], ended()) == KeptStream(0, (), sha256="the sum")


@pytest.mark.parametrize(
    ("listed", "told", "produced", "missing"),
    [
        # By the EOF mark, the tail, the middle or everything is missing.
        ([(0, 5)], ended(5, 3), None, (5, 3)),
        ([(0, 5), (8, 2)], ended(5, 3, 2), None, (5, 5)),
        ([], ended(5), None, (0, 5)),
        # Without an EOF mark, the last report's count decides.
        ([(0, 5)], None, 9, (5, 4)),
        ([(0, 5)], None, 5, (5, 0)),
        ([(0, 5)], None, 3, (5, 0)),
        # A chunk after a hole shows that bytes are missing.
        ([(0, 5), (8, 2)], None, None, (5, 5)),
        # Nothing is known.
        ([(0, 5)], None, None, (5, None)),
        ([], None, None, (0, None)),
    ],
)
def test_missing_bytes_are_recorded(
    listed: list[tuple[int, int]], told: Result | None, produced: int | None, missing: tuple[int, int | None]
) -> None:
    """The record has the first missing byte and the least number of missing bytes, or None if that is unknown."""
    found = kept(listed, told, produced)
    assert (found.missing_from, found.missing_at_least) == missing
    # Chunks after a hole were acknowledged and are kept.
    assert [tuple(each) for each in found.chunks] == listed


def test_chunk_of_another_size_marks_the_log_incomplete() -> None:
    """The total is the same, but the chunks differ from the EOF mark."""
    assert kept([(0, 4), (4, 4)], ended(5, 3)).missing_from is not None


def test_every_stream_is_recorded() -> None:
    """Streams without any chunk are included."""
    assert set(kept_streams({}, None, None)) == set(STREAMS)


@given(st.lists(st.integers(1, 50), max_size=6), st.data())
def test_every_gap_of_the_eof_mark_is_recorded(lengths: list[int], data: st.DataObject) -> None:
    """For any set of present chunks, all are kept, and the first gap of the EOF mark is recorded."""
    told = ended(*lengths)
    every = [(chunk.offset, chunk.length) for chunk in told.streams["output"].chunks]
    there = [chunk for chunk in every if data.draw(st.booleans())]
    found = kept(data.draw(st.permutations(there)), told)
    assert sorted(tuple(chunk) for chunk in found.chunks) == there
    assert (found.missing_from is None) == (there == every)
    if found.missing_from is not None:
        first = next(chunk for chunk in every if chunk not in there)
        assert found.missing_from == found.length == first[0]


def test_chunks_are_known_by_their_keys() -> None:
    """A chunk's offset is read from its key in a mailbox and from its key in the archive."""
    prefix = log_prefix("A:i-1", "output")
    assert chunk_offset(chunk_key("A:i-1", "output", 12), prefix) == 12
    key = kept_chunk_key("r1", 1, 0, "output", 12)
    assert chunk_offset(key, key.rpartition("/")[0] + "/") == 12


@pytest.mark.parametrize(
    "name", ["", "x", "12", "-00000000000001", "²²²²²²²²²²²²²²²", "000000000000001/x", "a/000000000000001", "0" * 16]
)
def test_foreign_key_below_the_log_prefix_is_no_chunk(name: str) -> None:
    """A machine can write any key into its mailbox; such keys must not prevent archiving."""
    prefix = log_prefix("A:i-1", "output")
    assert chunk_offset(prefix + name, prefix) is None
