"""The contract with a machine that somebody is in: commands run there, and their bytes go both ways.

Every method may raise `Transient` (nobody answers, or the line went dead) and `Misconfigured` (the
machine is not the one that it should be, or does not let us in).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from provisioner.ports.shell import Host, Key


@dataclass(frozen=True)
class Terminal:
    """What a person sits before: the value of TERM, and columns and rows."""

    kind: str
    size: tuple[int, int]


class Process(Protocol):
    """One command that runs over there; with a terminal both its streams are one."""

    def read(self, size: int, timeout: float | None = None) -> bytes | None:
        """The next bytes of its output, at most so many; none at its end, None after `timeout` seconds without any."""

    def write(self, data: bytes) -> None:
        """Give it the bytes as input; waits while it takes none."""

    def finish(self) -> None:
        """The end of its input."""

    def resize(self, size: tuple[int, int]) -> None:
        """The terminal's columns and rows from now on; from a signal handler too."""

    def attach(self, stdin: int, stdout: int, stderr: int) -> int:
        """Carry its streams from and to these file descriptors until it ends; its exit code."""

    def wait(self) -> tuple[int, str]:
        """Its exit code (128 + s when signal s ended it) once it has ended, and what it last said on standard error."""


class Connection(Protocol):
    """One open way in."""

    def start(self, words: Sequence[str], terminal: Terminal | None = None) -> Process:
        """Begin a command, each word as it is given; no words: a shell."""

    def close(self) -> None:
        """Hang up; may be repeated."""


class Connector(Protocol):
    def connect(self, host: Host, key: Key, timeout: float) -> Connection:
        """The way in, once the host has shown one of its keys; raises as above within `timeout` seconds."""
