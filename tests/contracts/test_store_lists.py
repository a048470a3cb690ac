"""The contract of `ports/store.py` for lists of commands."""

from dataclasses import replace

import pytest

from provisioner.core.access.owner_limits import OwnerLimits
from provisioner.core.commands.records import Block, CommandList, RecordChunk
from provisioner.core.commands.uploads import Upload
from provisioner.core.errors import Conflict, LimitReached, NotFound
from provisioner.core.protocol.codec import encode
from provisioner.core.run.records import Record, Run
from provisioner.ports.store import Store
from tests.support.lists import a_list, batch, worker
from tests.support.stored import run


def block(number: int, waiting: int = 0, of: str = "r1") -> Block:
    return Block(f"{of}.{number:06d}", of, number, b"\x00\xff" * 9, bytes(range(256)), waiting)


def chunk(offset: int, first: int, last: int, *, of: str = "r1", attempt: int = 1) -> RecordChunk:
    return RecordChunk(f"{of}.{attempt}.0.{offset:015d}", of, attempt, 0, offset, 9, first, last, "\xff 1")


def upload(id: str = "u1", *, owner: str = "ann", at: float = 1.0, size: int = 900) -> Upload:
    return Upload(id, owner, at, 12, size, (0, 5, 7), "5e", 20)


def with_upload(id: str = "r1", upload: str = "u1", owner: str = "ann") -> Run:
    return replace(run(id, owner=owner), commands=12, upload=upload)


def test_what_is_saved_is_read_back(store: Store) -> None:
    """Every record of a list is read back as it was saved, with its version raised by one."""
    records: list[Record] = [run(), a_list(), worker(), batch((0, 2, 1), (7, 1, 3)), block(1), chunk(0, 1, 2)]
    saved = store.save(records)
    assert list(saved) == [replace(each, version=1) for each in records]
    live = store.live()
    assert (live.lists, live.workers, live.batches) == ((saved[1],), (saved[2],), (saved[3],))
    assert (store.command_list("r1"), store.workers("r1")) == (saved[1], (saved[2],))
    assert (store.blocks("r1", [1]), store.record_chunks("r1", 0, 9)) == ((saved[4],), (saved[5],))


def test_the_list_is_stored_with_its_run(store: Store) -> None:
    """No run of a list is without it, whatever happens in between."""
    made = store.add_run(replace(run(), commands=12), 0.0, [a_list()])
    assert store.command_list(made.id) == replace(a_list(), version=1)


def test_a_run_without_a_list_has_none(store: Store) -> None:
    store.save([run()])
    assert store.command_list("r1") is None
    assert (store.workers("r1"), store.blocks("r1", [0]), store.waiting_blocks("r1", 9)) == ((), (), ())
    assert store.record_chunks("r1", 0, 9) == ()


def test_a_stale_list_is_a_conflict_and_nothing_is_written(store: Store) -> None:
    """Two passes that read the same list do not both hand out its commands."""
    (first,) = store.save([a_list()])
    assert isinstance(first, CommandList)
    store.save([replace(first, next=4)])
    several: list[Record] = [block(0), replace(first, next=6)]
    with pytest.raises(Conflict):
        store.save(several)
    assert store.blocks("r1", [0]) == ()
    found = store.command_list("r1")
    assert found
    assert found.next == 4


def test_live_omits_the_lists_of_finished_runs_and_closed_batches(store: Store) -> None:
    """They are still read by their run."""
    several: list[Record] = [run(), run("r2"), a_list(), replace(a_list(), id="r2"), worker(), worker("r2.1.0")]
    several += [batch((0, 2, 1)), batch((2, 2, 1), number=2)]
    store.save(several)
    assert len(store.live().lists) == len(store.live().workers) == len(store.live().batches) == 2
    kept = store.run("r2")
    assert kept
    closing: list[Record] = [replace(kept, done_at=3.0), replace(batch((0, 2, 1)), left=0, closed_at=3.0, version=1)]
    store.save(closing)
    live = store.live()
    found: list[Record] = [*live.lists, *live.workers, *live.batches]
    assert [each.id for each in found] == ["r1", "r1.1.0", "r1.1.0.2"]
    assert store.command_list("r2")
    assert [each.id for each in store.workers("r2")] == ["r2.1.0"]


def test_workers_are_sorted_by_attempt_and_rank(store: Store) -> None:
    store.save([worker("r1.10.0"), worker("r1.2.1"), worker("r1.2.0"), worker("r2.1.0")])
    assert [each.id for each in store.workers("r1")] == ["r1.2.0", "r1.2.1", "r1.10.0"]


