"""The tail of a spool that is written, shipped and emptied at the same time."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.adapters import agent_package
from provisioner.agent.logs import spool as spools
from provisioner.agent.logs.spool import Spool, Stream
from provisioner.agent.logs.tail import Stream as Tail


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Stream]:
    stream = Spool(tmp_path, 1 << 20).stream("output")
    yield stream
    stream.close()


def ship(stream: Stream) -> None:
    segment = stream.next()
    assert segment is not None
    data = segment.path.read_bytes()
    stream.acknowledged(segment, segment.chunk(data), data)


def test_each_byte_is_told_once_across_segments(tmp_path: Path, stream: Stream) -> None:
    """The tail returns each byte once, even of a segment that was shipped while the tail was reading it."""
    tail = Tail(str(tmp_path), "output", 0)
    assert tail.news() == b""
    stream.write(b"one")
    assert (tail.news(), tail.news()) == (b"one", b"")
    stream.write(b"two")
    ship(stream)
    stream.write(b"three")
    assert (tail.news(), tail.news(), tail.news()) == (b"two", b"three", b"")
    assert tail.at == 11
    tail.close()


def test_tail_starts_at_the_requested_offset(tmp_path: Path, stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tail starts at the requested offset, in any segment."""
    monkeypatch.setattr(spools, "SEGMENT", 4)
    for text in (b"aaaa", b"bbbb", b"cc"):
        stream.write(text)
    tail = Tail(str(tmp_path), "output", 6)
    assert (tail.news(), tail.news(), tail.news()) == (b"bb", b"cc", b"")
    tail.close()


def test_tail_skips_shipped_bytes(tmp_path: Path, stream: Stream) -> None:
    """The tail's offset counts the skipped bytes, which are in the bucket only."""
    stream.write(b"gone")
    ship(stream)
    stream.write(b"here")
    tail = Tail(str(tmp_path), "output", 0)
    assert (tail.news(), tail.at) == (b"here", 8)
    tail.close()


def test_tail_program_ends_when_its_input_ends(tmp_path: Path, stream: Stream) -> None:
    """The program, as it is sent to a machine, prints a header before each piece and ends when its input ends."""
    stream.write(b"text\n")
    words = [sys.executable, "-I", "-S", "-c", agent_package.tail_source(), str(tmp_path), "setup=0", "output=1"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.read(15) == b"output 1 4\next\n"
        stream.write(b"more\n")
        assert process.stdout.read(16) == b"output 5 5\nmore\n"
        process.stdin.close()
        assert process.wait() == 0
