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


def cut(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the parts of a list: the number of commands, and their texts with a NUL byte after each.

    `pieces` is the text of the list in pieces of any size. The parts do not depend on these sizes. At most about the
    bytes of a part are kept. Raises Invalid as the port `Uploads` says.
    """
    part, count = bytearray(), 0
    for lines in _checked(_blocks(pieces)):
        for line in lines:
            part += line
            part += b"\0"
            count += 1
            if count == PART_COMMANDS or len(part) >= PART_BYTES:
                yield count, bytes(part)
                part, count = bytearray(), 0
    if count:
        yield count, bytes(part)


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the text in blocks of whole lines; the last line has LF at its end, too."""
    rest, taken = bytearray(), 0
    for piece in pieces:
        taken += len(piece)
        if taken > MOST_BYTES:
            raise Invalid(f"the list has more than {MOST_BYTES:,} bytes; split it")
        for at in range(0, len(piece), _BLOCK):
            found = piece[at : at + _BLOCK]
            end = found.rfind(b"\n") + 1
            if end:
                yield bytes(rest) + found[:end]
                rest = bytearray(found[end:])
            else:
                rest += found
                if len(rest) > fields.LONGEST_ARGUMENT + 1:
                    # The line is too long, wherever it ends. The check of this block raises.
                    yield bytes(rest) + b"\n"
                    return
    if rest:
        yield bytes(rest) + b"\n"


def _checked(blocks: Iterable[bytes]) -> Iterator[Sequence[bytes]]:
    """Yield the lines of each block without their ends. After the first wrong line, only look for further ones."""
    total, wrong = 0, list[str]()
    for block in blocks:
        lines = block.replace(b"\r\n", b"\n").split(b"\n")
        lines.pop()
        if not _is_plain(block, lines):
            wrong += islice(_problems(lines, total), NAMED_MOST + 1)
            if len(wrong) > NAMED_MOST:
                raise Invalid("\n".join([*wrong[:NAMED_MOST], "more lines are wrong"]))
        total += len(lines)
        if total > MOST_COMMANDS:
            raise Invalid(f"the list has more than {MOST_COMMANDS:,} lines; split it")
        if not wrong:
            yield lines
    if wrong:
        raise Invalid("\n".join(wrong))
    if not total:
        raise Invalid("the list has no line; write one command in each line")


def _is_plain(block: bytes, lines: Sequence[bytes]) -> bool:
    """Return whether all lines are right; False if a line has to be checked alone. Takes little time for each line."""
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    firsts = {line[:1] for line in lines}
    return b"\0" not in block and firsts <= _PLAIN and max(map(len, lines)) <= fields.LONGEST_ARGUMENT


def _problems(lines: Sequence[bytes], before: int) -> Iterator[str]:
    """Yield what is wrong with the lines; `before` is the number of lines before them."""
    for number, line in enumerate(lines, before + 1):
        try:
            if not line.strip():
                raise ValueError("it is blank; write a command, or remove the line")
            # Of a line that is too long, the end may be missing.
            fields.shell_line(line.decode(errors="replace" if len(line) > fields.LONGEST_ARGUMENT else "strict"))
        except UnicodeDecodeError as error:
            yield f"line {number}: byte {error.start + 1} is no UTF-8; write the commands in UTF-8"
        except ValueError as error:
            yield f"line {number}: {error}"
