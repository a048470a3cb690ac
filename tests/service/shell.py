"""A double of SSH: commands and files are recorded."""

from collections.abc import Callable
from typing import Any

from provisioner.core import errors
from provisioner.core.cloud.host_keys import BEGIN, END
from provisioner.ports.shell import Host, Key
from provisioner.service.ami.bake import LIFETIME
from provisioner.service.ami.builder import REACH_LIMIT

KEYS = ("ssh-ed25519 AAAAhost",)
#: The console of a machine with these keys.
CONSOLE = f"[  12.3] cloud-init[9]: {BEGIN}\r\n[ 12.3] {KEYS[0]} root@ip\r\n{END}\r\n"
DIGEST = "registry.example/job@sha256:" + "1" * 64


class FakeShell:
    """A shell on every machine: it records files and commands, and fails at the step in `failing`."""

    def __init__(self) -> None:
        self.hosts: list[Host] = []
        self.sent: dict[str, bytes] = {}
        self.lines: list[str] = []
        self.failing = ""
        self.deaf = False
        self.closed = 0
        #: The return value of `connect`.
        self.session: Any = self

    def key(self) -> Key:
        return Key("ssh-ed25519 AAAAmine", b"private")

    def connect(self, host: Host, key: Key, timeout: float) -> Any:
        assert (key.private, timeout) == (b"private", REACH_LIMIT)
        self.hosts.append(host)
        if self.deaf:
            raise errors.Transient("timed out")
        return self.session

    def put(self, path: str, data: bytes) -> None:
        self.sent[path] = data

    def run(self, command: str, output: Callable[[bytes], None], timeout: float) -> int:
        assert 0 < timeout <= LIFETIME
        self.lines.append(command)
        output(f"{DIGEST}\n".encode() if command.startswith("cat ") else b"working\n")
        return 7 if self.failing and self.failing in command else 0

    def close(self) -> None:
        self.closed += 1
