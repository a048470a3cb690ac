"""Commands as root in a test's virtual machine, through QEMU's guest agent."""

import base64
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioner.rehearsal.machines.virtual.qemu import WAY_IN


@dataclass(frozen=True)
class Said:
    code: int
    text: str


def ask(folder: Path, script: str) -> Said:
    """Run the script on the machine with this folder, and wait for its end."""
    with _Agent(folder) as agent:
        pid = _begin(agent, script)
        while not (status := agent.execute("guest-exec-status", {"pid": pid}))["exited"]:
            time.sleep(0.5)
        said = b"".join(base64.b64decode(status.get(name, "")) for name in ("out-data", "err-data"))
        return Said(status.get("exitcode", 128 + status.get("signal", 0)), said.decode(errors="replace"))


def tell(folder: Path, script: str) -> None:
    """Start the script without waiting, since it may end the machine."""
    with _Agent(folder) as agent:
        _begin(agent, script)


def _begin(agent: "_Agent", script: str) -> int:
    return int(agent.execute("guest-exec", {"path": "sh", "arg": ["-c", script], "capture-output": True})["pid"])


class _Agent:
    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(300)
        # A socket's path must be short, and a test's folder is deep.
        here = os.open(folder, os.O_PATH)
        try:
            self._socket.connect(f"/proc/self/fd/{here}/{WAY_IN}")
        finally:
            os.close(here)
        self._file = self._socket.makefile("rwb")

    def __enter__(self) -> "_Agent":
        self.execute("guest-sync", {"id": os.getpid()})
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def execute(self, command: str, arguments: dict[str, Any]) -> Any:
        self._file.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self._file.flush()
        answer = json.loads(self._file.readline())
        if "error" in answer:
            raise RuntimeError(f"{command}: {answer['error']}")
        return answer["return"]
