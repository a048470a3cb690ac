"""Measure what an hour of a daemon costs, in AWS calls and in dollars, in virtual time."""

from collections.abc import Callable, Iterator
from pathlib import Path

from provisioner.core.run.states import State
from provisioner.rehearsal.fakes.clock import StepClock
from scripts.benchmarks.cloud import recipe
from scripts.benchmarks.figures import Figure, figure
from scripts.benchmarks.lives import Lives
from scripts.benchmarks.world import CountedBucket, World

HOUR = 3600.0
#: Dollars a request (Amazon S3 pricing, S3 Standard in us-east-1): for PUT, COPY and LIST, and for GET. DELETE and
#: EC2's calls are free.
PUT, GET = 0.005 / 1000, 0.0004 / 1000
#: Baseline, simple polling: one DescribeInstances and one LIST a second, and one put a second by each machine.
POLLED, NAIVE_CALLS = HOUR * PUT, 2 * HOUR
MACHINES = 100


class PlayedClock(StepClock):
    """A clock that advances when the control plane waits, and then calls `played` with the new time."""

    played: Callable[[float], None] | None = None

    def wait(self, seconds: float) -> None:
        super().wait(seconds)
        if self.played:
            self.played(self.now())


def hour(folder: Path, quick: bool) -> Iterator[Figure]:
    """Calls and dollars of an idle hour, and of a busy hour with 100 printing machines and one new run a minute."""
    clock = PlayedClock()
    world = World(folder, clock)
    try:
        world.service.jobs.apply(recipe("train", "train"), "the bench's recipe")
        _pass(world, HOUR)
        calls, dollars = _spent(world)
        yield figure("hour-idle-calls", calls, "calls", NAIVE_CALLS)
        yield figure("hour-idle", dollars, "$", POLLED, aim="<= 0.01")
        yield from _busy(world, clock, HOUR / 12 if quick else HOUR)
    finally:
        world.service.close()


def _busy(world: World, clock: PlayedClock, seconds: float) -> Iterator[Figure]:
    """Yield the figures of a busy hour, measured for `seconds`: each minute, one run ends and another begins."""
    theirs = CountedBucket(clock.now, objects=world.bucket.objects)
    settled = 300.0
    lives = Lives(world.cloud, theirs, lambda number: settled + 60.0 * number)
    clock.played = lives.play
    for _ in range(MACHINES):
        world.service.runs.start("train", {})
    _pass(world, settled)
    assert [run.state for run in world.store.live().runs] == [State.RUNNING] * MACHINES
    _spent(world)
    theirs.puts = theirs.gets = 0
    for _ in range(int(seconds / 60)):
        world.service.runs.start("train", {})
        _pass(world, 60.0)
    share = HOUR / seconds
    calls, dollars = _spent(world)
    yield figure("hour-busy-calls", calls * share, "calls", NAIVE_CALLS)
    yield figure("hour-busy", dollars * share, "$", POLLED)
    machines = theirs.puts * PUT + theirs.gets * GET
    yield figure("hour-busy-machines", machines * share, "$", MACHINES * POLLED, n=MACHINES)


def _pass(world: World, seconds: float) -> None:
    """Run the daemon's loop for `seconds` of virtual time, as `provision daemon` does."""
    end, errors = world.clock.now() + seconds, list[str]()
    world.service.operator.drive(lambda: world.clock.now() >= end, errors.extend)
    assert not errors, errors


def _spent(world: World) -> tuple[int, float]:
    """Return the calls and dollars since the last call of this function."""
    bucket, cloud = world.bucket, world.cloud
    calls = bucket.puts + bucket.gets + bucket.deletes + cloud.calls
    dollars = bucket.puts * PUT + bucket.gets * GET
    bucket.puts = bucket.gets = bucket.deletes = cloud.calls = 0
    return calls, dollars
