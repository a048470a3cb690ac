"""Write to standard output and standard error, so that untrusted text, such as a job's, cannot control a terminal."""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from provisioner.core.plain import plain
from provisioner.faces.cli.terminal import colours

#: Columns between two columns of a table.
GAP = 2

#: Moves to the beginning of the line and erases it (ECMA-48, EL).
ERASE = "\r\x1b[K"


class OutputLost(Exception):
    """Standard output cannot be written; the message is that of the operating system."""


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Context in which a write error of standard output is raised as OutputLost, except BrokenPipeError."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(error.strerror or str(error)) from error


@contextlib.contextmanager
def going_on(text: str) -> Iterator[None]:
    """Context in which OutputLost ends the output but not the command; the error line ends with `text`."""
    try:
        yield
    except OutputLost as error:
        discard_output()
        complain(f"standard output cannot be written: {error}; {text}")


def discard_output() -> None:
    """Discard all further output, also buffered output, which the interpreter would fail to write when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str) -> None:
    """Print a line on standard error, apart from the command's output."""
    draw(f"{plain(text)}\n")


def draw(text: str) -> None:
    """Write to standard error. A write error is ignored: it must not change what the command does or returns."""
    with contextlib.suppress(OSError):
        print(text, end="", file=sys.stderr, flush=True)


def put(text: str = "") -> None:
    """Print a line of a command's output. Parts of it may be untrusted: control characters are escaped."""
    with writing():
        print(plain(text), flush=True)


def put_bytes(data: bytes) -> None:
    """Write bytes of a command's output as they are to a pipe or a file; a terminal gets no escape sequences."""
    if sys.stdout.isatty():
        from provisioner.core.escapes import shown

        data = shown(data).encode(sys.stdout.encoding, "replace")
    with writing():
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def put_text(data: bytes | str) -> None:
    """Print untrusted text of several lines; on a terminal without escape sequences except colours."""
    from provisioner.core.escapes import shown

    text = data.decode(errors="replace") if isinstance(data, bytes) else data
    with writing():
        print(shown(text.encode(errors="surrogatepass")) if sys.stdout.isatty() else text, flush=True)


def complain(text: str) -> None:
    """Print an error on standard error; each line of the text gets the prefix `provision:`."""
    for line in text.splitlines():
        draw(f"{colours.paint('provision:', colours.RED, sys.stderr)} {plain(line)}\n")


def width() -> int | None:
    """Return the columns of the terminal; None if standard output is no terminal, so that lines need no wrapping."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def put_json(value: Any, *, indent: int | None = 2) -> None:
    with writing():
        print(json.dumps(value, indent=indent), flush=True)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns as wide as their content; on a narrow terminal the last column is cut and ends in "…".

    Cells that are a state or an outcome are coloured.
    """
    lines = [list(heads), *[[plain(cell) for cell in row] for row in rows]]
    widths = [max(len(line[index]) for line in lines) for index in range(len(heads))]
    room, taken = width(), sum(widths[:-1]) + GAP * (len(widths) - 1)
    if room is not None:
        widths[-1] = min(widths[-1], max(room - taken, len(heads[-1])))
    with writing():
        for line in lines:
            cells = [_cut(cell, width).ljust(width) for cell, width in zip(line, widths, strict=True)]
            cells[-1] = cells[-1].rstrip()
            painted = cells if line is lines[0] else [colours.word(cell) for cell in cells]
            print((" " * GAP).join(painted).rstrip())
        sys.stdout.flush()


def _cut(text: str, width: int) -> str:
    """Return the text in at most `width` columns; a cut text ends in "…"."""
    return text if len(text) <= width else f"{text[: width - 1].rstrip()}…"
