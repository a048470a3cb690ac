"""Saves of many runs at once: few transactions, and one run's error does not affect the others."""

from collections.abc import Sequence

from provisioner.core.access.owner_limits import UNLIMITED, OwnerLimits
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Node
from provisioner.core.run.states import State
from provisioner.rehearsal.fakes.clock import CountingIds
from tests.service.agents import Script
from tests.service.memory_store import MemoryStore, R
from tests.service.world import World

RUNS = 120


class Counting(MemoryStore):
    """A store that counts transactions, and refuses to store a node of the run `refused` that has its work order."""

    def __init__(self) -> None:
        super().__init__(CountingIds())
        self.saves = 0
        self.refused = ""

    def save(self, records: Sequence[R], *, epoch: int | None = None, limits: OwnerLimits = UNLIMITED) -> tuple[R, ...]:
        if any(isinstance(item, Node) and item.run == self.refused and item.work_put_at for item in records):
            raise ValueError("a record that cannot be written")
        self.saves += 1
        return super().save(records, epoch=epoch, limits=limits)


def test_equal_news_of_many_runs_are_saved_together() -> None:
    """Equal events of all runs take only a few more transactions than those of one run."""

    def saves(runs: int) -> int:
        store = Counting()
        world = World(scripts=lambda _: Script(), store=store)
        for _ in range(runs):
            world.start()
        triggered = store.saves
        world.run()
        world.check()
        return store.saves - triggered

    assert saves(RUNS) < 3 * saves(1)


def test_a_run_that_cannot_be_saved_stops_no_other() -> None:
    """The other runs of its group are saved, and the run continues as soon as it can be saved."""
    store = Counting()
    world = World(scripts=lambda _: Script(), store=store)
    runs = [world.start() for _ in range(5)]
    store.refused = runs[2].id
    _, service = world.incarnate()
    assert service.operator.step()
    assert [node.run for node in store.live().nodes if node.work_put_at is None] == [store.refused]
    store.refused = ""
    world.run()
    world.check()
    assert all(run.verdict and run.verdict.outcome is Outcome.SUCCEEDED for run in store.runs())


def test_boots_that_fail_together_are_all_counted_in_one_pass() -> None:
    """All failed boots count at once, so that no more machines are launched from their template."""
    store = Counting()
    world = World(scripts=lambda _: Script(mute=True, silent_at=0.0, boot=1e6), store=store, busy=400.0)
    for _ in range(10):
        world.start()
    _, service = world.incarnate()
    service.operator.step()
    world.advance(2000.0)
    service.operator.step()
    [health] = store.live().templates
    assert health.failures == 10
    assert {run.state for run in store.live().runs} == {State.STOPPING}
