"""Runs the tools of the machine (docker, git) with their words in the system stream."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from provisioner.agent.outcomes import Ended, Halt
from provisioner.core.protocol.messages import Outcome, Step

#: git tells of a submodule in so many lines, tried twice, and the first of them says why.
LAST = 8


@dataclass(frozen=True)
class Answer:
    code: int
    #: The last words of the tool, for a reader and for the verdict.
    text: str


@dataclass(frozen=True)
class Outside:
    """How a step runs tools: until when, and in whose hearing."""

    step: Step
    halt: Halt
    #: When the step must be over, and what to say then.
    until: float
    limit: str
    say: Callable[[str], None]

    def run(self, *args: str, env: Mapping[str, str] | None = None) -> Answer:
        """Raises Ended when the step must end before the tool does; the tool ends too."""
        self.halt.check(self.step)
        process = subprocess.Popen(
            args,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
            text=True,
            errors="replace",
        )
        lines: list[str] = []
        reader = threading.Thread(target=self._read, args=(args[0], process, lines), daemon=True)
        reader.start()
        try:
            while process.poll() is None:
                self.check()
                time.sleep(0.02)
        finally:
            kill(process)
        reader.join(1)
        return Answer(process.returncode, "; ".join(lines[-LAST:]))

    def check(self) -> None:
        """Raises Ended when the step must end."""
        self.halt.check(self.step)
        if time.time() >= self.until:
            raise Ended(Outcome.LOST, self.step, self.limit)

    def sleep(self, seconds: float) -> None:
        """Wait, unless the step must end."""
        end = min(time.time() + seconds, self.until)
        while time.time() < end:
            self.halt.check(self.step)
            time.sleep(0.05)

    def _read(self, tool: str, process: subprocess.Popen[str], lines: list[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                if line.strip():
                    lines.append(line.strip())
                    self.say(f"{tool}: {line.strip()}")


def ask(args: Sequence[str]) -> Answer:
    """A tool's quick answer, its output whole, unheard by the log."""
    done = subprocess.run(
        args,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return Answer(done.returncode, done.stdout.strip())


def kill(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """End the process and all of its group, if they still run."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
