"""Hostile machines of lists: what they write as records harms only their own run, and costs a pass a bounded work."""

from typing import Any

import pytest

from provisioner.core.protocol.command_lines import CommandEnd, write_end
from provisioner.core.run.lists.receiving import RECORDS_MOST
from provisioner.core.run.states import State
from provisioner.ports.bucket import Entry
from provisioner.service.control_loop.lists.reading import PASS_MOST, Reading
from provisioner.service.control_loop.one_pass import Pass
from tests.service.alone import Alone
from tests.service.listed import Listed, Machine
from tests.support.samples import node


def test_an_object_too_large_for_records_is_deleted_unread(listed: Listed, machine: Machine) -> None:
    """It is counted as unreadable, once in the story."""
    before, known = listed.bucket.read, len(listed.world.store.events(listed.run.id))
    for _ in range(3):
        machine.write(b"x" * (RECORDS_MOST + 1), at=0)
        listed.turn()
    assert listed.bucket.read - before < RECORDS_MOST
    assert not listed.left(machine.node.box)
    assert len(listed.world.store.events(listed.run.id)) == known + 1
    machine.end(machine.given()[:1])
    listed.turn()
    assert listed.commands.succeeded == 1


def test_names_that_no_agent_writes_are_deleted(listed: Listed, machine: Machine) -> None:
    for name in ("records/1", "records/x", "records/0000000000000000", "records/", "records/000000000000000/1"):
        listed.bucket.put(f"inbox/{machine.node.box}/{name}", b"x")
    listed.turn()
    assert not listed.left(machine.node.box)
    assert listed.commands.ended == 0


def test_records_behind_a_gap_wait_and_do_not_keep_the_run_from_its_end(listed: Listed, machine: Machine) -> None:
    """Though the inbox is full of them: they are deleted once the machine is over."""
    for number in range(600):
        machine.write(b"x\n", at=1000 + number)
    listed.turn()
    assert len(listed.left(machine.node.box)) == 600
    listed.lose(machine)
    second = listed.machine(2)
    assert not listed.left(machine.node.box)
    assert second.given()[0].generation == 2


@pytest.mark.parametrize("what", ["generation", "batch", "index", "of another machine"])
def test_a_record_of_a_command_that_the_machine_does_not_have_changes_nothing(
    listed: Listed, machine: Machine, what: str
) -> None:
    given = machine.given()[0]
    batch, index, generation = given.batch, given.index, given.generation
    if what == "generation":
        generation = 2
    elif what == "batch":
        batch = 7
    elif what == "index":
        index = 9
    else:
        listed.lose(machine)
        machine, index = listed.machine(2), 9
    machine.write(write_end(CommandEnd(batch, index, generation, listed.world.now(), 1.0, 0)))
    listed.turn()
    assert (listed.commands.ended, listed.worker.records_read > 0) == (0, True)
    assert not listed.left(machine.node.box)


def test_a_record_that_comes_twice_counts_once(listed: Listed, machine: Machine) -> None:
    """The first one decides: a salvaged agent may write a record again."""
    given = machine.given()[:1]
    machine.end(given)
    machine.end(given, 1)
    listed.turn()
    assert (listed.commands.succeeded, listed.commands.failed) == (1, 0)


def test_lines_that_cannot_be_read_are_counted_and_skipped(listed: Listed, machine: Machine) -> None:
    """Also if the line is cut at the end of a chunk."""
    good = write_end(CommandEnd(1, 0, 1, listed.world.now(), 1.0, 3))
    machine.write(b"\xff\xfe\n1 2 3\n" + good[:10])
    machine.write(good[10:] + b"\x1b]0;title\x07\n")
    listed.turn()
    node = listed.world.store.nodes(listed.run.id)[0]
    assert (listed.commands.failed, node.unreadable) == (1, 3)
    text = listed.world.store.events(listed.run.id)[-1].text
    assert text.isprintable()


def test_a_flood_of_records_costs_each_pass_the_same(listed: Listed, machine: Machine) -> None:
    """Hundreds of thousands of lines: every pass reads a bounded number of bytes, and in the end all are dropped."""
    line = b"1 0 9 0 0 0 - -\n"
    for _ in range(3):
        machine.write(line * (RECORDS_MOST // len(line)))
    passes = 0
    while listed.left(machine.node.box):
        before = listed.bucket.read
        listed.turn()
        passes += 1
        assert listed.bucket.read - before < PASS_MOST + (1 << 20)
    assert passes >= 3
    assert (listed.commands.ended, listed.run.state) == (0, State.RUNNING)


def test_a_backlog_delays_no_other_machine() -> None:
    """Each pass begins with the machine after the one that was read last."""
    alone = Alone()
    waiting = {}
    for box in ("A:i-1", "A:i-2", "A:i-3"):
        entries = [
            (number * RECORDS_MOST, Entry(f"inbox/{box}/records/{number}", RECORDS_MOST, 0.0)) for number in range(3)
        ]
        waiting[box] = node(id=box, box=box), entries
        for _, entry in entries:
            alone.bucket.put(entry.key, b"x" * entry.size)
    reader, current = Reading(alone.installation), Pass(alone.installation, alone.epoch)
    assert [list(reader.read(current, waiting)) for _ in range(4)] == [["A:i-1"], ["A:i-2"], ["A:i-3"], ["A:i-1"]]


def test_an_object_replaced_since_the_listing_is_read_by_the_next_pass(
    listed: Listed, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the next chunk would not begin where this one ends."""
    lines = write_end(CommandEnd(1, 0, 1, listed.world.now(), 1.0, 0))
    machine.write(lines)
    real = listed.bucket.get

    def replaced(key: str, **part: Any) -> bytes | None:
        data = real(key, **part)
        return data[:5] if data and "/records/" in key else data

    monkeypatch.setattr(listed.bucket, "get", replaced)
    listed.turn()
    assert listed.worker.records_read == 0
    monkeypatch.undo()
    listed.turn()
    assert listed.commands.succeeded == 1
