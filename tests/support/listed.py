"""The commands of an invented list, for tests of what users see."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from provisioner.core.errors import Conflict, Invalid, NotFound
from provisioner.core.views.commands import Command, CommandPage, CommandState
from provisioner.core.views.run import Run
from provisioner.ports.control.lists import ALL, CommandFilter
from provisioner.service.control import OnBehalf
from provisioner.service.runs import Runs


def command(index: int, state: CommandState = CommandState.SUCCEEDED, **fields: Any) -> Command:
    values: dict[str, Any] = {
        "generation": 1, "exit_code": None, "why": None, "began_at": None, "seconds": None, "attempt": 1, "rank": 0,
        "output_bytes": None, "text": f"echo {index}",
    }  # fmt: skip
    return Command(index, state, **(values | fields))


class MemoryCommands:
    """The port provisioner.ports.control.lists.Commands for one run; a page ends after `each` commands."""

    def __init__(self, commands: Sequence[Command], outputs: Mapping[int, bytes], each: int = 1000) -> None:
        self.commands, self.outputs, self.each = commands, outputs, each
        self.stopped: list[int] = []

    def page(self, run: str, which: CommandFilter = ALL) -> CommandPage:
        self._check(run)
        left = self.commands[which.after + 1 :]
        seen = left[: self.each]
        found = [each for each in seen if not which.states or each.state in which.states][: which.limit]
        last = found[-1].index if len(found) == which.limit else seen[-1].index if seen else -1
        return CommandPage(tuple(found), None if last + 1 >= len(self.commands) or not left else str(last))

    def get(self, run: str, index: int) -> Command:
        self._check(run)
        if index >= len(self.commands):
            most = len(self.commands) - 1
            raise NotFound(f"run {run[:12]} has no command {index}: its commands are 0 to {most}")
        return self.commands[index]

    def output(self, run: str, index: int) -> Iterator[bytes]:
        self.get(run, index)
        if index not in self.outputs:
            raise Conflict(f"command {index} has not ended: its output appears when it ends")
        data = self.outputs[index]
        yield from (data[at : at + 100_000] for at in range(0, len(data), 100_000))

    def csv(self, run: str) -> Iterator[bytes]:
        self._check(run)
        yield from (b"Seq,Command\n", b'1,"a\nb"\n')

    def stop(self, run: str, index: int) -> Command:
        self.stopped.append(index)
        return self.get(run, index)

    def rerun(self, run: str, idempotency_key: str = "", *, unfinished: bool = False) -> Run:
        raise Invalid(f"no command of run {run[:12]} failed, {idempotency_key}, {unfinished}")

    def _check(self, run: str) -> None:
        if not self.commands:
            raise Invalid(f"run {run[:12]} has one command; only runs of a list have numbered commands")


class _Found:
    """The same commands for every run that the caller may read."""

    def __init__(self, runs: Runs, commands: MemoryCommands) -> None:
        self._runs, self._commands = runs, commands

    def page(self, run: str, which: CommandFilter = ALL) -> CommandPage:
        return self._commands.page(self._runs.record(run).id, which)

    def get(self, run: str, index: int) -> Command:
        return self._commands.get(self._runs.record(run).id, index)

    def output(self, run: str, index: int) -> Iterator[bytes]:
        yield from self._commands.output(self._runs.record(run).id, index)

    def csv(self, run: str) -> Iterator[bytes]:
        yield from self._commands.csv(self._runs.record(run).id)

    def stop(self, run: str, index: int) -> Command:
        return self._commands.stop(self._runs.record(run).id, index)

    def rerun(self, run: str, idempotency_key: str = "", *, unfinished: bool = False) -> Run:
        return self._commands.rerun(self._runs.record(run).id, idempotency_key, unfinished=unfinished)


def install(patch: pytest.MonkeyPatch, commands: MemoryCommands) -> None:
    """Let every run have these commands."""
    patch.setattr(OnBehalf, "commands", property(lambda service: _Found(service.runs, commands)))
