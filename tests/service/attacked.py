"""A world with a hostile machine, whose bucket lists page by page."""

from collections.abc import Callable, Iterator

from provisioner.core.protocol.codec import encode
from provisioner.core.protocol.keys import chunk_key, report_key, result_key
from provisioner.core.protocol.messages import Report, Result, Span, StreamEnd
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.records import Node, Run
from provisioner.core.run.states import State
from provisioner.ports.bucket import Entry
from provisioner.rehearsal.fakes.bucket import MemoryBucket
from provisioner.service.control import Service
from provisioner.service.control_loop.loop import Intervals
from tests.service.agents import Script
from tests.service.world import TESTER, World, parts


class Counted(MemoryBucket):
    """A bucket that counts its calls; each copy calls `took` with 10 ms, which may advance the world's clock."""

    def __init__(self, now: Callable[[], float], objects: dict[str, tuple[bytes, float]] | None = None) -> None:
        super().__init__(now, objects={} if objects is None else objects)
        self.read = self.gets = self.listings = self.listed = self.copies = 0
        self.took: Callable[[float], None] = lambda _: None

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes | None:
        found = super().get(key, start=start, length=length)
        self.gets += 1
        self.read += len(found or b"")
        return found

    def list(self, prefix: str, *, after: str = "") -> Iterator[Entry]:
        self.listings += 1
        for entry in super().list(prefix, after=after):
            self.listed += 1
            yield entry

    def copy(self, source: str, target: str) -> None:
        self.copies += 1
        super().copy(source, target)
        self.took(0.01)


class Attacked:
    """A world with two owners' runs whose commands run for an hour; the first one's machine is hostile."""

    def __init__(self) -> None:
        self.world = World(scripts=lambda _: Script(command=3600.0))
        self.bucket = self.world.bucket = Counted(self.world.clock.now)
        self.runs = [self.world.start(name, owner=name) for name in ("hostile", "quiet")]
        self.service = self.process()
        self.until(lambda: all(self.run(each).state is State.RUNNING for each in self.runs))

    def process(self) -> Service:
        """Start a control plane whose bucket lists lazily, as S3 does; the world's own fetches whole listings."""
        world = self.world
        self.installation = world.installed(world.store, world.cloud, self.bucket)
        shared = parts(self.installation, "a process", Intervals())
        self.loop, service = shared.loop, Service(shared, TESTER)
        self.logs = service.logs
        return service

    def until(self, holds: Callable[[], bool], passes: int = 100) -> None:
        for _ in range(passes):
            if holds():
                return
            self.turn()
        raise AssertionError(f"not within {passes} passes: {self.world.told[-3:]}")

    def turn(self) -> None:
        self.world.told.extend(self.service.operator.step())
        self.world.advance(10.0)

    def drive(self, until: Callable[[], bool]) -> None:
        """Run passes with pauses between them, as a daemon does."""
        self.service.operator.drive(until, self.world.told.extend)

    def run(self, run: Run) -> Run:
        found = self.world.store.run(run.id)
        assert found
        return found

    def node(self, run: Run) -> Node:
        return self.world.store.nodes(run.id)[-1]

    def put(self, name: str, data: bytes) -> None:
        self.bucket.put(f"inbox/{self.node(self.runs[0]).box}/{name}", data)

    def report(self, sequence: int, at: float | None = None) -> None:
        """Put a report of the hostile machine, whose agent numbers its own reports from 1."""
        at = self.world.now() if at is None else at
        told = Report(sequence, at, "p", Step.COMMAND, {"command": Span(at)})
        self.bucket.put(report_key(self.node(self.runs[0]).box, sequence), encode(told))

    def left(self, run: Run) -> list[str]:
        return [key for key in self.bucket.objects if key.startswith(f"inbox/{self.node(run).box}/")]

    def events(self) -> list[str]:
        return [event.text for event in self.world.store.events(self.runs[0].id)]

    def end(self, *, chunks: int = 0, size: int = 5, told: StreamEnd | None = None, reason: str = "") -> Node:
        """Put this many chunks, a result and a last report of the hostile machine; return its node."""
        node, now = self.node(self.runs[0]), self.world.now()
        for number in range(chunks):
            self.bucket.put(chunk_key(node.box, "output", number * size), b"x" * size)
        ends = {"output": told or StreamEnd(chunks * size, "")}
        result = Result(node.run, node.attempt, 0, "p", Outcome.SUCCEEDED, Step.COMMAND, 0, reason, now, streams=ends)
        self.bucket.put(result_key(node.box), encode(result))
        self.bucket.put(report_key(node.box, 9999), encode(Report(9999, now, "p", Step.LOGS, finished=True)))
        return node
