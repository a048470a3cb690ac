"""The terminal that a person sits before, lent to a command elsewhere."""

import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator

from provisioner.ports.connection import Process, Terminal


def own() -> Terminal | None:
    """Ours; None where nobody sits before it."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    return Terminal(os.environ.get("TERM", "dumb"), _size())


def _size() -> tuple[int, int]:
    columns, rows = os.get_terminal_size(sys.stdout.fileno())
    return columns, rows


@contextlib.contextmanager
def lent(process: Process) -> Iterator[None]:
    """Inside, every key goes to the process, Ctrl-C too, and it learns of new sizes; afterwards all is as before."""
    keys, before = sys.stdin.fileno(), termios.tcgetattr(sys.stdin)
    resized = signal.signal(signal.SIGWINCH, lambda *_: process.resize(_size()))
    try:
        # What was typed ahead is kept.
        tty.setraw(keys, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, resized)
