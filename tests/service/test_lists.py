"""Lists: commands are handed out, their ends recorded, and those of lost machines done again by the next attempt."""

from provisioner.core.logs.archive import kept_chunk_key
from provisioner.core.protocol.keys import batch_key
from provisioner.core.protocol.words import Outcome
from provisioner.core.views.commands import CommandState
from provisioner.ports.control.lists import CommandFilter
from tests.service.listed import Listed, Machine
from tests.service.world import World
from tests.support.schedules import apply, runs, until


def states(listed: Listed) -> dict[str, int]:
    """Return how many commands are in each state, by the pages and not by the counters."""
    found: dict[str, int] = {}
    for each in listed.service.commands.page(listed.run.id, CommandFilter(limit=1000)).commands:
        found[each.state.value] = found.get(each.state.value, 0) + 1
    return found


def test_the_first_commands_are_in_the_mailbox_before_the_machine_asks_for_them(listed: Listed) -> None:
    """Each with its text, and twice as many as run at once."""
    machine = listed.machine()
    assert [(each.index, each.generation, each.text) for each in machine.given()] == [
        (index, 1, f"echo {index}".encode()) for index in range(4)
    ]
    assert states(listed) == {"assigned": 4, "waiting": 6}
    machine.report(machine.given()[:2])
    listed.turn()
    assert states(listed) == {"running": 2, "assigned": 2, "waiting": 6}


def test_recorded_commands_make_room_for_the_next_ones(listed: Listed) -> None:
    """The records are in the archive before they count, and their objects are deleted afterwards."""
    machine = listed.machine()
    lines: bytes = machine.end(machine.given()[:3])
    listed.turn()
    assert (listed.commands.succeeded, listed.worker.records_read) == (3, len(lines))
    assert listed.bucket.get(kept_chunk_key(listed.run.id, 1, 0, "records", 0)) == lines
    assert not listed.left(machine.node.box)
    assert len(machine.given()) > 4


def test_a_list_whose_commands_all_succeed_ends_with_0(listed: Listed) -> None:
    """Once the machine has the last commands, its orders say that no batch follows."""
    machine = listed.machine()
    done = 0
    while done < 10:
        given = machine.given()
        machine.end(given[done:])
        done = len(given)
        listed.turn()
    orders = machine.orders().commands
    assert orders
    assert orders.last
    machine.finish()
    listed.end()
    verdict = listed.run.verdict
    assert verdict
    assert (verdict.outcome, verdict.exit_code, verdict.reason) == (Outcome.SUCCEEDED, 0, "10 commands succeeded")
    assert listed.commands.sealed_at is not None
    assert states(listed) == {"succeeded": 10}


def all_of(listed: Listed, machine: Machine, codes: dict[int, int] | None = None, *, done: int = 0) -> None:
    """End all commands that the machine gets until the list is over."""
    for _ in range(50):
        given = machine.given()
        for each in given[done:]:
            machine.end([each], (codes or {}).get(each.index, 0))
        done = len(given)
        if listed.commands.open == 0:
            return
        listed.turn()
    raise AssertionError(f"the list does not end: {listed.commands}")


def test_three_failed_commands_give_exit_code_1(listed: Listed) -> None:
    machine = listed.machine()
    all_of(listed, machine, {2: 7, 5: 1, 9: 137})
    machine.finish()
    listed.end()
    verdict = listed.run.verdict
    assert verdict
    assert (verdict.outcome, verdict.exit_code) == (Outcome.FAILED, 1)
    assert verdict.reason == "7 of 10 commands succeeded; 3 failed"
    page = listed.service.commands.page(listed.run.id, CommandFilter((CommandState.FAILED,)))
    assert [(each.index, each.exit_code) for each in page.commands] == [(2, 7), (5, 1), (9, 137)]


def test_commands_of_a_lost_machine_run_again_and_recorded_ones_do_not(listed: Listed) -> None:
    """The record that the machine wrote just before its end is read first."""
    machine = listed.machine()
    machine.end(machine.given()[:1])
    listed.turn()
    given = machine.given()
    machine.end(given[1:2])
    listed.lose(machine)
    second = listed.machine(2)
    assert listed.commands.succeeded == 2
    again = second.given()
    assert not {0, 1} & {each.index for each in again}
    assert {each.generation for each in again if each.index in {given.index for given in given}} == {2}
    all_of(listed, second)
    second.finish()
    listed.end()
    assert states(listed) == {"succeeded": 10}
    assert listed.run.attempt == 2


def test_another_batch_in_the_mailbox_loses_the_node(listed: Listed) -> None:
    """The machine may have run its commands: it is replaced, and what it read stays as it was."""
    machine = listed.machine()
    key = batch_key(machine.node.box, 2)
    listed.bucket.put(key, b"another batch")
    machine.end(machine.given())
    # The world has a rule that no healthy machine is ended.
    machine.agent.silent = True
    listed.turn()
    assert listed.bucket.get(key) == b"another batch"
    second = listed.machine(2)
    verdict = listed.world.store.nodes(listed.run.id)[0].verdict
    assert verdict
    assert (verdict.outcome, verdict.reason) == (Outcome.LOST, "its mailbox holds another batch of commands")
    assert {each.index for each in second.given()} <= set(range(4, 10))


def test_a_list_that_a_schedule_starts_is_stored_with_its_commands() -> None:
    """Without the record of its list, no pass could advance the run."""
    world = World()
    apply(world, schedule="20 * * * *", command=["true", "false"])
    _, service = world.incarnate()
    service.operator.drive(until(world, 1800.0), world.told.extend, schedules=True)
    [run] = runs(world)
    found = world.store.command_list(run.id)
    assert found
    assert (found.total, run.commands, world.told) == (2, 2, [])
