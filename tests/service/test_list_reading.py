"""Reading a list: its commands page by page, one command's end, and its output as the command wrote it."""

import os

import pytest

from provisioner.core.errors import Conflict, Invalid, NotFound
from provisioner.core.protocol.command_lines import CommandEnd, write_end
from provisioner.core.protocol.keys import chunk_key
from provisioner.core.views.commands import CommandState
from provisioner.ports.control.lists import CommandFilter, every
from provisioner.service.lists import reading
from tests.service.listed import Listed, Machine


def output(listed: Listed, index: int) -> bytes:
    return b"".join(listed.service.commands.output(listed.run.id, index))


def shipped(listed: Listed, machine: Machine, chunks: dict[int, bytes], *ends: CommandEnd) -> None:
    """Put chunks of the stream `output`, and then records."""
    for offset, data in chunks.items():
        listed.bucket.put(chunk_key(machine.node.box, "output", offset), data)
    machine.output = max(offset + len(data) for offset, data in chunks.items())
    machine.write(b"".join(map(write_end, ends)))
    listed.turn()


def test_the_output_of_each_command_is_read_byte_for_byte(listed: Listed, machine: Machine) -> None:
    """Also if two commands wrote by turns, and across chunks; also from the archive."""
    first, second = os.urandom(300), b"\x00\xff\r\n" * 50
    chunks = {0: first[:100] + second[:50] + first[100:150], 200: first[150:] + second[50:]}
    shipped(
        listed,
        machine,
        chunks,
        CommandEnd(1, 0, 1, 1.0, 1.0, 0, extents=((0, 0, 100), (0, 150, 50), (200, 0, 150))),
        CommandEnd(1, 1, 1, 1.0, 1.0, 0, extents=((0, 100, 50), (200, 150, 150))),
    )
    assert (output(listed, 0), output(listed, 1)) == (first, second)
    view = listed.service.commands.get(listed.run.id, 0)
    assert (view.output_bytes, view.exit_code, view.seconds, view.attempt, view.rank) == (300, 0, 1.0, 1, 0)
    listed.lose(machine)
    listed.until(lambda: listed.world.store.nodes(listed.run.id)[0].archived_at is not None)
    assert (output(listed, 0), output(listed, 1)) == (first, second)


def test_a_commands_output_costs_few_reads_and_no_listing(listed: Listed, machine: Machine) -> None:
    """One read of the records and one for each extent, each of its own bytes only."""
    shipped(listed, machine, {0: b"x" * 1_000_000}, CommandEnd(1, 0, 1, 1.0, 1.0, 0, extents=((0, 500_000, 10),)))
    reads, gets, listings = listed.bucket.read, listed.bucket.gets, listed.bucket.listed
    assert output(listed, 0) == b"x" * 10
    assert listed.bucket.gets - gets == 2
    assert listed.bucket.read - reads < 200
    assert listed.bucket.listed == listings


def test_a_record_that_is_cut_at_the_end_of_a_chunk_is_read_whole(listed: Listed, machine: Machine) -> None:
    """Its first part looks like a record of a shorter output."""
    listed.bucket.put(chunk_key(machine.node.box, "output", 0), b"123456789012")
    line = write_end(CommandEnd(1, 1, 1, 1.0, 1.0, 5, extents=((0, 0, 12),)))
    others = [write_end(CommandEnd(1, index, 1, 1.0, 1.0, 0)) for index in (0, 2)]
    machine.write(b"".join(others) + line[:-2])
    machine.write(line[-2:])
    listed.turn()
    assert output(listed, 1) == b"123456789012"
    page = listed.service.commands.page(listed.run.id, CommandFilter(limit=3))
    assert [(each.exit_code, each.output_bytes) for each in page.commands] == [(0, 0), (5, 12), (0, 0)]


def test_an_output_that_is_not_in_the_log_is_an_error(listed: Listed, machine: Machine) -> None:
    shipped(listed, machine, {0: b"1234"}, CommandEnd(1, 0, 1, 1.0, 1.0, 0, extents=((0, 0, 4), (4, 0, 4))))
    with pytest.raises(NotFound, match="4 bytes of the output of command 0 are missing"):
        output(listed, 0)


def test_the_output_of_a_command_that_has_not_ended_is_a_conflict(listed: Listed, machine: Machine) -> None:
    machine.report(machine.given()[:1])
    listed.turn()
    with pytest.raises(Conflict, match=r"command 0 has been running on rank 0 for 1.*s: .* logs"):
        output(listed, 0)
    with pytest.raises(Conflict, match="command 9 is waiting"):
        output(listed, 9)


