"""What is kept of a log, and what is said of what is not."""

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
    """A result whose EOF mark names output chunks of these lengths."""
    chunks, offset = [], 0
    for length in lengths:
        chunks.append(Chunk(offset, length, hashlib.sha256(b"x" * length).hexdigest()))
        offset += length
    return result(Outcome.SUCCEEDED, 0, streams={"output": StreamEnd(offset, "the sum", tuple(chunks))})


def kept(listed: list[tuple[int, int]], told: Result | None = None, produced: int | None = None) -> KeptStream:
    said = replace(report(Step.COMMAND), produced={"output": produced}) if produced is not None else None
    return kept_streams({"output": listed}, told, said)["output"]


def test_all_that_the_end_mark_names_is_there() -> None:
    """Then nothing is missing, and the checksum of the whole is known."""
    assert kept([(0, 5), (5, 3)], ended(5, 3)) == KeptStream(8, ((0, 5), (5, 3)), sha256="the sum")
    assert kept([], ended()) == KeptStream(0, (), sha256="the sum")


@pytest.mark.parametrize(
    ("listed", "told", "produced", "missing"),
    [
        # By the EOF mark: the tail, the middle, everything.
        ([(0, 5)], ended(5, 3), None, (5, 3)),
        ([(0, 5), (8, 2)], ended(5, 3, 2), None, (5, 5)),
        ([], ended(5), None, (0, 5)),
        # Without one: by what the last report had counted.
        ([(0, 5)], None, 9, (5, 4)),
        ([(0, 5)], None, 5, (5, 0)),
        ([(0, 5)], None, 3, (5, 0)),
        # By a chunk that lies behind a hole.
        ([(0, 5), (8, 2)], None, None, (5, 5)),
        # Nobody can say.
        ([(0, 5)], None, None, (5, None)),
        ([], None, None, (0, None)),
    ],
)
def test_what_is_missing_is_said(
    listed: list[tuple[int, int]], told: Result | None, produced: int | None, missing: tuple[int, int | None]
) -> None:
    """From which byte on, and at least how many, or that nobody knows."""
    found = kept(listed, told, produced)
    assert (found.missing_from, found.missing_at_least) == missing
    # What lies behind a hole was acknowledged too.
    assert [tuple(each) for each in found.chunks] == listed


def test_another_size_than_the_end_mark_says_is_not_whole() -> None:
    """The same bytes in all, but other chunks: something else is there."""
    assert kept([(0, 4), (4, 4)], ended(5, 3)).missing_from is not None


def test_every_stream_is_spoken_of() -> None:
    """Also those of which nothing was listed."""
    assert set(kept_streams({}, None, None)) == set(STREAMS)


@given(st.lists(st.integers(1, 50), max_size=6), st.data())
def test_no_byte_is_lost_without_a_word(lengths: list[int], data: st.DataObject) -> None:
    """Whichever chunks are there, in any order: all are kept, and a loss is told exactly where an end mark is."""
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
    """In the mailbox and in the archive."""
    prefix = log_prefix("A:i-1", "output")
    assert chunk_offset(chunk_key("A:i-1", "output", 12), prefix) == 12
    key = kept_chunk_key("r1", 1, 0, "output", 12)
    assert chunk_offset(key, key.rpartition("/")[0] + "/") == 12


@pytest.mark.parametrize(
    "name", ["", "x", "12", "-00000000000001", "²²²²²²²²²²²²²²²", "000000000000001/x", "a/000000000000001", "0" * 16]
)
def test_what_a_job_writes_beside_its_log_is_no_chunk(name: str) -> None:
    """Whoever has the machine may put any key there; it must not stop the log from being kept."""
    prefix = log_prefix("A:i-1", "output")
    assert chunk_offset(prefix + name, prefix) is None
