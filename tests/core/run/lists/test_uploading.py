"""Cutting the text of an upload into parts, and the errors for wrong lines."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.errors import Invalid
from provisioner.core.recipe.fields import LONGEST_ARGUMENT
from provisioner.core.run.lists import uploading
from provisioner.core.run.lists.uploading import cut


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a part end at three commands or ten bytes."""
    monkeypatch.setattr(uploading, "PART_COMMANDS", 3)
    monkeypatch.setattr(uploading, "PART_BYTES", 10)


def of(*pieces: bytes) -> list[tuple[int, bytes]]:
    return list(cut(pieces))


def refused(*pieces: bytes) -> list[str]:
    with pytest.raises(Invalid) as caught:
        of(*pieces)
    return str(caught.value).splitlines()


@pytest.mark.usefixtures("small")
def test_a_part_ends_at_its_number_of_commands_or_of_bytes() -> None:
    assert of(b"a\nb\nc\nd\n") == [(3, b"a\0b\0c\0"), (1, b"d\0")]
    assert of(b"aaaa\nbbbb\nc\n") == [(2, b"aaaa\0bbbb\0"), (1, b"c\0")]
    assert of(b"x" * 50 + b"\ny\n") == [(1, b"x" * 50 + b"\0"), (1, b"y\0")]


def test_the_last_line_needs_no_end_and_lines_may_end_with_cr_lf() -> None:
    assert of(b"a\r\nb") == of(b"a\nb\n") == [(2, b"a\0b\0")]
    assert of(b"a\rb\n") == [(1, b"a\rb\0")]


_LINES = st.lists(st.text("ab é #$", min_size=1, max_size=9).filter(str.strip), min_size=1)


@given(_LINES, st.lists(st.integers(0, 60)))
def test_parts_do_not_depend_on_the_pieces(lines: list[str], cuts: list[int]) -> None:
    """A piece may end within a line, a character, or CR LF."""
    text = "\r\n".join(lines).encode()
    places = [0, *sorted(min(each, len(text)) for each in cuts), len(text)]
    pieces = [text[begin:end] for begin, end in pairwise(places)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uploading, "PART_COMMANDS", 3)
        patch.setattr(uploading, "_BLOCK", 5)
        found = of(*pieces)
    assert [count for count, _ in found[:-1]] == [3] * (len(found) - 1)
    assert b"".join(data for _, data in found) == "".join(f"{line}\0" for line in lines).encode()


def test_commands_that_end_with_a_nul_byte_may_have_several_lines() -> None:
    assert list(cut([b"a\r\nb\n\0c"], null=True)) == [(2, b"a\nb\n\0c\0")]
    with pytest.raises(Invalid) as caught:
        list(cut([b"a\0 \n\0", b"-x\0", b"\xff"], null=True))
    assert str(caught.value).splitlines() == [
        "command 1: it is blank; write a command, or leave it out",
        "command 2: the shell would read a command that begins with - as an option; begin with the program",
        "command 3: byte 1 is no UTF-8; write the commands in UTF-8",
    ]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "it is blank; write a command, or leave it out"),
        (b" \t", "it is blank; write a command, or leave it out"),
        ("\u2003".encode(), "write the shell line to run"),
        (b"-x", "the shell would read a command that begins with - as an option; begin with the program"),
        (b"  -x", "the shell would read a command that begins with - as an option; begin with the program"),
        (b"a\0b", "it must not contain a NUL character"),
        (b"ab\xff", "byte 3 is no UTF-8; write the commands in UTF-8"),
        (b"x" * (LONGEST_ARGUMENT + 1), "too long: Linux allows at most 128 KiB in one argument or variable"),
    ],
)
def test_a_wrong_line_is_named_by_its_number(line: bytes, why: str) -> None:
    """Lines are numbered from 1; the lines before are right."""
    assert refused(b"one\ntwo\n" + line + b"\nfour\n") == [f"line 3: {why}"]


def test_a_line_of_the_greatest_length_is_right() -> None:
    longest = b"x" * LONGEST_ARGUMENT
    assert of(longest + b"\r\n", longest) == [(2, (longest + b"\0") * 2)]


def test_right_lines_with_unusual_beginnings_are_accepted() -> None:
    assert of(" a\n\tb\né\n\u2003c\n".encode()) == [(4, " a\0\tb\0é\0\u2003c\0".encode())]


def test_five_wrong_lines_are_named_and_the_others_counted_out() -> None:
    """Up to five are named, in every block of the text."""
    found = refused(b"\n" * 3 + b"x\n" * 1_000_000, b"-\n\n")
    assert [each.partition(":")[0] for each in found] == ["line 1", "line 2", "line 3", "line 1000004", "line 1000005"]
    assert refused(b"\n" * 6)[4:] == [
        "line 5: it is blank; write a command, or leave it out",
        "more are wrong",
    ]


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1000
            # A character of two bytes is cut at the end of what is read.
            yield "é".encode() * 500

    with pytest.raises(Invalid, match="line 1: too long"):
        list(cut(endless()))
    assert taken < 2 * LONGEST_ARGUMENT


def test_nothing_is_yielded_after_a_wrong_line() -> None:
    """The parts before it are; they are deleted when the error is raised."""
    found = bytearray()
    parts = cut([b"a\n" * 1_000_000, b"\n", b"b\n" * 1_000_000])
    with pytest.raises(Invalid):
        found.extend(byte for _, data in parts for byte in data)
    assert b"b" not in found


def test_an_empty_text_and_too_large_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused() == refused(b"") == ["the list has no line; write one command in each line"]
    monkeypatch.setattr(uploading, "MOST_COMMANDS", 4)
    assert of(b"a\nb\nc\nd")
    assert refused(b"a\nb\nc\nd\ne") == ["the list has more than 4 lines; split it"]
    monkeypatch.setattr(uploading, "MOST_BYTES", 6)
    assert of(b"a\nb\n", b"c\n")
    assert refused(b"a\nb\n", b"c\nd") == ["the list has more than 6 bytes; split it"]
