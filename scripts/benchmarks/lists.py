"""Measure a list of a million commands on 100 scripted machines: its requests, and the speed and memory of a daemon."""

import itertools
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from provisioner.agent.watch import ORDERS_INTERVAL
from provisioner.core.protocol import keys
from provisioner.core.protocol.words import Outcome
from provisioner.ports.bucket import Entry
from provisioner.rehearsal.fakes.bucket import MemoryBucket
from provisioner.rehearsal.machines.scripted_list import ListAgent
from scripts.benchmarks.cloud import LIST, Cloud, recipe
from scripts.benchmarks.figures import Figure, figure
from scripts.benchmarks.hour import GET, PUT, PlayedClock
from scripts.benchmarks.lives import Life, Lives
from scripts.benchmarks.scale import resident
from scripts.benchmarks.world import World

MACHINES, SLOTS = 100, 16
#: Maximum number of seconds of virtual time between two actions of the machines.
STEP = 0.25
#: Seconds after which a daemon's list counts as failed.
PATIENCE = 3600.0


def lists(folder: Path, quick: bool) -> Iterator[Figure]:
    """Requests and processor time of a list of 1,000,000 commands; and speed and memory of a daemon with this list."""
    total = 20_000 if quick else 1_000_000
    yield from _played(folder / "played", total)
    yield from _daemon(folder / "daemon", total)


def _lines(total: int) -> Iterator[bytes]:
    """Yield the uploaded list in pieces."""
    line = b"python infer.py --shard %d\n"
    for first in range(0, total, 10_000):
        yield b"".join(line % index for index in range(first, min(total, first + 10_000)))


# In virtual time: the same requests at each run


@dataclass
class KindsBucket(MemoryBucket):
    """Counts requests by who makes them, their method, and the folder of the object in its mailbox."""

    who: str = ""
    kinds: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        self._count("put", key)
        return super().put(key, data, if_absent=if_absent)

    def copy(self, source: str, target: str) -> None:
        self._count("copy", source)
        super().copy(source, target)

    def list(self, prefix: str, *, after: str = "") -> Iterator[Entry]:
        self._count("list", prefix)
        return super().list(prefix, after=after)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes | None:
        self._count("get", key)
        return super().get(key, start=start, length=length)

    def delete(self, keys: Collection[str]) -> None:
        self._count("delete", "")
        super().delete(keys)

    def _count(self, method: str, key: str) -> None:
        words = [word for word in key.split("/")[1:] if word.isalpha()]
        report = key.startswith("inbox/") and not words
        self.kinds[self.who, method, "report" if report else "/".join(words)] += 1


class SteppedClock(PlayedClock):
    """A clock that advances in short steps while the control plane waits, so that the machines act in between."""

    #: Seconds of this process's processor time that the machines have taken.
    theirs = 0.0

    def wait(self, seconds: float) -> None:
        while seconds > 0:
            began = time.process_time()
            super().wait(min(STEP, seconds))
            self.theirs += time.process_time() - began
            seconds -= STEP


class ListLives(Lives):
    """Simulates machines with the real agent's intervals between requests."""

    def _life(self, machine: str, number: int) -> Life:  # noqa: ARG002 - all machines are alike
        agent = ListAgent(
            machine,
            keys.mailbox(self._role, machine),
            self._now(),
            self._bucket,
            self._now,
            lambda: "process",
            lambda _: LIST,
            polls=itertools.repeat(1.0),
            retry=1.0,
        )
        agent.orders_interval = ORDERS_INTERVAL
        yield from agent.life()
        self._cloud.model.powered_off(machine, self._now())


