"""The user's terminal, connected to a command on another machine."""

import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator

from provisioner.ports.connection import Process, Terminal


def own() -> Terminal | None:
    """Return this process's terminal; None if standard input or output is not a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    return Terminal(os.environ.get("TERM", "dumb"), _size())


def _size() -> tuple[int, int]:
    columns, rows = os.get_terminal_size(sys.stdout.fileno())
    return columns, rows


@contextlib.contextmanager
def lent(process: Process) -> Iterator[None]:
    """Context in which the process gets every key, also Ctrl-C, and new window sizes; restores the terminal at exit."""
    keys, before = sys.stdin.fileno(), termios.tcgetattr(sys.stdin)
    resized = signal.signal(signal.SIGWINCH, lambda *_: process.resize(_size()))
    try:
        # TCSADRAIN keeps keys that were typed ahead.
        tty.setraw(keys, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, resized)
