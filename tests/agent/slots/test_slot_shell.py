"""`slot.sh` alone, under the shells of Debian and of BusyBox."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.agent.job.job_dir import JobDir
from tests.polling import until

SHELLS = [shell for shell in (["dash"], ["bash"], ["busybox", "sh"]) if shutil.which(shell[0])]


class Slot:
    """A slot's shell, without an agent."""

    def __init__(self, folder: Path, shell: list[str]) -> None:
        self.job_dir = JobDir.make(
            folder / "job", {"VALUE": "it's", "IFS": "/"}, {}, "", slots=[{"PROVISION_SLOT": "0"}]
        )
        self.folder = self.job_dir.slot(0)
        self.ran = folder / "ran"
        self._pipes = [os.open(self.folder / name, os.O_RDWR) for name in ("go", "output")]
        self._pipes.append(os.open(folder / "job/bell", os.O_RDWR))
        self.process = subprocess.Popen([*shell, str(folder / "job/slot"), str(self.folder)])

    def give(self, index: int, command: str) -> None:
        (self.folder / "command").write_text(command)
        (self.folder / "given").write_text(f"{index} 1\n")
        (self.folder / "said").write_text("")

    def tell(self, *lines: str) -> None:
        os.write(self._pipes[0], "".join(f"{line}\n" for line in lines).encode())

    def said(self) -> str:
        return (self.folder / "said").read_text()

    def wait(self, text: str) -> None:
        until(lambda: self.said().endswith(text), text, self.said)

    def output(self) -> bytes:
        os.set_blocking(self._pipes[1], False)
        return os.read(self._pipes[1], 1 << 16)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in self._pipes:
            os.close(pipe)


@pytest.fixture(params=SHELLS, ids=" ".join)
def slot(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Slot]:
    made = Slot(tmp_path, request.param)
    yield made
    made.close()


def test_command_that_is_named_twice_executes_once(slot: Slot) -> None:
    """A new agent process cannot know whether the line was read."""
    slot.give(7, f"echo x >>{slot.ran}; exit 3")
    slot.tell("run 7 1 token", "run 7 1 token")
    slot.wait("ended 7 1 3\n")
    slot.tell("run 7 1 token", "end")
    slot.process.wait()
    assert (slot.said(), slot.ran.read_text()) == ("begun 7 1\nended 7 1 3\n", "x\n")


def test_line_about_an_earlier_command_is_ignored(slot: Slot) -> None:
    slot.give(8, f"echo x >>{slot.ran}")
    slot.tell("run 7 1 token", "run 8 1 token", "end")
    slot.process.wait()
    assert (slot.said(), slot.ran.read_text()) == ("begun 8 1\nended 8 1 0\n", "x\n")


def test_death_of_the_shell_before_the_command_is_no_beginning(slot: Slot) -> None:
    slot.give(8, f"echo x >>{slot.ran}")
    (slot.folder / "said").write_text("died\n")
    slot.tell("run 8 1 token", "run 8 1 token", "end")
    slot.process.wait()
    assert (slot.said(), slot.ran.read_text()) == ("died\nbegun 8 1\nended 8 1 0\n", "x\n")


def test_variables_are_those_of_the_command_and_of_the_job(slot: Slot) -> None:
    names = "$PROVISION_COMMAND_INDEX $PROVISION_COMMAND_GENERATION $PROVISION_TRY $PROVISION_SLOT $VALUE"
    slot.give(3, f'echo "{names}" >>{slot.ran}; kill -s KILL $$')
    slot.tell("run 3 1 run.3.1.abc", "end")
    assert slot.process.wait() == 0
    assert (slot.said(), slot.ran.read_text()) == ("begun 3 1\nended 3 1 137\n", "3 1 run.3.1.abc 0 it's\n")


@pytest.mark.parametrize(
    "text",
    [
        "printf %s ' ä漢\x81\udc88\\'",
        "  printf %s a\\ ",
        "\n\nprintf %s 'a\nb'\n\n",
        "printf %s a; # \\",
        "cat <<E\na  b\nE",
        "#!/bin/sh -f\nprintf %s *\n",
        "#!/bin/echo one  two",
    ],
)
def test_text_of_a_command_is_executed_as_by_sh(slot: Slot, text: str) -> None:
    """Whether it is one line or several; a shell reads one line without another process."""
    data = text.encode(errors="surrogateescape")
    options = "-fc" if text.startswith("#!") else "-c"
    expected = subprocess.run(["sh", options, os.fsdecode(data)], capture_output=True, check=True).stdout
    if text.startswith("#!/bin/echo"):
        expected = b"one two %s\n" % os.fsencode(slot.folder / "command")
    slot.give(1, "")
    (slot.folder / "command").write_bytes(data)
    slot.tell("run 1 1 token", "end")
    slot.process.wait()
    assert slot.output() == expected
