"""The contract for a connection to a machine, to start commands there and transfer their input and output.

Every method may raise `Transient` (the machine does not answer, or the connection broke) and `Misconfigured` (the
machine has a wrong host key, or rejects the login).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from provisioner.ports.shell import Host, Key


@dataclass(frozen=True)
class Terminal:
    """A user's terminal: the value of TERM, and the number of columns and rows."""

    kind: str
    size: tuple[int, int]


class Process(Protocol):
    """A command that runs on the machine. With a terminal, its output and standard error are one stream."""

    def read(self, size: int, timeout: float | None = None) -> bytes | None:
        """Return the next output, up to `size` bytes; empty at its end, None if there is none for `timeout` seconds."""

    def write(self, data: bytes) -> None:
        """Write the bytes to the command's input; waits while the command reads none."""

    def finish(self) -> None:
        """Close the command's input."""

    def resize(self, size: tuple[int, int]) -> None:
        """Set the terminal's columns and rows; may be called from a signal handler."""

    def attach(self, stdin: int, stdout: int, stderr: int) -> int:
        """Copy the streams from and to these file descriptors until the command ends; return its exit code."""

    def wait(self) -> tuple[int, str]:
        """Wait for the command's end; return its exit code (128 + s for signal s) and the end of its standard error."""


class Connection(Protocol):
    """One open connection."""

    def start(self, words: Sequence[str], terminal: Terminal | None = None) -> Process:
        """Start a command with exactly these words as its arguments, or a shell if there are none."""

    def close(self) -> None:
        """Close the connection; may be repeated."""


class Connector(Protocol):
    def connect(self, host: Host, key: Key, timeout: float) -> Connection:
        """Connect to a host that has one of `host.keys`; raises Transient or Misconfigured within `timeout` seconds."""
