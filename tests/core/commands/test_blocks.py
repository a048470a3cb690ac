"""The states of a list's commands."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.commands.blocks import EDGES, FINAL, GENERATION_MOST, Blocks, CommandState, Count, WrongChange
from provisioner.core.commands.records import BLOCK, Block, CommandList

FRESH, OUT, WAITING = CommandState.FRESH, CommandState.OUT, CommandState.WAITING
#: 12 commands in blocks of 5: the last one has two.
LIST = CommandList("r1", 12, block_size=5)


def with_states(*states: CommandState, generation: int = 1) -> Blocks:
    """Return the first block with these states."""
    blocks = Blocks(LIST, ())
    for index, state in enumerate(states):
        if state is not FRESH:
            put(blocks, index, state, generation)
    stored = blocks.changed()
    return Blocks(replace(LIST, next=len(states) if stored else 0), stored)


def put(blocks: Blocks, index: int, state: CommandState, generation: int = 1) -> None:
    if state is CommandState.NOT_RUN:
        blocks.end(index, state)
        return
    blocks.hand_out(index)
    for _ in range(generation - 1):
        blocks.take_back(index)
        blocks.hand_out(index)
    if state is WAITING:
        blocks.take_back(index)
    elif state is not OUT:
        blocks.end(index, state)


@pytest.mark.parametrize("state", CommandState)
@pytest.mark.parametrize("action", ["hand_out", "take_back", *FINAL])
def test_a_command_changes_only_along_an_edge(state: CommandState, action: CommandState | str) -> None:
    """A final state never changes, and a command that a machine has is not handed out again."""
    blocks = with_states(state)
    new = {"hand_out": OUT, "take_back": WAITING}.get(action) if isinstance(action, str) else action
    assert new is not None
    change = (lambda: blocks.end(0, new)) if new in FINAL else lambda: getattr(blocks, str(action))(0)
    if (state, new) in EDGES:
        change()
        assert blocks.state(0) is new
    else:
        with pytest.raises(WrongChange):
            change()
        assert (blocks.state(0), blocks.changed()) == (state, [])


def test_only_final_states_end_a_command() -> None:
    blocks = with_states(OUT)
    for state in (FRESH, OUT, WAITING):
        with pytest.raises(WrongChange):
            blocks.end(0, state)


def test_each_loss_raises_the_generation() -> None:
    """A late record of a lost machine has the old generation, so it is not taken for one of the new machine."""
    blocks = Blocks(LIST, ())
    assert blocks.generation(0) == 0
    for generation in (1, 2, 3):
        blocks.hand_out(0)
        assert blocks.generation(0) == generation
        blocks.take_back(0)
        assert blocks.generation(0) == generation + 1


def test_a_machine_has_a_command_in_one_generation() -> None:
    blocks = with_states(OUT, WAITING, CommandState.SUCCEEDED, generation=2)
    assert [blocks.is_out(0, generation) for generation in (1, 2, 3)] == [False, True, False]
    assert [blocks.is_out(index, blocks.generation(index)) for index in (1, 2, 3)] == [False] * 3


def test_generations_end_at_the_largest_byte() -> None:
    blocks = with_states(OUT, generation=GENERATION_MOST)
    with pytest.raises(WrongChange, match="255 times"):
        blocks.take_back(0)


def test_several_commands_change_across_blocks() -> None:
    blocks = Blocks(LIST, ())
    assert blocks.hand_out(0, 12) == {FRESH: 12}
    assert blocks.take_back(3, 4) == {OUT: 4}
    assert blocks.hand_out(4, 1) == {WAITING: 1}
    assert [blocks.generation(index) for index in range(8)] == [1, 1, 1, 2, 2, 2, 2, 1]
    assert [list(blocks.runs_of(number, OUT)) for number in range(3)] == [
        [(0, 3, 1), (4, 1, 2)],
        [(7, 3, 1)],
        [(10, 2, 1)],
    ]


def test_one_command_in_a_wrong_state_stops_the_change_of_several() -> None:
    blocks = Blocks(LIST, ())
    blocks.hand_out(0, 4)
    blocks.end(2, CommandState.SUCCEEDED)
    with pytest.raises(WrongChange, match="command 2 cannot go from SUCCEEDED to WAITING"):
        blocks.take_back(0, 4)
    with pytest.raises(KeyError, match="no commands 10 to 12"):
        blocks.hand_out(10, 3)


def test_only_commands_that_are_out_in_a_generation_are_found() -> None:
    blocks = Blocks(LIST, ())
    blocks.hand_out(0, 9)
    blocks.end(1, CommandState.SUCCEEDED)
    blocks.take_back(6)
    blocks.hand_out(6)
    assert list(blocks.out(0, 9, 1)) == [(0, 1, 1), (2, 3, 1), (5, 1, 1), (7, 2, 1)]
    assert list(blocks.out(5, 2, 2)) == [(6, 1, 2)]


def test_changed_blocks_are_read_back() -> None:
    """Only changed blocks are returned; each keeps its version, and counts the commands that wait."""
    blocks = Blocks(LIST, ())
    for index in range(7):
        blocks.hand_out(index)
    blocks.take_back(6)
    first, second = blocks.changed()
    assert [(block.id, block.number, block.waiting) for block in (first, second)] == [
        ("r1.000000", 0, 0),
        ("r1.000001", 1, 1),
    ]
    again = Blocks(replace(LIST, next=7), [replace(first, version=4), replace(second, version=9)])
    assert [again.state(index) for index in (4, 5, 6, 7)] == [OUT, OUT, WAITING, FRESH]
    assert again.changed() == []
    again.hand_out(6)
    (third,) = again.changed()
    assert (third.id, third.version, third.waiting) == ("r1.000001", 9, 0)
    assert again.numbers == [0, 1]


def test_a_failed_command_runs_again_with_its_next_generation_and_is_counted() -> None:
    """The count is kept apart from the generation, which also grows with each loss. A block without counts has none."""
    blocks = Blocks(LIST, ())
    for index in (0, 1):
        blocks.hand_out(index)
    (plain,) = blocks.changed()
    assert (plain.failures, plain.deaths, plain.excused) == (b"", b"", b"")
    blocks.take_back(0)
    blocks.hand_out(0)
    blocks.repeat(0)
    assert (blocks.state(0), blocks.generation(0), blocks.count(0, Count.FAILURES)) == (WAITING, 3, 1)
    blocks.add(1, Count.DEATHS)
    again = Blocks(replace(LIST, next=2), blocks.changed())
    assert [[again.count(index, name) for index in (0, 1, 4)] for name in Count] == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert list(again.by_count(0, 3, Count.FAILURES, Count.EXCUSED)) == [(0, 1, True), (1, 2, False)]
    assert list(again.by_count(0, 2, Count.DEATHS, least=2)) == [(0, 2, False)]
    with pytest.raises(WrongChange):
        again.repeat(0)


def test_a_failure_on_a_bad_machine_is_excused_once() -> None:
    """No other change leaves a final state, and no other final state is left."""
    blocks = with_states(CommandState.FAILED, OUT, CommandState.SUCCEEDED, WAITING)
    blocks.excuse(0)
    assert (blocks.state(0), blocks.generation(0), blocks.count(0, Count.EXCUSED)) == (WAITING, 2, 1)
    blocks.hand_out(0)
    blocks.end(0, CommandState.FAILED)
    for index in range(4):
        with pytest.raises(WrongChange):
            blocks.excuse(index)
    for again in (blocks.take_back, blocks.repeat, blocks.give_back):
        with pytest.raises(WrongChange):
            again(0)


def test_a_block_that_was_not_loaded_is_an_error() -> None:
    """Its commands must not count as fresh; a block that was never used is made."""
    blocks = Blocks(replace(LIST, next=6), ())
    for index in (0, 5, 12, -1):
        with pytest.raises(KeyError):
            blocks.state(index)
    assert blocks.state(10) is FRESH


def test_ranges_have_one_state_and_one_generation() -> None:
    blocks = with_states(WAITING, WAITING, OUT, WAITING, WAITING)
    blocks.hand_out(4)
    blocks.take_back(4)
    assert list(blocks.runs_of(0, WAITING)) == [(0, 2, 2), (3, 1, 2), (4, 1, 3)]
    assert list(blocks.runs_of(0, OUT)) == [(2, 1, 1)]
    assert list(Blocks(replace(LIST, next=10), ()).runs_of(2, FRESH)) == [(10, 2, 0)]


@given(st.lists(st.sampled_from(CommandState), min_size=5, max_size=5), st.sampled_from(CommandState))
def test_ranges_are_all_commands_of_a_state(states: list[CommandState], wanted: CommandState) -> None:
    found = [first + each for first, count, _ in with_states(*states).runs_of(0, wanted) for each in range(count)]
    assert found == [index for index, state in enumerate(states) if state is wanted]


def test_a_block_is_small() -> None:
    """A list of ten million commands has a thousand blocks in the store."""
    commands = CommandList("r1", BLOCK)
    blocks = Blocks(commands, ())
    for index in range(BLOCK):
        blocks.hand_out(index)
        blocks.end(index, CommandState.SUCCEEDED)
    (block,) = blocks.changed()
    assert isinstance(block, Block)
    assert len(block.states) + len(block.generations) < 200
