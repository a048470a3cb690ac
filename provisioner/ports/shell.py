"""The contract with a shell on a machine: a way in that is checked before anything is said through it.

Every method may raise `Transient` (nobody answers, or the line went dead) and `Misconfigured` (the
machine is not the one that it should be, or does not let us in).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Key:
    """A key pair of this process: the private half is in no file, store or log."""

    #: As a line of authorized_keys.
    public: str
    #: In OpenSSH's own form; not shown with the rest.
    private: bytes

    def __repr__(self) -> str:
        return f"<Key {self.public}>"


@dataclass(frozen=True)
class Host:
    """Where to knock, and by what to know who opens."""

    address: str
    port: int
    user: str
    #: Each `kind base64`, as in known_hosts; a host with none of them is refused.
    keys: Sequence[str]


class Session(Protocol):
    """One open way in."""

    def put(self, path: str, data: bytes) -> None:
        """Write the file, whole, over whatever was there."""

    def run(self, command: str, output: Callable[[bytes], None], timeout: float) -> int:
        """Run the line in the user's shell; both its streams go to `output` as they come; its exit code.

        After `timeout` seconds it is given up: `Transient`.
        """

    def close(self) -> None:
        """Hang up; what still runs over there is cut off."""


class Shell(Protocol):
    def key(self) -> Key:
        """A fresh key pair."""

    def connect(self, host: Host, key: Key, timeout: float) -> Session:
        """The way in, once the host has shown one of its keys; raises as above within `timeout` seconds."""
