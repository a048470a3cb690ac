"""Run the machine's tools (docker, git), and write their output to the system stream."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from provisioner.agent.outcomes import Ended, Halt
from provisioner.core.protocol.words import Outcome, Step

#: Number of lines of output that are kept for an error message. git prints this many lines about a submodule that it
#: tried twice, and the first of them has the cause.
LAST = 8


@dataclass(frozen=True)
class Answer:
    code: int
    #: The last lines of the tool's output.
    text: str


@dataclass(frozen=True)
class Tools:
    """Runs tools for one step, within its time limit, and logs their output."""

    step: Step
    halt: Halt
    #: The Unix time at which the step must be over, and the reason that Ended gives if the step takes longer.
    until: float
    limit: str
    say: Callable[[str], None]

    def run(self, *args: str, env: Mapping[str, str] | None = None) -> Answer:
        """Run a tool and return its exit code and last lines. `env` is added to the agent's environment.

        Kills the tool and raises Ended if the step must end before the tool has ended.
        """
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
        """Raise Ended if the step must end."""
        self.halt.check(self.step)
        if time.time() >= self.until:
            raise Ended(Outcome.LOST, self.step, self.limit)

    def sleep(self, seconds: float) -> None:
        """Wait, at most until the step's time limit; raise Ended if the job must stop meanwhile."""
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
    """Run a tool that ends quickly; return its exit code and its whole output, and log nothing."""
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
    """Kill the process and its group, if they still run."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
