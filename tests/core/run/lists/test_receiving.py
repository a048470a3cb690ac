"""The records that machines write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.commands.blocks import CommandState
from provisioner.core.protocol.command_lines import LINE_MOST
from provisioner.core.recipe.lists import ListOptions
from provisioner.core.run.lists import repeating
from provisioner.core.run.lists.closing import close, note_listing
from provisioner.core.run.lists.handing import hand_out
from provisioner.core.run.lists.receiving import NO_RETRIES, WASTE_MOST, Taken, blocks_of, take_records
from provisioner.core.run.lists.stopping import stop
from tests.support.lists import NODE, Kept, a_list, handed_out, line, worker
from tests.support.samples import NOW, at_work, held

OUT, SUCCEEDED, FAILED = CommandState.OUT, CommandState.SUCCEEDED, CommandState.FAILED
WAITING = CommandState.WAITING


def take(
    kept: Kept, data: bytes, *, offset: int | None = None, node: str = NODE, options: ListOptions = NO_RETRIES
) -> Taken:
    """Record a chunk of the node's stream, by default the next one, in one transaction."""
    ledger = kept.ledger()
    here = kept.workers[node].records_read if offset is None else offset
    taken = take_records(ledger, node, here, data, NOW, options)
    kept.save(ledger)
    return taken


def test_ends_are_recorded_once_with_everything_that_they_change() -> None:
    """States, counters, the batch, the worker and the place of the chunk change in one transaction."""
    kept, data = handed_out(12, 4), line(2) + line(0, 3, took=3.0)
    assert take(kept, data) == Taken(recorded=2)
    assert kept.states()[:4] == [FAILED, OUT, SUCCEEDED, OUT]
    assert (kept.commands.succeeded, kept.commands.failed, kept.commands.out) == (1, 1, 2)
    assert kept.batches[f"{NODE}.1"].left == 2
    found = kept.workers[NODE]
    assert (found.records_read, found.ended, found.failed) == (len(data), 2, 1)
    (chunk,) = kept.chunks.values()
    assert (chunk.id, chunk.offset, chunk.length) == (f"{NODE}.000000000000000", 0, len(data))
    assert (chunk.run, chunk.attempt, chunk.rank, chunk.first, chunk.last) == ("r1", 1, 0, 0, 2)
    assert take(kept, line(1)) == Taken(recorded=1)
    assert [each.offset for each in kept.chunks.values()] == [0, len(data)]


def test_a_batch_is_closed_with_its_last_record() -> None:
    kept = handed_out(12, 1, 1)
    take(kept, line(0))
    assert [each.closed_at for each in kept.batches.values()] == [NOW, None]


def test_a_chunk_that_was_recorded_changes_nothing() -> None:
    """The machine repeats a PUT whose answer was lost."""
    kept = handed_out(12, 4)
    take(kept, line(0))
    assert take(kept, line(1), offset=0) == Taken()
    assert kept.states()[:2] == [SUCCEEDED, OUT]


def test_a_chunk_after_a_gap_waits() -> None:
    kept = handed_out(12, 4)
    assert take(kept, line(1), offset=5) == Taken()
    assert (kept.states()[1], kept.workers[NODE].records_read) == (OUT, 0)


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (line(0), SUCCEEDED),
        (line(0, 1), FAILED),
        (line(0, 143, why="limit"), FAILED),
        (line(0, 0, why="limit"), FAILED),
        (line(0, 137, why="oom"), FAILED),
        (line(0, 143, why="stop"), CommandState.CANCELLED),
        (line(0, 0, why="stop"), CommandState.CANCELLED),
    ],
)
def test_the_state_follows_from_code_and_cause(end: bytes, state: CommandState) -> None:
    kept = handed_out(12, 1)
    take(kept, end)
    assert kept.states()[0] is state
    assert kept.workers[NODE].failed == (state is FAILED)


