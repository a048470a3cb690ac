"""What is told of the spool while it is written, shipped and emptied."""

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
    """Also of one that was shipped while it was being read."""
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


def test_it_begins_in_the_middle(tmp_path: Path, stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the offset that is asked for, in whichever segment that lies."""
    monkeypatch.setattr(spools, "SEGMENT", 4)
    for text in (b"aaaa", b"bbbb", b"cc"):
        stream.write(text)
    tail = Tail(str(tmp_path), "output", 6)
    assert (tail.news(), tail.news(), tail.news()) == (b"bb", b"cc", b"")
    tail.close()


def test_what_was_shipped_before_is_left_out(tmp_path: Path, stream: Stream) -> None:
    """The offset tells how much: the bucket has it."""
    stream.write(b"gone")
    ship(stream)
    stream.write(b"here")
    tail = Tail(str(tmp_path), "output", 0)
    assert (tail.news(), tail.at) == (b"here", 8)
    tail.close()


def test_the_program_speaks_until_nobody_listens(tmp_path: Path, stream: Stream) -> None:
    """As it is sent to a machine: a head before each piece; the end of its input ends it."""
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
