"""Colours of a job's output as classes of the page's styles."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.faces.page.ansi import Painter, Span

#: Classes that ansi.css defines.
KNOWN = re.compile(r"(t-(bold|dim|italic|underline|inverse|strike|[fb](\d|1[0-5]))( |$))*")
#: Control characters, and those that change the order of text.
STEERING = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize(
    ("codes", "classes"),
    [
        ("31", "t-f1"),
        ("1;4;91", "t-bold t-underline t-f9"),
        ("44;97", "t-b4 t-f15"),
        ("107", "t-b15"),
        ("38;5;1", "t-f1"),
        ("38;5;196", "t-f9"),
        ("48;5;250", "t-b7"),
        ("38;2;250;5;5", "t-f9"),
        ("38:2::250:5:5", "t-f9"),
        ("38:2:250:5:5;1", "t-f9 t-bold"),
        ("38:5:21", "t-f4"),
        ("31;0", ""),
        ("31;39", ""),
        ("1;22", ""),
        ("4;24", ""),
        ("4:0", ""),
        ("8", ""),
        ("38", ""),
        ("38;5", "t-f0"),
        ("38;5;256", ""),
        ("38;2;1;2", "t-f0"),
        ("38;2;1;2;999", ""),
        ("999;1", "t-bold"),
        (";;;", ""),
    ],
)
def test_colours_are_the_nearest_of_sixteen(codes: str, classes: str) -> None:
    assert Painter().paint(f"\x1b[{codes}mtext") == [Span("text", classes)]


@given(st.text(st.sampled_from('\x1b[]0123;:mK\r\b\tab\x07\x9b\u202e<&"'), max_size=60), st.booleans())
def test_any_text_becomes_known_classes_and_harmless_text(text: str, last: bool) -> None:
    for span in Painter().paint(text, last=last):
        assert KNOWN.fullmatch(span.classes), span
        assert not STEERING.search(span.text), span


def test_colour_goes_on_in_the_next_piece_even_if_a_sequence_is_cut() -> None:
    painter = Painter()
    assert painter.paint("\x1b[3") == []
    assert painter.paint("1mred") == [Span("red", "t-f1")]
    assert painter.paint(" more\x1b[0m end") == [Span(" more", "t-f1"), Span(" end", "")]