@pytest.mark.parametrize(
    ("retry_on", "end", "again"),
    [
        ((), line(0, 1), True),
        ((), line(0, 143, why="limit"), True),
        ((), line(0), False),
        ((), line(0, 143, why="stop"), False),
        ((), line(0, 143, why="cancel"), False),
        ((75, "oom"), line(0, 75), True),
        ((75, "oom"), line(0, 1), False),
        ((75, "oom"), line(0, 137, why="oom"), True),
        ((75, "oom"), line(0, 137), False),
        ((75, "oom"), line(0, 143, why="limit"), False),
        ((137,), line(0, 137, why="oom"), True),
        ((143,), line(0, 143, why="limit"), False),
        (("limit",), line(0, 0, why="limit"), True),
    ],
)
def test_failures_that_the_recipe_names_are_repeated(retry_on: tuple[int | str, ...], end: bytes, again: bool) -> None:
    """The exit code of a command that reached its limit is that of the signal, and says nothing."""
    kept = handed_out(12, 1)
    take(kept, end, options=ListOptions(retries=1, retry_on=retry_on))
    assert (kept.states()[0] is WAITING) == again
    assert (kept.generation(0), kept.commands.repeated, kept.commands.failed) == (
        (2, 1, 0) if again else (1, 0, kept.workers[NODE].failed)
    )
    assert kept.workers[NODE].ended == 1


def test_a_command_runs_again_at_most_as_often_as_the_recipe_says() -> None:
    """A machine that was lost in between uses up no retry."""
    kept, options = handed_out(12, 1), ListOptions(retries=2)
    for generation, state in ((1, WAITING), (3, WAITING), (4, FAILED)):
        take(kept, line(0, 1, generation=generation, number=generation), options=options)
        assert kept.states()[0] is state
        if state is WAITING:
            ledger = kept.ledger()
            hand_out(ledger, {NODE: 1})
            kept.save(ledger)
        if generation == 1:
            ledger = kept.ledger()
            ledger.take_back(0)
            ledger.put(ledger.batches[f"{NODE}.2"], left=0, closed_at=NOW)
            hand_out(ledger, {NODE: 1})
            kept.save(ledger)
    assert (kept.commands.repeated, kept.commands.retried, kept.commands.failed) == (2, 1, 1)


def test_a_command_that_is_being_stopped_is_not_repeated() -> None:
    """It may fail by itself before the order arrives."""
    kept = handed_out(12, 1)
    ledger = kept.ledger()
    stop(ledger, 0)
    kept.save(ledger)
    take(kept, line(0, 1), options=ListOptions(retries=1))
    assert kept.states()[0] is FAILED


def test_a_command_with_the_last_generation_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generation is one byte."""
    monkeypatch.setattr(repeating, "GENERATION_MOST", 1)
    kept = handed_out(12, 1)
    take(kept, line(0, 1), options=ListOptions(retries=1))
    assert kept.states()[0] is FAILED


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(line(1, number=2), id="a batch that the machine never got"),
        pytest.param(line(4), id="a command of another batch"),
        pytest.param(line(11), id="a command that was never handed out"),
        pytest.param(line(12), id="a command that the list does not have"),
        pytest.param(line(1, generation=2), id="a generation that the command has not"),
    ],
)
def test_a_line_about_what_the_machine_has_not_is_dropped(data: bytes) -> None:
    """The machine is not trusted; the rest of its chunk counts."""
    kept = handed_out(12, 4)
    before = kept.states()
    assert take(kept, data) == Taken(dropped=1)
    assert kept.states() == before
    assert kept.commands.ended == 0
    (chunk,) = kept.chunks.values()
    assert (chunk.first, chunk.last) == (0, -1)


def test_a_second_line_about_a_command_is_dropped() -> None:
    """A new agent process repeats the line that it may not have written."""
    kept = handed_out(12, 4)
    assert take(kept, line(1) + line(1, 1)) == Taken(recorded=1, dropped=1)
    assert take(kept, line(1, 1)) == Taken(dropped=1)
    assert (kept.states()[1], kept.commands.out) == (SUCCEEDED, 3)


def test_the_record_of_another_machine_is_dropped() -> None:
    """Each machine has a batch 1, and only its own counts."""
    kept = handed_out(12, 4)
    kept.add(worker("r1.2.0"))
    assert take(kept, line(1), node="r1.2.0") == Taken(dropped=1)
    assert kept.states()[1] is OUT


def test_a_late_record_of_a_lost_machine_is_dropped() -> None:
    """Its commands wait for another machine; a late chunk does not even move its place in the stream."""
    kept = handed_out(12, 4)
    over, ledger = held(ended_at=NOW), kept.ledger()
    note_listing(ledger, over, {}, True, NOW)
    close(ledger, over, at_work(), NOW, ListOptions())
    kept.save(ledger)
    kept.add(worker("r1.2.0"))
    ledger = kept.ledger()
    hand_out(ledger, {"r1.2.0": 4})
    kept.save(ledger)
    assert take(kept, line(1)) == Taken()
    assert kept.workers[NODE].records_read == 0
    assert take(kept, line(1), node="r1.2.0") == Taken(dropped=1), "the old generation"
    assert take(kept, line(1, generation=2), node="r1.2.0") == Taken(recorded=1)


def test_a_line_may_be_in_two_chunks() -> None:
    """The second chunk's record keeps the beginning, so that a reader of this chunk has the whole line."""
    kept, data = handed_out(12, 4), line(0) + line(1) + line(2)
    cut = len(line(0)) + 5
    assert take(kept, data[:cut]) == Taken(recorded=1)
    assert take(kept, data[cut:]) == Taken(recorded=2)
    first, second = kept.chunks.values()
    assert (first.rest, second.rest.encode()) == ("", line(1)[:5])
    assert (second.first, second.last, second.offset) == (1, 2, cut)
    assert kept.workers[NODE].rest == ""


