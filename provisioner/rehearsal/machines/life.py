"""Run a machine as processes of this computer, keep its console output, and leave no process or file behind."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

#: EC2 keeps the last 64 KB of a console (EC2 API Reference, GetConsoleOutput).
CONSOLE = 64 * 1024

#: Python for programs that need only the standard library: isolated, and quick to start.
PYTHON = (sys.executable, "-I", "-S")


class Life:
    """A machine that starts with this object. It ends when its command or this process exits, or `end` is called."""

    def __init__(
        self, folder: Path, command: Sequence[str], environment: Mapping[str, str], powered_off: Callable[[], None]
    ) -> None:
        """`folder` is deleted when the machine ends; `powered_off` is called if the command has exited by itself.

        Without a command, this object only keeps the folder until the end.
        """
        self._powered_off = powered_off
        self._console = b""
        self._ended_from_outside = False
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [*PYTHON, str(Path(__file__).with_name("supervisor.py")), str(folder), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        threading.Thread(target=self._watch, name=folder.name, daemon=True).start()

    @property
    def console(self) -> str:
        return self._console.decode(errors="replace")

    def end(self) -> None:
        """End the machine; return when its processes have ended and its folder is deleted. May be repeated."""
        self._ended_from_outside = True
        self.let_go()
        self._process.wait()

    def let_go(self) -> None:
        """Close the pipe to the supervisor, which ends the machine at the end of file."""
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.close()

    def _watch(self) -> None:
        assert self._process.stdout is not None
        while data := os.read(self._process.stdout.fileno(), 65536):
            self._console = (self._console + data)[-CONSOLE:]
        self._process.wait()
        self._process.stdout.close()
        self.let_go()
        if not self._ended_from_outside:
            self._powered_off()
