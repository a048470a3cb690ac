"""Log cursors, as clients send them back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.errors import Invalid
from provisioner.core.logs import cursor
from provisioner.core.logs.cursor import At, Cursor
from provisioner.core.protocol.words import STREAMS

NUMBERS = st.integers(0, 10**15 - 1)
ATTEMPTS = st.integers(1, 9) | st.integers(1, 10**6 - 1)
KEYS = st.tuples(ATTEMPTS, st.sampled_from(STREAMS), st.integers(0, 2))
MOVES = st.lists(st.tuples(KEYS, st.builds(At, NUMBERS, NUMBERS) | st.none()), max_size=60)


@given(MOVES)
def test_cursor_round_trips(moves: list[tuple[tuple[int, str, int], At | None]]) -> None:
    """A cursor is one ASCII word, fit for a header. A stream at its end stays there."""
    place, model = Cursor(range(3)), dict[tuple[int, str, int], At | None]()
    for key, at in moves:
        if at and model.get(key, at):
            place.move(key[0], key[1], at, key[2])
            model[key] = at
        elif at is None:
            place.end(*key)
            model[key] = None
    word = place.write()
    again = cursor.read(word, range(3))
    assert again == place
    assert again.write() == word
    assert all(again.ended(*key) if at is None else again.at(*key) == at for key, at in model.items())
    assert word.isascii()
    assert not set(word) & set(" \t\r\n")


def test_attempts_that_were_read_to_their_end_take_no_room() -> None:
    """A run may have a thousand attempts."""
    place = Cursor()
    for attempt in range(1, 1001):
        place.move(attempt, "output", At(7, 7))
        place.end(attempt, "output")
    place.move(1001, "output", At(0, 3))
    assert place.write() == "-1000.output.end,1001.output.0.3"
    assert not place.ended(1001, "output")


def test_attempt_has_ended_when_all_its_ranks_have() -> None:
    place = Cursor(range(2))
    place.end(1, "output", 1)
    assert place.write() == "1r1.output.end"
    assert not place.ended(1, "output", 0)
    place.end(1, "output", 0)
    assert place.write() == "-1.output.end"
    assert place.ended(1, "output", 1)


def test_reader_of_one_rank_needs_no_other_rank() -> None:
    """Otherwise its cursor would grow with each attempt."""
    place = Cursor((3,))
    place.end(1, "output", 3)
    assert place.write() == "-1.output.end"


@given(st.text() | st.from_regex(r"[-0-9a-z.,]{0,60}", fullmatch=True))
def test_text_is_invalid_or_one_cursor(text: str) -> None:
    """Text is Invalid or a cursor; each cursor is written in one way."""
    try:
        place = cursor.read(text)
    except Invalid:
        return
    assert cursor.read(place.write()) == place


def test_overlong_cursor_is_invalid() -> None:
    """A cursor that is too long is invalid, whatever its content."""
    with pytest.raises(Invalid):
        cursor.read(",".join(["1.output.0.0"] * 10_000))