@given(st.lists(st.integers(1, 100), max_size=8))
def test_cuts_change_nothing(cuts: list[int]) -> None:
    """Whatever the chunks, the same ends are recorded."""
    kept, data = handed_out(12, 8), b"".join(line(index, index % 2) for index in range(8))
    for cut in cuts:
        take(kept, data[:cut])
        data = data[cut:]
    take(kept, data)
    assert (kept.commands.succeeded, kept.commands.failed) == (4, 4)


def test_lines_that_cannot_be_read_are_counted() -> None:
    """The first reason is kept, and the lines around are recorded."""
    kept = handed_out(12, 4)
    taken = take(kept, line(0) + b"\xff\xfe\n" + b"7 x\n" + line(1))
    assert (taken.recorded, taken.unreadable) == (2, 2)
    assert "invalid line" in taken.why


def test_a_line_without_an_end_is_not_kept_for_ever() -> None:
    kept = handed_out(12, 4)
    taken = take(kept, b"1" * LINE_MOST)
    assert (taken.unreadable, kept.workers[NODE].rest) == (1, "")
    assert str(LINE_MOST) in taken.why
    take(kept, b"\n" + line(0))
    assert kept.states()[0] is SUCCEEDED


@pytest.mark.parametrize("waste", [b"\n", line(11)], ids=["unreadable", "dropped"])
def test_a_chunk_of_waste_takes_little_time(waste: bytes) -> None:
    """A hostile machine must not stop the passes for the others; its own later lines are lost."""
    kept = handed_out(12, 4)
    taken = take(kept, waste * WASTE_MOST + line(0) + waste + line(1))
    assert (taken.recorded, taken.unreadable + taken.dropped) == (1, WASTE_MOST + 1)
    assert kept.workers[NODE].records_read > WASTE_MOST


@given(st.binary(max_size=300))
def test_any_bytes_are_taken(data: bytes) -> None:
    """A hostile machine cannot end the pass, or change what it has not."""
    kept = handed_out(12, 4)
    take(kept, data)
    assert kept.commands.out == 4
    assert kept.workers[NODE].records_read == len(data)


def test_the_rate_follows_from_the_lengths_of_the_commands() -> None:
    """Two commands at once of half a second each are four a second. Later ones count more, the longer they took."""
    kept = handed_out(12, 8)
    take(kept, line(0, took=0.5) + line(1, took=0.5))
    assert kept.workers[NODE].rate == 4.0
    take(kept, line(2, took=1.0))
    assert kept.workers[NODE].rate == 3.0
    take(kept, line(3, took=1000.0))
    assert kept.workers[NODE].rate < 0.1


def test_few_short_commands_promise_no_high_rate() -> None:
    """The time between the end of one command and the begin of the next is longer than such a command."""
    kept = handed_out(12, 4)
    take(kept, line(0, took=0.0) + line(1, took=0.001))
    assert kept.workers[NODE].rate == 100.0


def test_the_rate_of_many_short_commands_is_measured_from_the_first_to_the_last() -> None:
    """All of them begin at 5 s; the last one ends half a second later."""
    kept = handed_out(40, 20)
    take(kept, b"".join(line(index, took=0.001) for index in range(9)) + line(9, took=0.5))
    assert kept.workers[NODE].rate == 20.0


def test_a_clock_that_stands_still_gives_a_rate() -> None:
    kept = handed_out(40, 20)
    take(kept, b"".join(line(index, took=0.0) for index in range(20)))
    assert kept.workers[NODE].rate == 2000.0


def test_the_blocks_of_batches_are_all_that_they_touch() -> None:
    assert blocks_of(a_list(100), [(4, 2, 1), (20, 5, 1), (99, 1, 3)]) == {0, 1, 4, 19}
    assert blocks_of(a_list(100), []) == set()
