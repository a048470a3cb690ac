"""Read the lines of a file of values, and encode the commands of a list for an upload."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from provisioner.core.errors import Invalid
from provisioner.core.recipe.fields import LONGEST_ARGUMENT
from provisioner.core.run.lists.uploading import NAMED_MOST, named

#: Number of commands that are encoded together.
TOGETHER = 1000


@dataclass(frozen=True)
class Text:
    """The commands of a list as a text for an upload."""

    pieces: Iterable[bytes]
    #: Whether each command ends with a NUL byte, so that it may have several lines, and not with its line.
    null: bool


def values(pieces: Iterable[bytes]) -> Iterator[str]:
    """Yield the lines of a text in UTF-8. Raises Invalid for wrong lines; the message names at most NAMED_MOST."""
    wrong = list[str]()
    for number, line in enumerate(_split(pieces), 1):
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            wrong.append(f"line {number}: byte {error.start + 1} is no UTF-8; write the values in UTF-8")
        else:
            if text.strip():
                yield text
                continue
            wrong.append(f"line {number}: it is blank; write a value, or leave it out")
        if len(wrong) > NAMED_MOST:
            break
    if wrong:
        raise Invalid(named(wrong))


def _split(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        if len(rest) > LONGEST_ARGUMENT + 1:
            # The line may have no end, as in /dev/zero. It is already longer than any command may be, so the check of
            # the command will raise.
            break
    if rest:
        yield rest


def encoded(commands: Iterable[str]) -> Text:
    """Return the text of these commands."""
    return Text(_pieces(commands), null=True)


def _pieces(commands: Iterable[str]) -> Iterator[bytes]:
    numbered = enumerate(commands)
    while several := list(islice(numbered, TOGETHER)):
        for index, command in several:
            if "\0" in command:
                raise Invalid(f"command {index}: it must not contain a NUL character")
        # Let half of a surrogate pair pass: the check of the upload reports that it is not UTF-8.
        yield "".join(f"{command}\0" for _, command in several).encode(errors="surrogatepass")