def test_blocks_are_read_by_number(store: Store) -> None:
    store.save([block(number) for number in (12, 0, 3)] + [block(3, of="r2")])
    assert [each.number for each in store.blocks("r1", [3, 4, 12])] == [3, 12]
    assert store.blocks("r1", []) == ()
    assert [each.number for each in store.blocks("r1", range(99))] == [0, 3, 12]


def test_blocks_with_waiting_commands_are_read_in_their_order(store: Store) -> None:
    """Without those in which none waits any more."""
    first, *_ = store.save([block(number, waiting=number % 2) for number in (9, 1, 2, 5, 3)] + [block(0, 1, of="r2")])
    assert [each.number for each in store.waiting_blocks("r1", 3)] == [1, 3, 5]
    store.save([replace(first, waiting=0)])
    assert [each.number for each in store.waiting_blocks("r1", 9)] == [1, 3, 5]


def test_chunks_are_found_by_the_commands_in_them(store: Store) -> None:
    """By the machine and the place in its stream; a chunk without a command is never found."""
    several = [chunk(900, 5, 8, attempt=2), chunk(70, 0, 4), chunk(8, 4, 4), chunk(9, 0, -1), chunk(5, 0, 9, of="r2")]
    store.save(several)

    def found(first: int, last: int) -> list[int]:
        return [each.offset for each in store.record_chunks("r1", first, last)]

    assert found(0, 99) == [8, 70, 900]
    assert found(4, 4) == [8, 70]
    assert found(5, 5) == [900]
    assert found(9, 99) == found(-1, -1) == []
    assert found(0, 0) == [70]


def test_an_upload_is_read_back_and_used_by_several_runs(store: Store) -> None:
    (saved,) = store.save([upload()])
    assert saved == replace(upload(), version=1)
    assert (store.upload("u1"), store.upload("u2")) == (saved, None)
    for id in ("r1", "r2"):
        assert store.add_run(with_upload(id), 0.0).upload == "u1"
    assert [each.upload for each in store.live().runs] == ["u1", "u1"]


@pytest.mark.parametrize("made", [with_upload(upload="u2"), with_upload(owner="bob")])
def test_a_run_is_not_stored_without_an_upload_of_its_owner(store: Store, made: Run) -> None:
    store.save([upload()])
    with pytest.raises(NotFound, match=f"no upload '{made.upload}'"):
        store.add_run(made, 0.0, [a_list()])
    assert (store.run("r1"), store.command_list("r1")) == (None, None)


def test_only_unused_uploads_are_listed_and_dropped(store: Store) -> None:
    """A run that has ended uses its upload as well: its commands can be read."""
    store.save([upload(f"u{number}", at=float(number)) for number in (3, 1, 2, 4)])
    made = store.add_run(with_upload(upload="u2"), 0.0)
    store.save([replace(made, done_at=9.0)])
    assert [each.id for each in store.unused_uploads(4.0, 9)] == ["u1", "u3"]
    assert [each.id for each in store.unused_uploads(4.0, 1)] == ["u1"]
    assert [store.drop_upload(id) for id in ("u1", "u1", "u2", "u9")] == [True, False, False, False]
    assert [store.upload(id) is None for id in ("u1", "u2", "u3")] == [True, False, False]
    with pytest.raises(NotFound):
        store.add_run(with_upload("r2"), 0.0)


def test_an_upload_counts_while_it_is_unused_or_a_run_with_it_is_unfinished(store: Store) -> None:
    """It counts once, for its owner, however many runs use it."""
    limits = OwnerLimits(stored_bytes=2_000)
    store.save([upload("u1"), upload("bob's", owner="bob")], limits=limits)
    with pytest.raises(LimitReached) as refused:
        store.save([upload("u2", size=1_101)], limits=limits)
    assert (refused.value.limit, store.upload("u2")) == ("limits.stored_mib", None)
    assert store.add_run(with_upload("r1"), 0.0, limits=limits)
    more = OwnerLimits(stored_bytes=4_000)
    assert store.add_run(with_upload("r2"), 0.0, limits=more)
    runs = sum(len(encode(each)) for each in store.live().runs)
    with pytest.raises(LimitReached):
        store.save([upload("u2", size=3_000)], limits=OwnerLimits(stored_bytes=runs + 3_700))
    store.save([replace(each, done_at=9.0) for each in store.live().runs])
    store.save([upload("u2", size=3_700)], limits=more)
    # A finished run's upload counts again for a new run.
    with pytest.raises(LimitReached):
        store.add_run(with_upload("r3"), 0.0, limits=OwnerLimits(stored_bytes=4_300 + len(encode(with_upload("r3")))))
    assert store.drop_upload("u2")
    assert store.add_run(with_upload("r3"), 0.0, limits=limits)
