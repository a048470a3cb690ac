"""Lines about the ends of commands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.protocol.command_lines import LINE_MOST, WHYS, CommandEnd, lines_about, read_ends, write_end

numbers = st.integers(0, 10**15 - 1)
extents = st.lists(st.tuples(numbers, st.integers(0, 10**7), st.integers(1, 1 << 34)), max_size=300)
ends = st.builds(
    CommandEnd,
    batch=numbers,
    index=numbers,
    generation=st.integers(1, 255),
    began=st.integers(0, 10**13).map(lambda ms: ms / 1000),
    took=st.integers(0, 10**10).map(lambda ms: ms / 1000),
    code=st.integers(0, 255),
    why=st.sampled_from(["", *WHYS]),
    extents=extents.map(tuple),
)


@given(st.lists(ends, max_size=4))
def test_ends_are_read_back(several: list[CommandEnd]) -> None:
    """Whatever the number of extents, no line is too long."""
    data = b"".join(map(write_end, several))
    assert list(read_ends(data)) == several
    assert all(len(line) < LINE_MOST for line in data.split(b"\n"))


def test_the_line_has_the_documented_form() -> None:
    end = CommandEnd(3, 20481, 1, 1764465538.123, 0.015, 0, "", ((8000, 123, 52),))
    assert write_end(end) == b"3 20481 1 1764465538123 15 0 - 8000+123+52\n"
    assert write_end(CommandEnd(3, 1, 2, 1.0, 2.0, 143, "limit")) == b"3 1 2 1000 2000 143 limit -\n"


def test_a_clock_that_was_set_back_makes_no_unreadable_line() -> None:
    """Otherwise the command would run again, although it has ended."""
    assert list(read_ends(write_end(CommandEnd(1, 2, 3, 4.0, -5.0, 6)))) == [CommandEnd(1, 2, 3, 4.0, 0.0, 6)]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "3",
        "3 1 1 5 5 0 -",
        "3 1 1 5 5 0 - - -",
        "3 -1 1 5 5 0 - -",
        "3 1 1 5 5 256 - -",
        "3 1 1 5 5 0 because -",
        "3 1 1 5 5 0 - 1+2",
        "3 1 1 5 5 0 - 1+2+x",
        "3 1 1 5 5.5 0 - -",
        "3 99999999999999999 1 5 5 0 - -",
        "3 1 1 5 5 0 - 1+2+3,",
        "3 1 1 5 5 0  -",
        "3 1 1 5 5 0 - -\r",
        "x 1 1",
        "x 1 1 -",
        "3 1 1 5 5 0 - " + ",".join(["1+2+3"] * 1000),
        "\u0663 1 1 5 5 0 - -",
    ],
)
def test_a_line_that_cannot_be_read_is_named_and_the_next_one_is_read(line: str) -> None:
    """A machine may write any bytes; what follows is not lost."""
    good = CommandEnd(1, 2, 3, 4.0, 5.0, 6)
    found = list(read_ends(line.encode() + b"\n" + write_end(good)))
    assert isinstance(found[0], str)
    assert found[1:] == [good]


def test_a_line_that_was_cut_is_not_read() -> None:
    """Its last number would be wrong."""
    for cut in range(1, len(good := write_end(CommandEnd(3, 1, 1, 5.0, 6.0, 0, "", ((8000, 123, 52),))))):
        (found,) = read_ends(good[:cut])
        assert isinstance(found, str)


def test_lines_about_some_commands_are_found_without_reading_the_others() -> None:
    """The end of one command is read in milliseconds, although its chunk has 20,000 others."""
    many = tuple((chunk, 0, 1) for chunk in range(0, 1000, 2))
    several = [CommandEnd(17, index, 1, 5.0, 6.0, 0, "", many if index == 2 else ()) for index in (1, 2, 12, 17)]
    data = b"".join(map(write_end, several)) + b"\n1\n"
    assert list(read_ends(lines_about(data, {2, 17, 99}))) == [several[1], several[3]]


def test_extents_of_another_command_are_not_taken() -> None:
    """Lines with extents count only for the command that they name, just before its end."""
    assert list(read_ends(b"x 1 1 5+0+9\n3 2 1 5 5 0 - @\n3 1 1 5 5 0 - @\n")) == [
        CommandEnd(3, 2, 1, 0.005, 0.005, 0),
        CommandEnd(3, 1, 1, 0.005, 0.005, 0),
    ]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    list(read_ends(data))