def _played(folder: Path, total: int) -> Iterator[Figure]:
    folder.mkdir()
    clock = SteppedClock()
    ours = KindsBucket(clock.now, who="control")
    world = World(folder, clock, ours)
    theirs = KindsBucket(clock.now, objects=ours.objects, who="machine")
    clock.played = ListLives(world.cloud, theirs, lambda _: 0.0).play
    try:
        world.service.jobs.apply(recipe("list", ["true", "true"], scale=MACHINES, nprocs=SLOTS), "the bench's recipe")
        uploaded = world.service.uploads.add(_lines(total))
        run, began, used = world.service.runs.start("list", {}, upload=uploaded.id), clock.now(), time.process_time()
        ours.kinds.clear()
        errors = list[str]()

        def done() -> bool:
            return world.service.runs.record(run.id).done_at is not None

        world.service.operator.drive(done, errors.extend)
        assert not errors, errors
        used = time.process_time() - used
        ended = world.service.runs.record(run.id)
        assert ended.ended_at is not None
        assert ended.verdict is not None
        assert ended.verdict.outcome is Outcome.SUCCEEDED, ended.verdict
        kinds = ours.kinds + theirs.kinds
        for kind, count in kinds.most_common():
            print(f"  {count / total:.6f} requests a command: {' '.join(kind)}", file=sys.stderr)
        objects = sum(key.startswith("runs/") for key in ours.objects)
        rate = total / (ended.ended_at - began)
        yield figure("list-requests", kinds.total() / total, "requests/command", n=total, aim="<= 0.01")
        yield figure("list-dollars", _dollars(kinds) / total * 1e6, "$/million", 3 * 1e6 * PUT, n=total)
        yield figure("list-objects", objects / total, "objects/command", 3.0, n=total, aim="<= 0.02")
        yield figure("list-rate-played", rate, "commands/s", MACHINES * SLOTS / _seconds(), n=total, aim=">= 5000")
        yield figure("list-cpu", (used - clock.theirs) / total * 1e6, "us/command", n=total, aim="<= 200")
    finally:
        world.service.close()


def _dollars(kinds: Mapping[tuple[str, str, str], int]) -> float:
    prices = {"put": PUT, "copy": PUT, "list": PUT, "get": GET, "delete": 0.0}
    return sum(count * prices[method] for (_, method, _), count in kinds.items())


def _seconds() -> float:
    """Return the mean duration of a command."""
    return LIST.commands.seconds * (1 + LIST.commands.spread / 2)


# With a real daemon, over HTTP


def _daemon(folder: Path, total: int) -> Iterator[Figure]:
    """Yield the speed, memory and processor time of a daemon; its machines and the double run in another process."""
    with Cloud(folder, "scripted") as cloud, cloud.service() as service:
        service.jobs.apply(recipe("list", ["true", "true"], scale=MACHINES, nprocs=SLOTS), "the bench's recipe")
        uploaded = service.uploads.add(_lines(total))
        known = cloud.count()
        run, began = service.runs.start("list", {}, upload=uploaded.id), time.time()
        sizes, pause = list[float](), threading.Event()
        with cloud.daemon() as pid:
            while service.runs.record(run.id).done_at is None:
                pause.wait(1.0)
                sizes.append(resident(pid))
                if time.time() > began + PATIENCE:
                    raise TimeoutError(f"timed out waiting for the list {run.id}")
            used = _processor(pid)
        ended = service.runs.record(run.id)
        assert ended.ended_at is not None
        assert ended.verdict is not None
        assert ended.verdict.outcome is Outcome.SUCCEEDED, ended.verdict
        made, half = cloud.requests(known).total(), len(sizes) // 2
        load = os.getloadavg()[0] / (os.cpu_count() or 1)
        possible = MACHINES * SLOTS / _seconds()
        yield figure("list-rate", total / (ended.ended_at - began), "commands/s", possible, n=total, aim=">= 5000")
        yield figure("list-load", load, "processes/core")
        yield figure("list-daemon-cpu", used / total * 1e6, "us/command", n=total)
        yield figure("list-requests-daemon", made / total, "requests/command", n=total)
        # The baseline is the memory after half of the time: a list must not make it grow.
        yield figure("list-rss", max(sizes), "MiB", max(sizes[: half + 1]), n=len(sizes), aim="<= 200")


def _processor(pid: int) -> float:
    """Return the seconds of processor time that a process has used (proc_pid_stat(5))."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
