"""The commands of a list that Python gets when they end."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from provisioner.core.views import from_records
from provisioner.core.views.commands import OPEN, Command, CommandPage, CommandState, Progress
from provisioner.core.views.run import Run
from provisioner.faces.lists.ended import FINAL
from provisioner.faces.lists.ended import ended as followed
from provisioner.ports.control.lists import ALL, CommandFilter
from tests.support import samples
from tests.support.listed import MemoryCommands, command

WAITING, RUNNING = CommandState.WAITING, CommandState.RUNNING


class World:
    """A control plane in which some running commands end in each pass; it hands out commands in their order."""

    def __init__(self, total: int, seed: int, *, slots: int = 8, stuck: Sequence[int] = (), each: int = 1000) -> None:
        self.random, self.slots, self.stuck, self.passes = random.Random(seed), slots, set(stuck), 0
        self.listed = Counted([command(index, WAITING) for index in range(total)], {}, each)
        self.commands, self.runs, self.operator = self.listed, self, self

    def get(self, run: str) -> Run:
        states = [each.state for each in self.listed.commands]
        counts: dict[str, Any] = {state.value: states.count(state) for state in FINAL}
        progress = Progress(total=len(states), open=sum(state in OPEN for state in states), **counts)
        return replace(from_records.run(samples.run(run)), commands=progress)

    def drive(self, until: Callable[[], bool], told: Callable[[Sequence[str]], None]) -> None:
        while not until():
            self.step()
            told([f"pass {self.passes}"])

    def step(self) -> None:
        self.passes += 1
        commands = cast(list[Command], self.listed.commands)
        running = [each.index for each in commands if each.state is RUNNING]
        waiting = [each.index for each in commands if each.state is WAITING]
        for index in waiting[: self.slots - len(running)]:
            commands[index] = replace(commands[index], state=RUNNING)
        others = [index for index in running if index not in self.stuck]
        for index in self.random.sample(others, self.random.randint(0, len(others))):
            commands[index] = replace(commands[index], state=self.random.choice(FINAL))
        if not waiting and not others:
            self.stuck.clear()


class Counted(MemoryCommands):
    """Counts the pages, and the commands with an end in them: to read one takes a read of the bucket."""

    pages, read = 0, 0

    def page(self, run: str, which: CommandFilter = ALL) -> CommandPage:
        found = super().page(run, which)
        self.pages += 1
        self.read += sum(each.state not in OPEN for each in found.commands)
        return found


def ended(world: World, *, in_order: bool = False, told: Callable[[Sequence[str]], None] = lambda _: None) -> Any:
    return followed(cast(Any, world), world.get("r1"), told, in_order=in_order)


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("in_order", [False, True])
def test_each_command_comes_once_with_its_final_state(seed: int, in_order: bool) -> None:
    pick = random.Random(seed)
    total = pick.choice([1, 2, 50, 300])
    stuck = pick.sample(range(total), min(total, pick.choice([0, 1, 5])))
    world = World(total, seed, stuck=stuck, each=pick.choice([1, 7, 1000]))
    found = list(ended(world, in_order=in_order))
    indices = [each.index for each in found]
    assert sorted(indices) == list(range(total))
    assert sorted(found, key=lambda each: each.index) == world.listed.commands
    if in_order:
        assert indices == list(range(total))


def test_commands_come_before_the_list_has_ended() -> None:
    """A command that hangs delays no other, but in order it does."""
    world = World(100, 1, stuck=[3])
    first = [next(commands).index for commands in [ended(world)] for _ in range(99)]
    assert 3 not in first
    assert world.get("r1").commands.open == 1  # type: ignore[union-attr]
    world = World(100, 1, stuck=[3])
    commands = ended(world, in_order=True)
    assert [next(commands).index for _ in range(3)] == [0, 1, 2]


def test_records_are_not_read_again_for_each_look() -> None:
    """A command that hangs at the beginning of a list must not let all later ones be read again and again."""
    world = World(1000, 5, slots=50, stuck=[0, 1, 40, 700])
    assert len(list(ended(world))) == 1000
    assert world.listed.read < 3 * 1000
    assert world.listed.pages < 6 * world.passes
    world = World(1000, 5, slots=50, stuck=[0])
    assert len(list(ended(world, in_order=True))) == 1000
    assert world.listed.read < 3 * 1000


def test_list_that_has_ended_needs_no_pass() -> None:
    world = World(10, 1)
    while world.get("r1").commands.open:  # type: ignore[union-attr]
        world.step()
    before = world.passes
    assert len(list(ended(world))) == len(list(ended(world, in_order=True))) == 10
    assert world.passes == before


def test_errors_of_passes_are_reported() -> None:
    heard = list[str]()
    list(ended(World(3, 1), told=heard.extend))
    assert heard[0] == "pass 1"
