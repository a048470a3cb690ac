"""Measure a control plane with many runs: its memory and the time of a pass, with the EC2 model in its process.

python -m scripts.benchmarks.scale FOLDER COUNT
"""

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from provisioner.core.protocol.codec import encode
from provisioner.core.protocol.keys import report_key
from provisioner.core.protocol.messages import Report, Span
from provisioner.core.protocol.words import Step
from provisioner.core.run.records import Node
from provisioner.core.run.states import State
from scripts.benchmarks.cloud import Cloud, finished, recipe
from scripts.benchmarks.figures import Figure, figure, median_seconds, of_samples
from scripts.benchmarks.world import World

#: Share of the machines that put a report in one second: a machine puts one every ten seconds.
NEWS = 0.1


def resident(pid: int | str = "self") -> float:
    """Return the resident memory of a process in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return float(status.partition("VmRSS:")[2].split()[0]) / 1024


def idle(folder: Path, quick: bool) -> Iterator[Figure]:  # noqa: ARG001 - every measure is called alike
    """Memory of an idle daemon after a run, compared with an interpreter with a boto3 client."""
    with Cloud(folder, "scripted") as cloud, cloud.service() as service, cloud.daemon() as pid:
        service.jobs.apply(recipe("idle", "true"), "the bench's recipe")
        run = service.runs.start("idle", {})
        finished(service, run.id)
        yield figure("idle-rss", resident(pid), "MiB", bare_resident(), aim="<= 150")


def bare_resident() -> float:
    """Return the resident memory in MiB of an interpreter that has only a boto3 client of EC2."""
    words = "import boto3; boto3.client('ec2', 'us-east-1'); print(open('/proc/self/status').read())"
    told = subprocess.check_output([sys.executable, "-c", words], text=True)
    return float(told.partition("VmRSS:")[2].split()[0]) / 1024


def busy(folder: Path, quick: bool) -> Iterator[Figure]:
    """Seconds of a pass, and memory, with 10,000 running runs; model, bucket and control plane share a process."""
    count, size = (200, "200") if quick else (10_000, "10k")
    words = [sys.executable, "-m", "scripts.benchmarks.scale", str(folder), str(count)]
    told = json.loads(subprocess.check_output(words))
    yield of_samples(f"pass-{size}", told["still"], "s", told["double"], aim="<= 1")
    yield of_samples(f"pass-{size}-news", told["news"], "s", told["double"])
    yield figure(f"rss-{size}", told["rss"], "MiB", told["empty"], aim="<= 300")


def main(folder: Path, count: int) -> None:
    world = World(folder)
    empty = resident()
    nodes = _running(world, count)
    lease = world.store.acquire("bench", "daemon", world.clock.now(), 1e6)
    assert lease is not None

    def turn() -> float:
        began = time.perf_counter()
        this_pass = world.reconciler.once(lease)
        assert not this_pass.errors, this_pass.errors
        return time.perf_counter() - began

    def look() -> None:
        world.cloud.machines()
        list(world.bucket.list("inbox/"))

    turn()
    told = {"still": [turn() for _ in range(5)], "news": []}
    for _ in range(5):
        _report(world, nodes[: int(count * NEWS)])
        told["news"].append(turn())
    print(json.dumps({**told, "double": median_seconds(look, 5), "rss": resident(), "empty": empty}))
    world.service.close()


def _running(world: World, count: int) -> list[Node]:
    """Start `count` runs and make real passes until each one's command executes; return their nodes."""
    world.service.jobs.apply(recipe("train", "train"), "the bench's recipe")
    first = world.service.runs.record(world.service.runs.start("train", {}).id)
    world.store.save([replace(first, id=world.installation.ids.new(), version=0) for _ in range(1, count)])
    world.service.operator.step()
    nodes = list(world.store.live().nodes)
    _report(world, nodes)
    world.service.operator.step()
    live = world.store.live()
    assert [run.state for run in live.runs] == [State.RUNNING] * count
    return list(live.nodes)


def _report(world: World, nodes: Iterable[Node]) -> None:
    """Put one more report of each node."""
    now = world.clock.now()
    for node in nodes:
        known = next(_SEQUENCE)
        spans = {Step.BOOT.value: Span(now - 60, now - 30), Step.COMMAND.value: Span(now - 30)}
        report = Report(known, now, "process", Step.COMMAND, spans, {"output": known}, {"output": known})
        world.bucket.put(report_key(node.box, known), encode(report))


#: Sequence numbers of reports, which grow as those of a real machine do.
_SEQUENCE = itertools.count(1)

if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
