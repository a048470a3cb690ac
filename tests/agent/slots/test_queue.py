"""The order of commands on a machine, across the death of an agent process."""

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.agent.slots.queue import Queue
from provisioner.core.errors import Invalid
from provisioner.core.protocol.batches import BatchHead, decode_batch, encode_batch

RANGES = ((4, 2, 1), (0, 1, 3))


def batch(number: int, ranges: tuple[tuple[int, int, int], ...] = RANGES, run: str = "run") -> bytes:
    texts = b"".join(b"%d\0" % index for first, count, _ in ranges for index in range(first, first + count))
    return encode_batch(BatchHead(run, 1, 0, number, ranges), texts)


def queue(folder: Path, begun: tuple[int, int] = (0, 0)) -> Queue:
    return Queue(folder, "run", 1, 0, begun)


def test_commands_begin_in_the_order_of_their_ranges(tmp_path: Path) -> None:
    made = queue(tmp_path)
    made.add(1, batch(1))
    made.add(2, batch(2, ((9, 1, 1),)))
    assert (made.read, made.waiting) == (2, 4)
    taken = [made.take() for _ in range(5)]
    assert [each and (each.batch, each.position, each.index, each.generation, each.text) for each in taken] == [
        (1, 0, 4, 1, b"4"),
        (1, 1, 5, 1, b"5"),
        (1, 2, 0, 3, b"0"),
        (2, 0, 9, 1, b"9"),
        None,
    ]
    assert (made.read, made.waiting) == (2, 0)


def test_stopped_commands_never_begin(tmp_path: Path) -> None:
    """Neither under this agent process nor under the next one, which knows which ones they were."""
    made = queue(tmp_path)
    made.add(1, batch(1))
    made.add(2, batch(2, ((9, 3, 1),)))
    assert made.take()
    assert [each.index for each in made.skip({4, 5, 10, 77})] == [5, 10]
    assert (made.waiting, made.skip({5, 10})) == (3, [])
    after = queue(tmp_path, (1, 0))
    assert [(each.batch, each.position, each.index, each.generation) for each in after.skipped] == [
        (1, 1, 5, 1),
        (2, 1, 10, 1),
    ]
    assert after.waiting == 3
    for each in (made, after):
        assert [command.index for _ in range(3) if (command := each.take())] == [0, 9, 11]
        assert each.take() is None


def test_commands_after_a_stopped_one_can_be_given_back(tmp_path: Path) -> None:
    """The machine keeps at least those that it has begun."""
    made = queue(tmp_path)
    made.add(1, batch(1, ((0, 6, 1),)))
    made.take()
    made.skip({3})
    assert made.give_back(1, 1)
    kept = made.kept[1]
    assert 1 < kept < 6
    assert made.waiting == len([position for position in range(1, kept) if position != 3])
    assert [command.index for _ in range(9) if (command := made.take())] == [each for each in (1, 2, 4) if each < kept]


@pytest.mark.parametrize("data", [batch(2), batch(1, run="other"), b"{}\n", batch(1) + b"more"])
def test_batch_of_another_node_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(Invalid):
        queue(tmp_path).add(1, data)
    assert queue(tmp_path).read == 0


@given(counts=st.lists(st.integers(1, 4), min_size=1, max_size=4), taken=st.integers(0, 16))
def test_next_process_goes_on_after_the_last_command_that_has_begun(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], taken: int
) -> None:
    """Each command begins once, whether or not the files of earlier batches were deleted in time."""
    folder = tmp_path_factory.mktemp("queue")
    first, index, begun, got = queue(folder), 0, (0, 0), []
    for number, count in enumerate(counts, 1):
        first.add(number, batch(number, ((index, count, 1),)))
        index += count
    for _ in range(taken):
        command = first.take()
        if command is None:
            break
        begun = (command.batch, command.position)
        got.append(command.index)
        if command.index % 2:
            first.drop(command.batch)
    second = queue(folder, begun)
    assert second.read == len(counts)
    assert second.waiting == index - len(got)
    while command := second.take():
        got.append(command.index)
    assert got == list(range(index))


def test_commands_that_have_not_begun_are_given_back(tmp_path: Path) -> None:
    made = queue(tmp_path)
    for number, first in ((1, 0), (2, 10), (3, 20)):
        made.add(number, batch(number, ((first, 4, 1),)))
    taken = [made.take() for _ in range(2)]
    assert made.give_back(1, 1)
    assert made.give_back(3, 0)
    assert not made.give_back(3, 4), "the first answer is final"
    assert not made.give_back(4, 0), "this batch was not read"
    assert made.kept == {1: 3, 3: 0}
    assert made.waiting == 5
    after = queue(tmp_path, (taken[-1].batch, taken[-1].position) if taken[-1] else (0, 0))
    assert (after.kept, after.waiting) == (made.kept, 5)
    for each in (made, after):
        assert [each and each.index for each in iter(each.take, None)] == [2, 10, 11, 12, 13]


def test_a_batch_that_has_begun_whole_keeps_all(tmp_path: Path) -> None:
    made = queue(tmp_path)
    made.add(1, batch(1))
    made.add(2, batch(2))
    while command := made.take():
        made.drop(command.batch)
    assert made.give_back(1, 0)
    assert made.kept[1] > 3


def test_nothing_is_given_back_if_the_answer_cannot_be_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = queue(tmp_path)
    made.add(1, batch(1))

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("provisioner.agent.machine.files.replace", full)
    with pytest.raises(OSError, match="no space left"):
        made.give_back(1, 0)
    assert (made.kept, made.waiting) == ({}, 3)


def test_a_batch_that_arrives_while_commands_are_stopped_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread reads batches, and another one stops commands."""
    made = queue(tmp_path)
    made.add(1, batch(1))
    other = threading.Thread(target=made.add, args=(2, batch(2, ((9, 2, 1),))))

    def decoded(data: bytes) -> tuple[BatchHead, list[bytes]]:
        if not other.ident:
            other.start()
            # If it does not wait for the count, it is over at once.
            other.join(0.2)
        return decode_batch(data)

    monkeypatch.setattr("provisioner.agent.slots.queue.decode_batch", decoded)
    made.skip({5})
    other.join()
    assert made.waiting == 4


def test_stopped_commands_do_not_count_as_kept(tmp_path: Path) -> None:
    """All commands that have not begun are given back, although one of them was stopped."""
    made = queue(tmp_path)
    made.add(1, batch(1, ((0, 4, 1),)))
    made.take()
    made.take()
    made.skip({3})
    assert made.give_back(1, 0)
    assert (made.kept, made.waiting) == ({1: 2}, 0)
