"""The control plane's journal, in virtual time."""

import itertools
from collections.abc import Mapping

from provisioner.core.errors import NeedsOperator, Transient
from provisioner.core.run.records import Run
from provisioner.core.run.states import State
from provisioner.rehearsal.fakes.clock import ListJournal
from provisioner.service.control_loop.one_pass import PassError
from provisioner.service.control_loop.problems import Troubles, lines
from tests.service.agents import Script
from tests.service.trouble import Call, Fate
from tests.service.world import World


def told_of(world: World, run: Run) -> list[Mapping[str, str | int | float]]:
    """Return the journal's lines about the run, sorted by time: a state is dated before its report's other events."""
    lines = [line for line in world.journal.told if line.get("run") == run.id]
    return sorted(lines, key=lambda line: line["at"])


def test_each_event_of_a_run_is_logged_once() -> None:
    """The journal has each event of the store once, with job, owner and machine."""
    world = World(scripts=lambda _: Script(command=30))
    run = world.start()
    world.run()
    told = told_of(world, run)
    assert [line["text"] for line in told] == [event.text for event in world.store.events(run.id)]
    assert {(line["job"], line["owner"]) for line in told} == {("job", "tester")}
    [machine] = world.agents
    assert {line.get("instance") for line in told} == {None, machine}


def test_event_that_was_not_stored_is_not_logged() -> None:
    """A save that failed logs nothing, so the journal never has more than the store."""

    saves = itertools.count()

    def crash(call: Call) -> Fate:
        return Fate.CRASH_BEFORE if call.method == "save" and next(saves) % 3 == 0 else Fate.NONE

    world = World(scripts=lambda _: Script(command=30), fates=crash)
    run = world.start()
    world.run()
    stored = [event.text for event in world.store.events(run.id)]
    assert [line["text"] for line in told_of(world, run)] == stored


def test_error_of_a_run_is_logged_with_run_machine_and_code() -> None:
    """An error of one run has the run's id, its machine and the cloud's code."""
    failed: list[int] = []

    def refuse(call: Call) -> Fate:
        # Once a machine exists, each object written is for it. In a world, every third refusal is one that the operator
        # must end, which is logged once for all runs.
        written = (call.port, call.method) == ("bucket", "put") and world.store.live().nodes
        if written and call.number % 3 < 2 and not failed:
            failed.append(call.number)
            return Fate.REFUSE
        return Fate.NONE

    world = World(scripts=lambda _: Script(command=30), fates=refuse)
    run = world.start()
    world.run()
    [line] = [line for line in world.journal.told if "error" in line]
    assert (line["run"], line["instance"], line["code"]) == (run.id, next(iter(world.agents)), "SlowDown")
    assert [text for text in world.told if "SlowDown" in text] == [f"run {run.id[:12]}: {line['error']}"]
    ended = world.store.run(run.id)
    assert ended
    assert ended.state is State.DONE


def test_a_trouble_that_lasts_is_told_when_it_begins_and_when_it_is_over() -> None:
    """An error is not logged in every pass, and its end is logged only if it lasted several passes.

    The errors of different runs are separate.
    """
    world = World()
    journal = world.journal = ListJournal()
    troubles = Troubles(world.installation)
    object.__setattr__(world.installation, "journal", journal)
    slow = PassError(Transient("slow", "SlowDown"), run="r1")
    for met in ([slow], [slow], [slow, PassError(slow.error, run="r2")], [], [], [slow], []):
        troubles.met(met)
    begun, over = "SlowDown: slow", "resolved after 3 passes: SlowDown: slow"
    assert [(line.get("error") or line["text"], line["run"]) for line in journal.told] == [
        (begun, "r1"),
        (begun, "r2"),
        (over, "r1"),
        (begun, "r1"),
    ]


def test_trouble_that_lasts_is_logged_every_ten_minutes() -> None:
    """An operator who reads the journal later sees that the cloud still cannot be reached."""
    world = World()
    journal = world.journal = ListJournal()
    troubles = Troubles(world.installation)
    object.__setattr__(world.installation, "journal", journal)
    away = PassError(Transient("cannot reach AWS at https://ec2.example.com (refused)"))
    for _ in range(121):
        troubles.met([away])
        world.advance(10)
    assert [line["error"] for line in journal.told] == [
        "cannot reach AWS at https://ec2.example.com (refused)",
        "still failing after 60 passes: cannot reach AWS at https://ec2.example.com (refused)",
        "still failing after 120 passes: cannot reach AWS at https://ec2.example.com (refused)",
    ]


def test_errors_that_need_the_operator_are_one_error() -> None:
    """They have one cause, whatever run and call they concern; another cause is logged at once."""
    world = World()
    journal = world.journal = ListJournal()
    troubles = Troubles(world.installation)
    object.__setattr__(world.installation, "journal", journal)
    one, other = (NeedsOperator(f"{service} says log in", "ExpiredToken") for service in ("EC2", "S3"))
    slow, blocked = Transient("slow", "SlowDown"), NeedsOperator("ask AWS", "Blocked")
    lapsed = [PassError(one), *(PassError(other, run=f"r{number}") for number in range(9))]
    for met in (lapsed, lapsed[1:], [PassError(slow), *lapsed[:1]], [PassError(blocked)], []):
        troubles.met(met)
    assert [line.get("error") or line["text"] for line in journal.told] == [
        "ExpiredToken: EC2 says log in",
        "SlowDown: slow",
        "Blocked: ask AWS",
        "resolved after 4 passes: Blocked: ask AWS",
    ]
    assert lines([*lapsed, PassError(slow, run="r1")]) == ["ExpiredToken: EC2 says log in", "run r1: SlowDown: slow"]
