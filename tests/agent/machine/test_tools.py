"""Programs of the machine run within time limits, whatever they do."""

import os
import signal
import subprocess
import threading
import time

import pytest

from provisioner.agent.machine import tools
from provisioner.agent.machine.tools import OVERDUE, Answer, Output, Tools, ask, output
from provisioner.agent.outcomes import Ended, Halt
from provisioner.core.protocol.words import Step
from tests.polling import until

#: Ignores every signal that can be ignored.
DEAF = "trap '' TERM INT HUP; echo up; while :; do sleep 600; done"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_tool_that_never_ends_is_killed_at_its_limit() -> None:
    """The answer has the exit code of timeout(1), what happened, and the output."""
    answer = ask(["sh", "-c", DEAF], 0.3)
    assert (answer.code, answer.text) == (OVERDUE, "sh did not end within 0 s and was killed; up")


def test_a_tool_that_closes_its_output_and_stays_is_killed_at_its_limit() -> None:
    """The end of the output is not the end of the program."""
    assert ask(["sh", "-c", "exec >/dev/null 2>&1; sleep 600"], 0.3).code == OVERDUE


def test_a_tool_whose_descendant_keeps_the_output_open_is_given_up() -> None:
    """The descendant has its own session, so that no signal reaches it."""
    code, data = output(["sh", "-c", "setsid sh -c 'echo $$; exec sleep 600' & wait"], 0.5)
    assert code == OVERDUE
    os.kill(int(data), signal.SIGKILL)


def test_a_killed_process_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an uninterruptible sleep (state D), which a hung GPU driver causes, a process survives SIGKILL for ever."""
    ended = threading.Event()

    class Stuck(subprocess.Popen[bytes]):
        """A program that no signal ends."""

        def wait(self, timeout: float | None = None) -> int:
            assert timeout is not None, "a wait without a limit"
            if not ended.is_set():
                raise subprocess.TimeoutExpired("stuck", timeout)
            return super().wait(timeout)

    started: list[Stuck] = []

    def spawn(args: list[str], *_: object, **__: object) -> Stuck:
        started.append(Stuck(args, stdout=subprocess.PIPE, start_new_session=True))
        return started[0]

    monkeypatch.setattr(tools, "spawn", spawn)
    assert ask(["sh", "-c", DEAF], 0.3).code == OVERDUE
    ended.set()
    started[0].wait(10)


def test_a_reason_to_end_found_meanwhile_kills_the_tool() -> None:
    """The kernel's log or an order may end the step while a tool hangs."""
    seen: list[int] = []

    def meanwhile() -> None:
        if len(seen) == 2:
            raise LookupError
        seen.append(0)

    began = time.monotonic()
    with pytest.raises(LookupError):
        ask(["sh", "-c", DEAF], 600, meanwhile)
    assert time.monotonic() - began < 600


def test_a_tool_that_prints_without_end_is_killed() -> None:
    """Only so many bytes are kept."""
    code, data = output(["sh", "-c", "echo $$; exec cat /dev/zero"], 600, most=1 << 20)
    assert (code, len(data)) == (OVERDUE, 1 << 20)
    pid = int(data.partition(b"\n")[0])
    until(lambda: not alive(pid), "the end of the program")


def test_a_tool_that_ends_gives_its_code_and_output() -> None:
    """Error output is included unless it is not wanted; a program that is missing raises an error."""
    script = "echo out; echo err >&2; exit 3"
    assert ask(["sh", "-c", script]) == Answer(3, "out\nerr")
    assert output(["sh", "-c", script], 60, wanted=Output.NO_ERRORS) == (3, b"out\n")
    assert output(["sh", "-c", "echo $NAME"], 60, env={"NAME": "x"}) == (0, b"x\n")
    with pytest.raises(FileNotFoundError):
        ask(["no-such-program"])


def test_a_step_that_is_over_kills_its_tool() -> None:
    """Each carriage return ends a line of the log."""
    said: list[str] = []
    whole = Tools(Step.PULL, Halt(), time.time() + 600, "too long", said.append)
    assert whole.run("sh", "-c", r"printf 'a\rb\nc'") == Answer(0, "a; b; c")
    assert said == ["sh: a", "sh: b", "sh: c"]
    with pytest.raises(Ended, match="too long"):
        Tools(Step.PULL, Halt(), time.time() + 0.3, "too long", said.append).run("sh", "-c", DEAF)
