"""Check the lines of an uploaded list of commands, and cut them into parts."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from provisioner.core.commands.uploads import MOST_BYTES, MOST_COMMANDS, PART_BYTES, PART_COMMANDS
from provisioner.core.errors import Invalid
from provisioner.core.recipe import fields

#: Maximum number of wrong lines that an error names.
NAMED_MOST = 5
#: Number of bytes that are checked at once.
_BLOCK = 1 << 20
#: The first bytes of most lines: a line with another first byte is checked alone. It may be blank, or an option.
_PLAIN = frozenset(bytes([code]) for code in range(0x21, 0x7F)) - {b"-"}


def cut(pieces: Iterable[bytes], *, null: bool = False) -> Iterator[tuple[int, bytes]]:
    """Yield the parts of a list: the number of commands, and their texts with a NUL byte after each.

    `pieces` is the text of the list in pieces of any size, which does not change the parts. About one part is in memory
    at a time. With `null`, commands end with a NUL byte and may have several lines. Raises Invalid as described in
    `Uploads.add` of the port.
    """
    part, count, end = bytearray(), 0, b"\0" if null else b"\n"
    for lines in _checked(_blocks(pieces, end), end):
        for line in lines:
            part += line
            part += b"\0"
            count += 1
            if count == PART_COMMANDS or len(part) >= PART_BYTES:
                yield count, bytes(part)
                part, count = bytearray(), 0
    if count:
        yield count, bytes(part)


def _blocks(pieces: Iterable[bytes], end: bytes) -> Iterator[bytes]:
    """Yield the text in blocks of whole lines, which end with `end`; also the last one."""
    rest, taken = bytearray(), 0
    for piece in pieces:
        taken += len(piece)
        if taken > MOST_BYTES:
            raise Invalid(f"the list has more than {MOST_BYTES:,} bytes; split it")
        for at in range(0, len(piece), _BLOCK):
            found = piece[at : at + _BLOCK]
            whole = found.rfind(end) + 1
            if whole:
                yield bytes(rest) + found[:whole]
                rest = bytearray(found[whole:])
            else:
                rest += found
                if len(rest) > fields.LONGEST_ARGUMENT + 1:
                    # The line is too long, wherever it ends. The check of this block raises.
                    yield bytes(rest) + end
                    return
    if rest:
        yield bytes(rest) + end


def _checked(blocks: Iterable[bytes], end: bytes) -> Iterator[Sequence[bytes]]:
    """Yield the lines of each block without their ends. After the first wrong line, only look for further ones."""
    total, wrong = 0, list[str]()
    for block in blocks:
        lines = block.replace(b"\r\n", b"\n").split(end)
        lines.pop()
        if not _is_plain(block, lines, end):
            # Commands have numbers from 0, and lines from 1.
            what, first = ("command", total) if end == b"\0" else ("line", total + 1)
            wrong += islice((f"{what} {number}: {why}" for number, why in _problems(lines, first)), NAMED_MOST + 1)
            if len(wrong) > NAMED_MOST:
                break
        total += len(lines)
        if total > MOST_COMMANDS:
            raise Invalid(f"the list has more than {MOST_COMMANDS:,} lines; split it")
        if not wrong:
            yield lines
    if wrong:
        raise Invalid(named(wrong))
    if not total:
        raise Invalid("the list has no line; write one command in each line")


def named(wrong: Sequence[str]) -> str:
    """Return the text of an error that names the first of these problems, and says whether there are more."""
    more = ["more are wrong"] if len(wrong) > NAMED_MOST else []
    return "\n".join([*wrong[:NAMED_MOST], *more])


def _is_plain(block: bytes, lines: Sequence[bytes], end: bytes) -> bool:
    """Return whether all lines are right; False if a line has to be checked alone. Takes little time for each line."""
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    firsts = {line[:1] for line in lines}
    return (end == b"\0" or b"\0" not in block) and firsts <= _PLAIN and max(map(len, lines)) <= fields.LONGEST_ARGUMENT


def _problems(lines: Sequence[bytes], first: int) -> Iterator[tuple[int, str]]:
    """Yield what is wrong with the lines, with the number of the line; `first` is that of the first one."""
    for number, line in enumerate(lines, first):
        try:
            if not line.strip():
                raise ValueError("it is blank; write a command, or leave it out")
            # Of a line that is too long, the end may be missing.
            fields.shell_line(line.decode(errors="replace" if len(line) > fields.LONGEST_ARGUMENT else "strict"))
        except UnicodeDecodeError as error:
            yield number, f"byte {error.start + 1} is no UTF-8; write the commands in UTF-8"
        except ValueError as error:
            yield number, str(error)
