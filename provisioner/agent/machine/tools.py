"""Run the machine's programs (docker, git, nvidia-smi), each within a time limit. No other module starts a program."""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from provisioner.agent.outcomes import Ended, Halt
from provisioner.core.protocol.words import Outcome, Step

#: Number of lines of output that are kept for an error message. git prints this many lines about a submodule that it
#: tried twice, and the first of them has the cause.
LAST = 8

#: Maximum seconds for a program that only looks, and for one that changes something, such as `docker create`.
LOOK, CHANGE = 30.0, 120.0

#: Maximum seconds to wait for the end of a process after SIGKILL. A process in an uninterruptible sleep (state D in
#: ps(1)), as a GPU driver that hangs causes, does not end; the agent then goes on without waiting for it.
STUCK = 5.0

#: The exit code of a program that had not ended at its time limit, as timeout(1) returns it.
OVERDUE = 124

#: Maximum bytes of output that are read. The kernel's log, the longest output, has some MB.
MOST = 64 << 20

#: Seconds between two calls of `meanwhile` while a program runs.
TURN = 0.25


#: A running program.
Program = subprocess.Popen[bytes]


class Output(Enum):
    """What is read of a program's output: standard output and standard error, as arguments of Popen."""

    ALL = subprocess.PIPE, subprocess.STDOUT
    NO_ERRORS = subprocess.PIPE, subprocess.DEVNULL
    NONE = subprocess.DEVNULL, subprocess.DEVNULL
    #: The program writes to the agent's own output, which is the machine's console.
    CONSOLE = None, None


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
        process = spawn(args, Output.ALL, env=env)
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

    def _read(self, tool: str, process: Program, lines: list[str]) -> None:
        for line in lines_of(process):
            if line:
                lines.append(line)
                self.say(f"{tool}: {line}")


def ask(args: Sequence[str], limit: float = LOOK, meanwhile: Callable[[], None] = lambda: None) -> Answer:
    """Run a tool for at most `limit` seconds; return its exit code and its whole output, and log nothing.

    The code of a tool that takes longer is OVERDUE; the tool is killed. `meanwhile` is called again and again while the
    tool runs; if it raises an error, the tool is killed.
    """
    code, data = output(args, limit, meanwhile=meanwhile)
    text = data.decode(errors="replace").strip()
    if code == OVERDUE:
        text = "; ".join(filter(None, [f"{args[0]} did not end within {limit:.0f} s and was killed", text]))
    return Answer(code, text)


def output(
    args: Sequence[str],
    limit: float,
    *,
    env: Mapping[str, str] | None = None,
    wanted: Output = Output.ALL,
    most: int = MOST,
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[int, bytes]:
    """Run a tool as `ask` does; return its exit code and its output. A tool that prints over `most` bytes is killed."""
    end = time.monotonic() + limit
    process = spawn(args, wanted, env=env)
    pieces: list[bytes] = []
    code = None
    assert process.stdout is not None
    with process.stdout as pipe:
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        room = most
        try:
            while room > 0 and (left := end - time.monotonic()) > 0:
                meanwhile()
                if not poll.poll(min(left, TURN) * 1000):
                    continue
                piece = os.read(pipe.fileno(), min(room, 1 << 16))
                if not piece:
                    code = process.wait(max(0.0, end - time.monotonic()))
                    break
                pieces.append(piece)
                room -= len(piece)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if code is None:
                kill(process)
    return OVERDUE if code is None else code, b"".join(pieces)


def spawn(
    args: Sequence[str],
    wanted: Output = Output.NONE,
    *,
    env: Mapping[str, str] | None = None,
    whole_env: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> Program:
    """Start a program in a session of its own, and return it; the caller limits its time and ends it with `kill`.

    `env` is added to the agent's environment; `whole_env` replaces it.
    """
    stdout, stderr = wanted.value
    return subprocess.Popen(
        args,
        cwd=cwd,
        env=whole_env if whole_env is not None else {**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )


def lines_of(process: Program) -> Iterator[str]:
    """Yield the lines that a process prints, without blanks around them, until it closes its output."""
    assert process.stdout is not None
    # A carriage return ends a line, too: progress bars use it.
    with io.TextIOWrapper(process.stdout, "utf-8", "replace") as pipe:
        for line in pipe:
            yield line.strip()


def kill(process: Program) -> None:
    """Kill the process and its group, if they still run; wait at most STUCK seconds for the process's end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STUCK)