def test_the_record_of_the_commands_generation_is_shown(listed: Listed, machine: Machine) -> None:
    """After the loss of its machine a command waits again; only a record of its new generation then decides."""
    listed.lose(machine)
    second = listed.machine(2)
    given = second.given()[0]
    assert given.generation == 2
    old = CommandEnd(given.batch, given.index, 1, 1.0, 1.0, 9)
    new = CommandEnd(given.batch, given.index, 2, 1.0, 1.0, 4, extents=((0, 0, 6),))
    shipped(listed, second, {0: b"second"}, old, new)
    view = listed.service.commands.get(listed.run.id, given.index)
    assert (view.state, view.exit_code, view.attempt, view.generation) == (CommandState.FAILED, 4, 2, 2)
    assert output(listed, given.index) == b"second"


def test_unknown_commands_and_runs_without_a_list_are_named(listed: Listed) -> None:
    with pytest.raises(NotFound, match=r"has no command 10: its commands are 0 to 9"):
        listed.service.commands.get(listed.run.id, 10)
    with pytest.raises(NotFound, match=r"has no command -1"):
        output(listed, -1)
    single = listed.world.start("single")
    with pytest.raises(Invalid, match="has one command; only runs of a list have numbered commands"):
        listed.service.commands.page(single.id)


def pages(listed: Listed, *states: CommandState, limit: int = 50) -> list[list[int]]:
    """Return the indices of all pages."""
    found, after = list[list[int]](), -1
    while True:
        page = listed.service.commands.page(listed.run.id, CommandFilter(states, after, limit))
        found.append([each.index for each in page.commands])
        if page.next_key is None:
            return found
        after = int(page.next_key)


def test_pages_have_every_command_once_and_in_order(listed: Listed, machine: Machine) -> None:
    """A page shows the text, and its cursor continues behind its last command."""
    machine.end(machine.given()[1:2], 3)
    listed.turn()
    assert pages(listed, limit=3) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert pages(listed) == [list(range(10))]
    assert pages(listed, CommandState.FAILED, limit=1) == [[1], []]
    assert pages(listed, CommandState.LOST) == [[]]
    machine.report(machine.given()[2:4])
    listed.turn()
    assert pages(listed, CommandState.RUNNING, limit=1) == [[2], [3], []]
    assert pages(listed, CommandState.RUNNING, CommandState.FAILED) == [[1, 2, 3]]
    page = listed.service.commands.page(listed.run.id, CommandFilter((CommandState.FAILED,)))
    assert [(each.text, each.exit_code) for each in page.commands] == [("echo 1", 3)]


def test_a_page_that_needs_many_objects_ends_early(
    listed: Listed, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one continues: no page reads more than a bounded number of objects."""
    monkeypatch.setattr(reading, "CHUNKS_MOST", 2)
    for each in machine.given():
        machine.end([each])
    listed.turn()
    assert pages(listed) == [[0, 1], [2, 3, *range(4, 10)]]


def test_a_record_in_more_objects_than_are_read_at_once_is_found(
    listed: Listed, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ranges of the objects overlap, for example if commands execute again: one of them alone has the record."""
    monkeypatch.setattr(reading, "CHUNKS_MOST", 1)
    listed.bucket.put(chunk_key(machine.node.box, "output", 0), b"output of command 1")
    machine.write(write_end(CommandEnd(1, 1, 1, 1.0, 1.0, 3, extents=((0, 0, 19),))))
    machine.end([machine.given()[0], machine.given()[2]])
    listed.turn()
    assert listed.service.commands.get(listed.run.id, 1).exit_code == 3
    assert output(listed, 1) == b"output of command 1"
    codes = [each.exit_code for each in every(listed.service.commands, listed.run.id)]
    assert codes == [0, 3, 0, *[None] * 7]


def test_a_page_has_the_ends_of_all_its_commands(
    listed: Listed, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record is in an object of its own, and one query finds those of two commands."""
    monkeypatch.setattr(reading, "NEAR", 1)
    for code, each in enumerate(machine.given()):
        machine.end([each], code)
    listed.turn()
    page = listed.service.commands.page(listed.run.id)
    assert [each.exit_code for each in page.commands] == [0, 1, 2, 3, *[None] * 6]


def test_progress_counts_commands_and_the_speed_of_machines(listed: Listed, machine: Machine) -> None:
    machine.end(machine.given()[:3])
    machine.end(machine.given()[3:4], 1)
    listed.turn()
    machine.report(machine.given()[4:6])
    listed.turn()
    found = listed.service.runs.status(listed.run.id).run.commands
    assert found
    assert (found.total, found.open, found.succeeded, found.failed) == (10, 6, 3, 1)
    assert (found.running, found.slots, found.machines) == (2, 2, 1)
    assert found.rate
    assert found.eta
    seen = listed.service.runs.get(listed.run.id).commands
    assert seen
    assert (seen.failed, seen.rate) == (1, None)
    [top] = listed.service.runs.overview(5).runs
    assert top.run.commands == found
