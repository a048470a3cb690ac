"""Control the QEMU process of one machine over QMP (QEMU documentation, "QMP protocol specification")."""

import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from provisioner.core.errors import ProvisionError

#: Name of the socket in the machine's folder.
SOCKET = "monitor"


class Unheard(ProvisionError):
    """QEMU has exited or rejects a command, or the guest does not carry the command out in time."""


class Monitor:
    """A context manager for one connection to QEMU; raises Unheard after `patience` seconds in all."""

    def __init__(self, folder: Path, patience: float) -> None:
        self._end = time.monotonic() + patience
        self._socket = socket.socket(socket.AF_UNIX)
        # Connect through a descriptor: a socket's path must be short, and the path of a machine's folder may be long.
        here = os.open(folder, os.O_PATH)
        try:
            self._socket.connect(f"/proc/self/fd/{here}/{SOCKET}")
        except OSError as error:
            self._socket.close()
            raise Unheard(f"QEMU does not answer: {error}") from error
        finally:
            os.close(here)
        self._file = self._socket.makefile("rb")
        #: Events that were read while waiting for an answer: an event may arrive before the answer.
        self._events: list[str] = []

    def __enter__(self) -> Self:
        self._read()
        self.execute("qmp_capabilities")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._socket.close()

    def execute(self, command: str, **arguments: str) -> None:
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self._events.clear()
        while "return" not in (said := self._read()):
            if "error" in said:
                raise Unheard(f"{command}: {said['error']['desc']}")
            self._events.append(said.get("event", ""))

    def wait_for(self, event: str) -> None:
        """Wait for an event that the last command causes."""
        while event not in self._events:
            self._events.append(self._read().get("event", ""))

    def _read(self) -> dict[str, Any]:
        self._socket.settimeout(max(0.001, self._end - time.monotonic()))
        try:
            line = self._file.readline()
        except OSError as error:
            raise Unheard(f"no answer from QEMU: {error or 'timed out'}") from error
        if not line:
            raise Unheard("QEMU has exited")
        said: dict[str, Any] = json.loads(line)
        return said
