"""The lines of a file of values, and the text of commands for an upload."""

from collections.abc import Iterator

import pytest

from provisioner.core.errors import Invalid
from provisioner.core.recipe.fields import LONGEST_ARGUMENT
from provisioner.core.run.lists.uploading import cut
from provisioner.faces.lists.lines import encoded, values


def problems(*pieces: bytes) -> list[str]:
    with pytest.raises(Invalid) as caught:
        list(values(pieces))
    return str(caught.value).splitlines()


def test_lines_do_not_depend_on_the_pieces() -> None:
    text = "-x\r\na 'b'\nü \n{}".encode()
    for size in (1, 2, 3, 100):
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        assert list(values(pieces)) == ["-x", "a 'b'", "ü ", "{}"]
    assert list(values([])) == list(values([b""])) == []


def test_wrong_values_are_named_by_their_lines() -> None:
    blank = "it is blank; write a value, or leave it out"
    assert problems(b"a\n\n\t\nb\xff\n") == [
        f"line 2: {blank}",
        f"line 3: {blank}",
        "line 4: byte 2 is no UTF-8; write the values in UTF-8",
    ]
    assert problems(b"\n" * 6)[4:] == [f"line 5: {blank}", "more are wrong"]


def test_long_value_is_cut() -> None:
    """It may have no end, as that of /dev/zero. The check of the command says that it is too long."""
    pieces = [b"a\n", *[b"x" * 1000] * 1000]
    first, second = values(pieces)
    assert (first, len(second) < 2 * LONGEST_ARGUMENT) == ("a", True)


def test_commands_are_encoded_in_several_pieces_as_they_are_made() -> None:
    made = 0

    def commands() -> Iterator[str]:
        nonlocal made
        for made in range(5000):
            yield f"echo\n{made}"

    text = encoded(commands())
    first = next(iter(text.pieces))
    assert made < 2000
    assert [count for count, _ in cut([first, *text.pieces], null=text.null)] == [5000]


def test_command_with_a_nul_byte_is_refused_and_not_split() -> None:
    with pytest.raises(Invalid, match=r"^command 1: it must not contain a NUL character"):
        list(encoded(["a", "b\0c"]).pieces)
