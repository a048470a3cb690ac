"""A run with a log that a test writes: its store has a machine, and its bucket the chunks, without any machine."""

from dataclasses import replace

from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.logs.archive import KeptStream, Manifest, kept_chunk_key, manifest_key
from provisioner.core.protocol.codec import encode
from provisioner.core.protocol.keys import chunk_key
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import KnownMachine, Node, Record, Verdict
from provisioner.core.run.states import State
from tests.api.served import Server, recipe


class LoggedRun:
    """A running run of one machine, whose log is in the mailbox until `end`."""

    def __init__(self, server: Server, job: str = "logged", owner: str = "ann") -> None:
        self._store, self._bucket = server.service.installation.store, server.service.installation.bucket
        server.service.jobs.apply(recipe(job, owner), "the test's recipe")
        run = server.service.runs.record(server.service.runs.start(f"{owner}/{job}", {}).id)
        self.id, self._written = run.id, dict[str, list[tuple[int, int]]]()
        box, at = f"A:i-{run.id[:8]}", run.created_at
        node = Node(f"{run.id}.1.0", run.id, 1, 0, "l", "t", f"i-{run.id[:8]}", box, at, 1, at)
        machine = KnownMachine(node.instance_id, "l", Offer(Market.SPOT, "g5.xlarge", "a"), at, launch_time=at)
        records: list[Record] = [replace(run, state=State.RUNNING, attempt=1, launch="l"), node, machine]
        self._store.save(records)

    @property
    def _node(self) -> Node:
        return self._store.nodes(self.id)[0]

    def write(self, data: bytes, stream: str = "output", *, lost: int = 0) -> None:
        """Append a chunk to a stream of the log; `lost` bytes before it are missing."""
        chunks = self._written.setdefault(stream, [])
        offset = sum(chunks[-1]) if chunks else 0
        self._bucket.put(chunk_key(self._node.box, stream, offset + lost), data)
        chunks.append((offset + lost, len(data)))

    def end(self, outcome: Outcome = Outcome.SUCCEEDED) -> None:
        """End the run, and archive its log."""
        node, run = self._node, self._store.run(self.id)
        assert run
        for stream, chunks in self._written.items():
            for offset, _ in chunks:
                source, target = chunk_key(node.box, stream, offset), kept_chunk_key(run.id, 1, 0, stream, offset)
                self._bucket.copy(source, target)
                self._bucket.delete([source])
        streams = {
            stream: KeptStream(sum(length for _, length in chunks), tuple(chunks))
            for stream, chunks in self._written.items()
        }
        self._bucket.put(manifest_key(run.id, 1, 0), encode(Manifest(run.id, 1, 0, streams)))
        at = run.created_at + 60.0
        verdict = Verdict(outcome, "", at, 0 if outcome is Outcome.SUCCEEDED else 1)
        over = replace(run, state=State.DONE, verdict=verdict, ended_at=at, done_at=at)
        records: list[Record] = [over, replace(node, verdict=verdict, archived_at=at)]
        self._store.save(records)
