"""The folder that agent and job share: what the job's first shell reads, and the pipes between them."""

from __future__ import annotations

import fcntl
import os
import re
import select
import shlex
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from provisioner.agent import mask, place
from provisioner.agent.spool import Stream
from provisioner.core.errors import Invalid

#: What `export` of a POSIX shell takes.
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

#: The file that a job may watch: PROVISION_REBALANCE_FILE, by `entry.sh`.
REBALANCE = "rebalance"

#: The most that a pipe takes before its writer waits, as far as the kernel lets anybody have (pipe(7)).
WIDE = 1 << 20

#: The most that is taken at once. Where there was less than `FEW`, what is written within so many seconds
#: is gathered: else a job that writes in small pieces would wake us for each.
TAKEN, FEW, GATHER = 1 << 18, 1 << 16, 0.005


class Exchange:
    """Variables, scripts and pipes for one job; variables never stand on a command line."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        setup: Mapping[str, bytes],
        command: str,
    ) -> None:
        """`setup` are files by name, for `entry.sh`; raises Invalid for what no shell can take."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        # The image's user, whoever it is, reads the files and writes the pipes.
        folder.chmod(0o755)
        self.folder = folder
        files = {
            "entry": Path(__file__).with_name("entry.sh").read_bytes(),
            "environment": exports(environment).encode(errors="surrogateescape"),
            **setup,
            "command": command.encode(errors="surrogateescape"),
        }
        for name, content in files.items():
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o644)
        # Both ends of these stay open here, so that the job's shell never meets an end of file.
        self._said = self._pipe("said", os.O_RDWR)
        self._go = self._pipe("go", os.O_RDWR)
        self.setup = self._wide(self._pipe("setup", os.O_RDONLY))
        self.output = self._wide(self._pipe("output", os.O_RDONLY))
        self._heard = b""

    def said(self, word: str) -> int | None:
        """The exit code that the job's shell has reported for a part, `setup` or `command`, if it has."""
        try:
            self._heard += os.read(self._said, 4096)
        except BlockingIOError:
            pass
        found = re.search(rf"^{word} ([0-9]+)$", self._heard.decode(errors="replace"), re.MULTILINE)
        return int(found[1]) if found else None

    def go(self) -> None:
        """Let the command execute."""
        os.write(self._go, b"go\n")

    def advise(self, at: float) -> None:
        """Tell the job that the cloud has recommended to move elsewhere; once is enough."""
        path = self.folder / REBALANCE
        if not path.exists():
            place.replace(path, time.strftime("%Y-%m-%dT%H:%M:%SZ\n", time.gmtime(at)).encode())
            path.chmod(0o644)

    def _pipe(self, name: str, flags: int) -> int:
        os.mkfifo(self.folder / name)
        (self.folder / name).chmod(0o666)
        return os.open(self.folder / name, flags | os.O_NONBLOCK)

    @staticmethod
    def _wide(pipe: int) -> int:
        try:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, WIDE)
        except OSError:
            # Whoever is not root may have so many pages in pipes and no more; then it stays as it is.
            pass
        return pipe


def exports(environment: Mapping[str, str]) -> str:
    """The variables as lines for a POSIX shell to read."""
    for name, value in environment.items():
        if not NAME.fullmatch(name):
            raise Invalid(f"{name!r} is no name for a variable of a shell")
        if "\0" in value:
            raise Invalid(f"the variable {name} holds a zero byte, which no environment can")
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())


class Pump(threading.Thread):
    """Carries bytes from a pipe into a stream, masked; while the stream's spool is full the writer waits."""

    def __init__(self, pipe: int, stream: Stream, secrets: mask.Mask) -> None:
        super().__init__(name=f"pump {stream.name}", daemon=True)
        self._pipe = pipe
        self._stream = stream
        self._masking = mask.Stream(secrets)
        self._over = threading.Event()
        #: Every writer has let go of the pipe.
        self.hung_up = threading.Event()

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        buffer = memoryview(bytearray(TAKEN))
        while True:
            over = self._over.is_set()
            events = poll.poll(0 if over else 50)
            taken = os.readv(self._pipe, [buffer]) if events and events[0][1] & select.POLLIN else 0
            if taken:
                self._stream.write(self._masking.feed(bytes(buffer[:taken])))
                if taken < FEW:
                    self._over.wait(GATHER)
            elif over:
                self._stream.write(self._masking.finish())
                return
            elif events:
                self.hung_up.set()
                self._over.wait(0.05)

    def finish(self) -> None:
        """Take what is in the pipe now, and stop; whoever still holds the pipe is not waited for."""
        self._over.set()
        self.join()
