"""Seeded worlds: crashes, lost answers, droughts, interruptions, broken machines, wrong clocks, all at once."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from provisioner.adapters.sql.store import SqlStore
from provisioner.core.owner_limits import UNLIMITED, OwnerLimits
from provisioner.core.record import Run
from provisioner.core.run import TRANSITIONS, State
from provisioner.rehearsal.stepping import CountingIds
from tests.service import chances
from tests.service.memory_store import MemoryStore, R
from tests.service.world import World

#: Seeds of one test: enough tests for xdist to share, few enough to name the culprit soon.
EACH = 20


def live_through(seed: int, world: World) -> None:
    """Let the world come to its end, and hold it to the invariants."""
    downtimes = random.Random(seed)
    try:
        world.run(lambda: downtimes.choice((1.0, 1.0, 30.0, 400.0, 2000.0)))
        world.check()
    except BaseException as error:
        error.add_note(f"seed {seed}\n{world.story()}")
        raise


@pytest.mark.parametrize("first", range(0, 300, EACH))
def test_whatever_happens_the_invariants_hold(first: int) -> None:
    """Every machine ends, every run is done, nothing executes twice, nobody healthy is ended, no log is lost."""
    for seed in range(first, first + EACH):
        live_through(seed, chances.world(seed))


@pytest.mark.parametrize("seed", [1000, 1001, 1002])
def test_it_is_the_same_on_a_real_file(seed: int, tmp_path: Path) -> None:
    """The store of the worlds is held to the contract of the real one; this is the proof that it suffices."""
    store = SqlStore(tmp_path / "store.db", CountingIds())
    try:
        live_through(seed, chances.world(seed, store))
    finally:
        store.close()


class Witness(MemoryStore):
    """Sees every move of every run."""

    def __init__(self) -> None:
        super().__init__(CountingIds())
        self.moves: set[tuple[State, State]] = set()

    def save(self, records: Sequence[R], *, epoch: int | None = None, limits: OwnerLimits = UNLIMITED) -> tuple[R, ...]:
        before = {item.id: self.run(item.id) for item in records if isinstance(item, Run)}
        stored = super().save(records, epoch=epoch, limits=limits)
        for item in stored:
            if isinstance(item, Run):
                self._see(before[item.id], item)
        return stored

    def _see(self, old: Run | None, new: Run) -> None:
        if old and old.state is not new.state:
            self.moves.add((old.state, new.state))
        if old and new.state is State.QUEUED and new.next_try_at > old.next_try_at:
            # A run that waits says for what: its cause, or why its last attempt ended.
            assert new.waiting_for or new.verdict, new


def test_runs_go_every_way_there_is_and_no_other() -> None:
    """Every edge of the table is gone by some run of some world; no run ever waits without a word."""
    moves: set[tuple[State, State]] = set()
    for seed in range(2000, 2200):
        store = Witness()
        live_through(seed, chances.world(seed, store))
        moves |= store.moves
        assert moves <= TRANSITIONS.keys()
        if moves == TRANSITIONS.keys():
            return
    raise AssertionError(f"never gone: {TRANSITIONS.keys() - moves}")


def test_a_world_is_its_seed() -> None:
    """The same seed tells the same story, or no failure could be looked into."""
    stories = []
    for _ in range(2):
        world = chances.world(7)
        live_through(7, world)
        stories.append(world.story())
    assert stories[0] == stories[1]
