"""The contract for a shell on a machine. The host key is checked before anything is sent.

Every method may raise `Transient` (the machine does not answer, or the connection broke) and `Misconfigured` (the
machine has a wrong host key, or rejects the login).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Key:
    """A key pair in the memory of this process: the private key is in no file, store or log."""

    #: The public key, as a line of authorized_keys.
    public: str
    #: The private key in OpenSSH's format; the repr omits it.
    private: bytes

    def __repr__(self) -> str:
        return f"<Key {self.public}>"


@dataclass(frozen=True)
class Host:
    """The address, port and user to log in to, and the host keys to accept."""

    address: str
    port: int
    user: str
    #: Each `kind base64`, as in known_hosts; a host without one of these keys is rejected.
    keys: Sequence[str]


class Session(Protocol):
    """One open connection."""

    def put(self, path: str, data: bytes) -> None:
        """Write the whole file, replacing an existing one."""

    def run(self, command: str, output: Callable[[bytes], None], timeout: float) -> int:
        """Run the line in the user's shell; return its exit code.

        The command's output and standard error are passed to `output` as they arrive. Raises `Transient` after
        `timeout` seconds.
        """

    def close(self) -> None:
        """Close the connection, also if commands still run."""


class Shell(Protocol):
    def key(self) -> Key:
        """Return a new key pair."""

    def connect(self, host: Host, key: Key, timeout: float) -> Session:
        """Connect to a host that has one of `host.keys`; raises Transient or Misconfigured within `timeout` seconds."""
