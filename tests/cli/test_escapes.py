"""A job's text on a terminal: it is shown, and it cannot control the terminal."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.escapes import LONGEST_STRING, Filter, shown
from provisioner.faces.cli.terminal import streams

#: The only text that may reach a terminal: printable text, line ends, tabs, backspaces and colours.
HARMLESS = re.compile("([^\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|[\t\n\r\b]|\x1b\\[[0-9;:]*m)*")


@pytest.mark.parametrize(
    "sequence",
    [
        "\x1b]52;c;ZXZpbA==\x07",
        "\x1b]52;c;ZXZpbA==\x1b\\",
        "\x9d52;c;ZXZpbA==\x9c",
        "\x1b]0;title\x07",
        "\x1b]8;;http://evil\x1b\\",
        "\x1bP+q544e\x1b\\",
        "\x90+q544e\x9c",
        "\x1b_private\x1b\\",
        "\x1b^message\x1b\\",
        "\x1bXstring\x1b\\",
        "\x1b[2J",
        "\x9b2J",
        "\x1b[?1049h",
        "\x1b[6n",
        "\x1b[>c",
        "\x1b[1;1H",
        "\x1b[>4;2m",
        "\x1b[38 m",
        "\x1bc",
        "\x1b(0",
        "\x1b#8",
        "\x1b[\x1b[2J",
        "\x1b\x1b[2J",
        "\x1b]0;\x1b[2J",
        "\x0e",
        "\x05",
        "\x07",
        "\x7f",
        "\x84",
    ],
)
def test_sequence_that_steers_a_terminal_is_left_out(sequence: str) -> None:
    """Covers clipboard, title, screen, charset, queries and single controls, in 7 and 8 bits."""
    assert shown(f"before{sequence}after".encode()) == "beforeafter"


def test_text_colours_and_progress_bars_pass() -> None:
    """Sequences that only change the look of text are kept."""
    text = "für später 🚀\t10%\r20%\r\n\b"
    assert shown(text.encode()) == text
    assert (
        shown(b"\x1b[1;31mred\x1b[0m \x1b[38:2::1:2:3mtrue\x1b[m") == "\x1b[1;31mred\x1b[0m \x1b[38:2::1:2:3mtrue\x1b[m"
    )


def test_colour_left_on_is_ended() -> None:
    """Colours are reset at the end, so the shell's prompt keeps its own."""
    assert shown(b"\x1b[41mred") == "\x1b[41mred\x1b[0m"


def test_bytes_that_are_no_utf_8_are_replaced() -> None:
    """An 8-bit terminal reads 0x9b as the start of a sequence."""
    assert shown(b"a\x9b2Jb\xff") == "a\ufffd2Jb\ufffd"


@pytest.mark.parametrize("char", "\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069")
def test_characters_that_turn_text_around_are_replaced(char: str) -> None:
    """Text shown in another order than it is written misleads its reader."""
    assert shown(f"a{char}b".encode()) == "a\ufffdb"


def test_string_without_an_end_hides_no_log() -> None:
    """An unterminated string ends at the line's end or at the length limit."""
    assert shown(b"\x1b]0;title\nnext line") == "\nnext line"
    assert shown(b"\x1b]" + b"x" * (LONGEST_STRING + 5)) == "x" * (LONGEST_STRING + 5)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=6),
            st.sampled_from(
                [b"\x1b[", b"\x1b]", b"\x1b", b"\xc2\x9b", b"m", b"31", b"\x1b\\", b"\x07", b"2J", "é".encode()]
            ),
        ),
        max_size=30,
    )
)
def test_any_bytes_however_they_are_cut_show_the_same_harmless_text(pieces: list[bytes]) -> None:
    """A log may be cut anywhere, even inside a sequence or a character."""
    filter = Filter()
    text = "".join(map(filter.put, pieces)) + filter.end()
    assert HARMLESS.fullmatch(text)
    assert text == shown(b"".join(pieces))


def test_cell_of_a_table_steers_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Names and notes come from other users; one row must stay one line."""
    streams.table(("NAME", "NOTE"), [("a", "x\x1b]0;title\x07\u202ey\nz")])
    assert len(capsys.readouterr().out.splitlines()) == 2
    streams.table(("NAME",), [("\x1b[2J\u202e",)])
    assert HARMLESS.fullmatch(capsys.readouterr().out)
