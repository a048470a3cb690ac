"""The contract of `ports/journal.py`, and the two formats of a stream's journal."""

import io
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import TextIO

import pytest

from provisioner.adapters import journal as adapter
from provisioner.adapters.journal import StreamJournal, Unkept
from provisioner.ports.journal import Journal
from provisioner.rehearsal.fakes.clock import ListJournal
from tests.polling import until

AT = 1_800_000_000.25
NASTY = 'half a \ud800 pair, "quotes"\n\x1b[2Jand a second line'


class Closed(io.StringIO):
    """A stream whose reader is gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(text)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


MADE: list[Callable[[], Journal]] = [
    Unkept,
    ListJournal,
    lambda: StreamJournal(io.StringIO(), as_json=True),
    lambda: StreamJournal(io.StringIO(), as_json=False, colour=True),
    lambda: StreamJournal(Closed(), as_json=True),
]


@pytest.mark.parametrize("make", MADE)
def test_it_never_raises(make: Callable[[], Journal]) -> None:
    """No text and no output raises an error, not even after close()."""
    journal = make()
    for _ in range(2):
        journal.tell(NASTY, AT, run="r", attempt=1, odd=NASTY)
        journal.complain(NASTY, -1e300)
        journal.complain(NASTY, AT)
        journal.close()


def test_json_is_one_object_a_line() -> None:
    """A line has time in UTC, level, `text` or `error`, and the fields that are not empty."""
    journal = StreamJournal(stream := io.StringIO(), as_json=True)
    journal.tell("it\nbegins", AT, run="r1", job="", attempt=0)
    journal.complain("no", AT, run="r2", code="Denied", attempt=2)
    journal.close()
    at = "2027-01-15T08:00:00.250Z"
    assert lines(stream) == [
        {"at": at, "level": "info", "text": "it\nbegins", "run": "r1"},
        {"at": at, "level": "error", "error": "no", "run": "r2", "code": "Denied", "attempt": 2},
    ]


@pytest.mark.parametrize("colour", [True, False])
def test_a_line_for_a_person(colour: bool) -> None:
    """A line has time, short run id and text, without control characters; colour only if requested."""
    journal = StreamJournal(stream := io.StringIO(), as_json=False, colour=colour)
    journal.tell("a \x1b[2J b\nc", AT, run="0123456789abcdef", owner="ann")
    journal.complain("no", AT)
    journal.close()
    first, second = stream.getvalue().splitlines()
    assert first.removeprefix("\x1b[2m")[8:].replace("\x1b[0m", "") == r" 0123456789ab a \x1b[2J b\x0ac"
    assert second.replace("\x1b[31m", "").endswith("error: no" + ("\x1b[0m" if colour else ""))
    assert ("\x1b" in first, "\x1b[31m" in second) == (colour, colour)


def test_library_warnings_are_logged() -> None:
    """Each warning of a library is a line while the journal is open."""
    journal = StreamJournal(stream := io.StringIO(), as_json=True)
    logging.getLogger("some.library").warning("the pool of %s is full", "s3")
    logging.getLogger("some.library").info("nothing")
    journal.close()
    logging.getLogger("some.library").warning("too late")
    assert [line["error"] for line in lines(stream)] == ["some.library: the pool of s3 is full"]


@pytest.fixture
def unread() -> Iterator[tuple[TextIO, TextIO]]:
    """Yield a pipe's reader and writer."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as reader, os.fdopen(writing, "w") as writer:
        yield reader, writer


def test_tell_does_not_block_on_a_stopped_reader(
    unread: tuple[TextIO, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the reader stops, tell() still returns. When it resumes, a line reports how many lines were dropped."""
    monkeypatch.setattr(adapter, "ROOM", 3)
    reader, writer = unread
    journal = StreamJournal(writer, as_json=True)
    for _ in range(100):
        journal.tell("x" * 65536, AT)
    heard: list[str] = []

    def hear() -> None:
        heard.extend(iter(reader.readline, ""))

    hearing = threading.Thread(target=hear, daemon=True)
    hearing.start()
    while not any("lines were dropped" in line for line in heard):
        journal.tell("more", AT)
    journal.close()
    writer.close()
    hearing.join()
    assert all(json.loads(line) for line in heard)


class Hands:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def test_line_that_comes_again_and_again_is_counted_and_not_written() -> None:
    """A thousand lines a second would fill the disk. Lines that differ only in their error id count as equal."""
    hands = Hands()
    journal = StreamJournal(stream := io.StringIO(), as_json=True, elapsed=hands)
    for number in range(1000):
        journal.complain(f"internal error {number:012x}: no file left", AT, traceback=str(number))
        logging.getLogger("asyncio").error("no file left")
    journal.tell("another", AT)
    journal.close()
    written = [str(line.get("error", line.get("text"))) for line in lines(stream)]
    assert len(written) == 2 * adapter.OFTEN + 1 + 2
    assert [text.split()[1] for text in written[-2:]] == [str(1000 - adapter.OFTEN)] * 2


def test_count_of_a_line_ends_after_a_minute() -> None:
    """After a minute the line is written again."""
    hands = Hands()
    journal = StreamJournal(stream := io.StringIO(), as_json=True, elapsed=hands)
    for _ in range(2):
        for _ in range(adapter.OFTEN + 5):
            journal.complain("no", AT)
        until(lambda: journal.idle, "all looked at")
        hands.at += adapter.WINDOW
    journal.close()
    again = ["no"] * adapter.OFTEN + ["repeated 5 more times within a minute: no"]
    assert [line["error"] for line in lines(stream)] == again * 2


def test_lines_of_different_runs_are_all_written() -> None:
    """Lines of different runs are different lines."""
    journal = StreamJournal(stream := io.StringIO(), as_json=True)
    for number in range(500):
        journal.tell("queued: triggered", AT, run=f"{number:032x}")
    journal.close()
    assert len(lines(stream)) == 500
