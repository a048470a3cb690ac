"""Colour words by what they mean: states, outcomes and errors."""

import os
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import TextIO

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.states import State


class When(StrEnum):
    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


#: SGR codes (ECMA-48): the 16 colours, which every terminal shows in its own theme.
GREEN, RED, YELLOW, CYAN, DIM, BOLD = "32", "31", "33", "36", "2", "1"

OF_WORDS: Mapping[str, str] = {
    **dict.fromkeys((Outcome.FAILED, Outcome.LOST, Outcome.REFUSED), RED),
    **dict.fromkeys((Outcome.INTERRUPTED, Outcome.TIMED_OUT, Outcome.CANCELLED), YELLOW),
    Outcome.SUCCEEDED: GREEN,
    State.RUNNING: CYAN,
    State.QUEUED: DIM,
}

_chosen = When.AUTO


def choose(when: When) -> None:
    """Set for this process when to use colours: `--color`."""
    global _chosen
    _chosen = when


def used(stream: TextIO) -> bool:
    """Return whether to write colours to the stream; by default on a terminal without NO_COLOR (no-color.org)."""
    if _chosen is not When.AUTO:
        return _chosen is When.ALWAYS
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, code: str, stream: TextIO | None = None) -> str:
    """Return the text in the colour `code`, for standard output or another stream."""
    return f"\x1b[{code}m{text}\x1b[0m" if code and used(stream or sys.stdout) else text


def word(text: str) -> str:
    """Return a table's cell for standard output; if it is a state or an outcome, in the colour of that word."""
    return paint(text, OF_WORDS.get(text.strip(), ""))
