"""One run with a fault at each of its calls in turn: it ends normally, only later."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from provisioner.core.commands.uploads import PARTS
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.lists import uploading
from provisioner.core.run.records import Run
from provisioner.rehearsal.ec2.conditions import Conditions, Interruption
from provisioner.rehearsal.machines.script import CommandScript
from provisioner.service.control import Service
from tests.service.agents import Script
from tests.service.trouble import FALLS, Aimed, Fate, Fates, Fault, calm
from tests.service.world import World

#: A cloud in which every kind of wait takes time.
SLOW = Conditions(boot_delay=12, end_delay=15, lag=3)
#: Fates for calls of the control plane or of a machine.
FATES = [fate for fate in Fate if fate not in (Fate.NONE, Fate.DENY)]


def one_run(fates: Fates = calm) -> tuple[World, list[Run]]:
    """Return a world with a run that takes one machine, some log and a minute."""
    world = World(SLOW, lambda _: Script(pull=20, setup=5, command=30), fates)
    started: list[Run] = []
    world.plan(0, lambda: started.append(world.start(start_script="true")))
    return world, started


#: Subjects of the calls that hand out a list's commands, or take their records.
OF_LISTS = re.compile(r".*/(chunks|records)/.*|.*/orders|.*(Batch|Block|CommandList|RecordChunk|Worker).*")


def one_list(fates: Fates = calm, *, uploaded: bool = False) -> tuple[World, list[Run]]:
    """Return a world with a run of 13 commands, whose first machine loses its power while it works."""
    commands = CommandScript(seconds=7.0, spread=0.5, fails=frozenset({3}), output=30, chunk=50)
    mishaps = iter([45.0])
    world = World(SLOW, lambda _: Script(pull=5, commands=commands, off_at=next(mishaps, None)), fates)
    started: list[Run] = []
    spec: dict[str, Any] = {"command": [f"echo {number}" for number in range(13)], "nprocs": 2}
    if uploaded:
        lines = (f"{command}\n".encode() for command in spec["command"])
        spec |= {"upload": world.users.uploads.add(lines).id, "command": ["the job's own"]}
    world.plan(0, lambda: started.append(world.start(**spec)))
    return world, started


def faults(
    fate: Fate, make: Callable[[], tuple[World, list[Run]]] = one_run, which: re.Pattern[str] = re.compile(".*")
) -> Iterator[Fault]:
    """Make a run without faults; yield a fault with this fate for each of its calls that the fate can hit."""
    world, _ = make()
    world.run()
    seen: Counter[tuple[str, str, str]] = Counter()
    for call in world.calls:
        aim = (call.port, call.method, call.about)
        seen[aim] += 1
        if call.port in FALLS[fate] and call.method != "changes" and which.fullmatch(call.about):
            yield Fault(fate, *aim, seen[aim])


@pytest.mark.parametrize("fate", FATES)
def test_a_run_survives_trouble_at_every_step(fate: Fate) -> None:
    """With a fault at any call, the run has the same outcome, one execution, one machine and its complete log."""
    tried = set()
    for fault in faults(fate):
        aimed = Aimed([fault])
        world, started = one_run(aimed)
        try:
            world.run()
            world.check()
            assert aimed.unfired == []
            (run,) = map(world.store.run, [run.id for run in started])
            assert run
            assert run.verdict
            assert (run.verdict.outcome, run.verdict.exit_code) == (Outcome.SUCCEEDED, 0)
            assert world.executions.done == {(run.id, run.attempt, 0)}
            assert len(world.model.every()) == 1
        except BaseException as error:
            error.add_note(f"{fault}\n{world.story()}")
            raise
        tried.add((fault.port, fault.method))
    assert len(tried) >= 5, tried


@pytest.mark.parametrize("fate", FATES)
def test_a_list_survives_trouble_at_every_step(fate: Fate) -> None:
    """With a fault at any call about its commands, each command has the same end, and a lost machine repeats few."""
    assert len(_survived(fate, one_list, OF_LISTS)) >= 4


@pytest.mark.parametrize("fate", FATES)
def test_an_uploaded_list_survives_trouble_with_its_parts(fate: Fate, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fault at any call about a part, each command has the same end."""
    monkeypatch.setattr(uploading, "PART_COMMANDS", 3)
    assert _survived(fate, partial(one_list, uploaded=True), re.compile("uploads/.*")) == {("bucket", "get", "part")}


def _survived(
    fate: Fate, make: Callable[..., tuple[World, list[Run]]], which: re.Pattern[str]
) -> set[tuple[str, str, str]]:
    """Check a world with each of the faults that `which` selects; return the kinds of calls that were hit."""
    tried = set[tuple[str, str, str]]()
    for fault in faults(fate, make, which):
        aimed = Aimed([fault])
        world, started = make(aimed)
        try:
            world.run()
            world.check()
            (run,) = map(world.store.run, [run.id for run in started])
            assert run
            assert run.verdict
            assert (run.verdict.outcome, run.verdict.exit_code) == (Outcome.FAILED, 1)
            commands = world.store.command_list(run.id)
            assert commands
            assert (commands.succeeded, commands.failed) == (12, 1)
            assert len(world.model.every()) == 2
        except BaseException as error:
            error.add_note(f"{fault}\n{world.story()}")
            raise
        about = "part" if fault.about.startswith(PARTS) else re.sub(r".*/([a-z]+)/[0-9]+", r"\1", fault.about)
        tried.add((fault.port, fault.method, about))
    return tried


def test_every_pass_repeated_changes_nothing() -> None:
    """At any time, a few passes bring the world to a state that a further pass does not change."""
    world, _ = one_run()
    _, service = world.incarnate()
    while not world.over():
        _settle(world, service)
        world.advance(2.0)
    world.check()


def test_every_pass_of_a_taken_machine_repeated_changes_nothing() -> None:
    """A repeated pass changes nothing when the cloud interrupts the machine and the run has a second attempt."""
    conditions = Conditions(boot_delay=12, end_delay=15, interruptions=(Interruption(at=20, notice=20),))
    world = World(conditions, lambda _: Script(pull=20, command=60))
    world.plan(0, lambda: world.start(use_spot_instance=True))
    _, service = world.incarnate()
    while not world.over():
        _settle(world, service)
        world.advance(2.0)
    world.check()
    assert len(world.agents) == 2


def _settle(world: World, service: Service) -> None:
    """Run passes at one time until one changes nothing; assert that two more change nothing either."""

    def seen() -> tuple[object, ...]:
        return world.store.changes(), dict(world.bucket.objects), [one.history for one in world.model.every()]

    for _ in range(6):
        before = seen()
        assert not service.operator.step()
        if seen() == before:
            break
    else:
        raise AssertionError(f"no end of changes\n{world.story()}")
    for _ in range(2):
        assert not service.operator.step()
        assert seen() == before, world.story()
