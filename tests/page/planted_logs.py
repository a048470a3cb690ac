"""Runs whose log a test writes, into the bucket of the test's server; nothing executes on their machines."""

from dataclasses import replace

from provisioner.core.cloud.machines import MachineState
from provisioner.core.logs.archive import Manifest, kept_chunk_key, kept_streams, manifest_key
from provisioner.core.protocol.codec import encode
from provisioner.core.protocol.keys import chunk_key
from provisioner.core.protocol.messages import Report
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.records import KnownMachine, Node, Run, Verdict
from tests.api.served import Server, recipe
from tests.support.stored import OFFER

#: Bytes of a chunk, as agents write them.
CHUNK = 8 << 20


class PlantedLog:
    """A run of `ann`, and its log."""

    def __init__(self, site: Server, name: str = "train", *, scale: int = 1) -> None:
        self.site = site
        self.store, self.bucket = site.service.installation.store, site.service.installation.bucket
        site.service.jobs.apply(recipe(name, "ann", scale=scale), "test")
        self.id = site.service.runs.start(f"ann/{name}", {}).id
        self.scale = scale
        #: Bytes of each stream, by attempt, rank and stream.
        self.sizes: dict[tuple[int, int, str], int] = {}

    @property
    def path(self) -> str:
        return f"/run/{self.id}/log"

    @property
    def run(self) -> Run:
        return self.site.service.runs.record(self.id)

    def node(self, attempt: int, rank: int = 0) -> Node:
        return next(each for each in self.store.nodes(self.id) if (each.attempt, each.rank) == (attempt, rank))

    def begin(self, attempt: int = 1) -> None:
        """Give the attempt its machines."""
        for rank in range(self.scale):
            name = f"{self.id}.{attempt}.{rank}"
            node = Node(name, self.id, attempt, rank, "l", "t", f"i-{name}", f"A:{name}", 1.0, 1)
            machine = KnownMachine(node.instance_id, "l", OFFER, 1.0, MachineState.RUNNING, 1.0)
            self.store.save([machine])
            self.store.save([node])
        self.store.save([replace(self.run, attempt=attempt)])

    def write(self, data: bytes, stream: str = "output", attempt: int = 1, rank: int = 0) -> None:
        """Append to a stream, and report what it has."""
        node, key = self.node(attempt, rank), (attempt, rank, stream)
        for at in range(0, len(data), CHUNK):
            piece = data[at : at + CHUNK]
            self.bucket.put(chunk_key(node.box, stream, self.sizes.get(key, 0)), piece)
            self.sizes[key] = self.sizes.get(key, 0) + len(piece)
        step = {"system": Step.PULL, "setup": Step.SETUP, "output": Step.COMMAND}[stream]
        produced = {each[2]: size for each, size in self.sizes.items() if each[:2] == (attempt, rank)}
        report = Report(len(self.sizes), 1.0, "p", step, produced=produced, shipped=produced)
        self.store.save([replace(node, report=report)])

    def lose(self, size: int, stream: str = "output", attempt: int = 1, rank: int = 0) -> None:
        """Leave out as many bytes of a stream."""
        self.sizes[attempt, rank, stream] = self.sizes.get((attempt, rank, stream), 0) + size

    def end(self, attempt: int = 1, outcome: Outcome = Outcome.SUCCEEDED, *, last: bool = True) -> None:
        """End the attempt, and archive its log; with `last` the run ends too."""
        verdict = Verdict(outcome, f"{outcome} in a test", 2.0)
        for rank in range(self.scale):
            node, listed = self.node(attempt, rank), dict[str, list[tuple[int, int]]]()
            for (number, other, stream), size in self.sizes.items():
                if (number, other) == (attempt, rank):
                    for offset in self._offsets(node, stream):
                        data = self.bucket.get(chunk_key(node.box, stream, offset)) or b""
                        self.bucket.put(kept_chunk_key(self.id, attempt, rank, stream, offset), data)
                        listed.setdefault(stream, []).append((offset, len(data)))
                    assert sum(length for _, length in listed[stream]) == size
            kept = {name: replace(each, missing_from=None) for name, each in kept_streams(listed, None, None).items()}
            self.bucket.put(manifest_key(self.id, attempt, rank), encode(Manifest(self.id, attempt, rank, kept)))
            self.store.save([replace(node, verdict=verdict, archived_at=2.0)])
        if last:
            self.store.save([replace(self.run, verdict=verdict, ended_at=2.0, certain_at=2.0)])

    def _offsets(self, node: Node, stream: str) -> list[int]:
        prefix = chunk_key(node.box, stream, 0)[:-15]
        return [int(entry.key.removeprefix(prefix)) for entry in self.bucket.list(prefix)]


def numbered(first: int, last: int) -> bytes:
    """Return lines that name their numbers."""
    return b"".join(b"this is line %d\n" % number for number in range(first, last + 1))
