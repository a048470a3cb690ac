"""Places in a log, as text that comes back from strangers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core import cursor
from provisioner.core.cursor import At, Cursor
from provisioner.core.errors import Invalid
from provisioner.core.work import STREAMS

NUMBERS = st.integers(0, 10**15 - 1)
CURSORS = st.dictionaries(
    st.tuples(st.integers(1, 10**6 - 1), st.sampled_from(STREAMS)), st.builds(At, NUMBERS, NUMBERS), max_size=60
)


@given(CURSORS)
def test_a_place_comes_back_as_it_was(place: Cursor) -> None:
    """In one word, fit for a header."""
    word = cursor.write(place)
    assert cursor.read(word) == place
    assert word.isascii()
    assert not set(word) & set(" \t\r\n")


@given(st.text() | st.from_regex(r"[0-9a-z.,]{0,60}", fullmatch=True))
def test_any_other_text_is_refused_or_means_one_place(text: str) -> None:
    """In one sentence; what is taken is written in one way."""
    try:
        place = cursor.read(text)
    except Invalid:
        return
    assert cursor.read(cursor.write(place)) == place


def test_what_is_longer_than_any_place_is_not_even_read() -> None:
    """Whatever it is made of."""
    with pytest.raises(Invalid):
        cursor.read(",".join(["1.output.0.0"] * 10_000))
