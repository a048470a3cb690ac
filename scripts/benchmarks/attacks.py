"""Measure the damage of a wrong clock, other users, a greedy owner, idle clients and a moved file.

python -m scripts.benchmarks.attacks memory COUNT
"""

import contextlib
import fcntl
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from provisioner import wiring
from provisioner.adapters.sql.store import SqlStore
from provisioner.core.access.callers import Caller
from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.errors import ProvisionError
from provisioner.core.protocol.codec import encode
from provisioner.core.protocol.keys import report_key
from provisioner.core.protocol.messages import Report, Span
from provisioner.core.protocol.words import Outcome, Step
from provisioner.ports.store import RunFilter
from provisioner.rehearsal.fakes.clock import CountingIds, StepClock
from scripts.benchmarks.cloud import PROVISION, Cloud, recipe
from scripts.benchmarks.figures import Figure, figure
from scripts.benchmarks.scale import resident
from scripts.benchmarks.world import World

DAYS = 2 * 86400.0
#: Bytes of the two variables of one run of the greedy owner.
LARGE = 200_000
#: Limit of open files of the attacked server.
FILES = 256
#: Seconds after which a launch counts as stopped.
STOPPED = 30.0


class WrongClock(StepClock):
    """A clock that shows `ahead` seconds more than the true time; `elapsed` returns the true time."""

    ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead

    def elapsed(self) -> float:
        return super().now()


def clock(folder: Path, quick: bool) -> Iterator[Figure]:
    """Set the clock two days ahead for 6 s; measure the lost healthy runs, and the delay of a waiting run's launch."""
    count = 5 if quick else 20
    mine, truth = WrongClock(), StepClock()
    world = World(folder, mine)
    world.cloud.clock = truth

    def second(length: float = 1.0) -> None:
        mine.step(length)
        truth.step(length)
        _beat(world, truth.now())
        world.service.operator.step()

    world.service.jobs.apply(recipe("train", "train", limits={"silence": "3m"}), "the bench's recipe")
    healthy = [world.service.runs.start("train", {}).id for _ in range(count)]
    for _ in range(5):
        second()
    offers = {Offer(market, "g6.xlarge", f"us-east-1{zone}") for market in Market for zone in "abc"}
    world.cloud.no_capacity_in |= offers
    world.service.jobs.apply(recipe("wait", "train", instance_type="g6.xlarge"), "the bench's recipe")
    mine.ahead = DAYS
    waits = world.service.runs.start("wait", {}).id
    for _ in range(6):
        second()
    mine.ahead = 0.0
    world.cloud.no_capacity_in -= offers
    began = truth.now()
    for _ in range(20):
        second()
    found = [world.store.run(id) for id in healthy]
    lost = [run for run in found if run and (run.attempt != 1 or (run.verdict and run.verdict.outcome is Outcome.LOST))]
    yield figure("clock-lost", len(lost), "healthy runs lost", n=count, aim="0")
    while not world.store.nodes(waits) and truth.now() < began + 2 * DAYS:
        second(1800.0)
    launched = next((node.bound_at for node in world.store.nodes(waits)), truth.now())
    yield figure("clock-stopped", launched - began, "s until a waiting run is launched", aim="<= 10")
    world.service.close()


def _beat(world: World, now: float) -> None:
    """Put a report of every machine that has work."""
    for node in world.store.live().nodes:
        if node.work_put_at is not None:
            spans = {Step.BOOT.value: Span(now - 2, now - 1), Step.COMMAND.value: Span(now - 1)}
            number = int(now * 10)
            report = Report(number, now, "process", Step.COMMAND, spans, {"output": 1}, {"output": 1})
            world.bucket.put(report_key(node.box, number), encode(report))


def others(folder: Path, quick: bool) -> Iterator[Figure]:  # noqa: ARG001 - every measure is called alike
    """Act as another user of the computer: count readable store files; measure how long this can block the lease."""
    before = os.umask(0o022)
    try:
        folder.chmod(0o755)
        path = folder / "new" / "store.db"
        store = SqlStore(path, CountingIds())
    finally:
        os.umask(before)
    readable = [each.name for each in path.parent.iterdir() if each.stat().st_mode & 0o044]
    yield figure("others-readable", len(readable), "store files readable by other users", n=4, aim="0")
    lease = store.acquire("killed", "daemon", 0.0, 120.0)
    assert lease is not None
    store.close()
    # Lock the lease file, if its permissions allow that to another user.
    reached = all(os.stat(each).st_mode & 0o005 == 0o005 for each in (path.parent,))
    locked = contextlib.ExitStack()
    if reached and os.stat(f"{path}.lease").st_mode & 0o004:
        file = locked.enter_context(open(f"{path}.lease"))  # noqa: SIM115 - closed with the stack
        fcntl.flock(file, fcntl.LOCK_EX)
    with locked:
        store = SqlStore(path, CountingIds())
        waited = next(second for second in range(200) if store.acquire("next", "daemon", float(second), 120.0))
        store.close()
    yield figure("others-stopped", waited, "s until another process has the lease", aim="0")


def owner(folder: Path, quick: bool) -> Iterator[Figure]:
    """Start 1,000 runs of one owner, each with 200 KB of variables; measure the control plane's memory."""
    with Cloud(folder, "scripted"):
        words = [sys.executable, "-m", "scripts.benchmarks.attacks", "memory", str(50 if quick else 1000)]
        told = json.loads(subprocess.check_output(words))
    yield figure("owner-memory", told["after"], "MiB with the owner's runs", told["before"], aim="<= +100")
    yield figure("owner-stored", told["stored"], "runs of the owner stored", n=told["asked"])


def _memory(count: int) -> None:
    from provisioner.settings import load

    service = wiring.service(load(os.environ["PROVISION_SETTINGS"]))
    service.jobs.apply(recipe("many", "true"), "the bench's recipe")
    greedy = service.on_behalf(Caller("token", ("bench",), admin=False, source="192.0.2.1"))
    service.installation.store.live()
    before, stored = resident(), 0
    for number in range(count):
        with contextlib.suppress(ProvisionError):
            greedy.runs.start(
                "many", {"A": f"{number:06}" + "x" * (LARGE // 2), "B": f"{number:06}" + "y" * (LARGE // 2)}
            )
            stored += 1
    service.installation.store.live()
    print(json.dumps({"before": before, "after": resident(), "stored": stored, "asked": count}))
    service.close()


def files(folder: Path, quick: bool) -> Iterator[Figure]:  # noqa: ARG001 - every measure is called alike
    """Open idle connections to a server that may open 256 files; measure the delay of a launch, and the journal."""
    with Cloud(folder, "scripted") as cloud, cloud.service() as service:
        service.jobs.apply(recipe("many", "true"), "the bench's recipe")
        with _serve(folder, FILES) as (port, _), contextlib.ExitStack() as idle:
            for _ in range(FILES):
                with contextlib.suppress(OSError):
                    idle.enter_context(socket.create_connection(("127.0.0.1", port), timeout=1.0))
            known, wrote = cloud.count(), _written(folder)
            began = time.monotonic()
            service.runs.start("many", {})
            while time.monotonic() < began + STOPPED and not _launched(cloud, known):
                time.sleep(0.1)
            waited = time.monotonic() - began
            time.sleep(max(0.0, 3.0 - waited))
            wrote = _written(folder) - wrote
            yield figure("files-stopped", waited, "s until a run is launched", aim="<= 5")
            yield figure("files-journal", wrote / max(3.0, waited) / 1000, "kB of journal a second", aim="<= 10")


def _launched(cloud: Cloud, known: int) -> bool:
    return any(call.action == "CreateFleet" for call in cloud.calls(known))


def moved(folder: Path, quick: bool) -> Iterator[Figure]:
    """Move the store's file while a server has it open; count starts that were answered and lost, and new stores."""
    count = 5 if quick else 20
    with Cloud(folder, "scripted") as cloud:
        with cloud.service() as service:
            service.jobs.apply(recipe("many", "true"), "the bench's recipe")
            token = service.tokens.create(["bench"], admin=False).token
        path = cloud.settings().store_path
        with _serve(folder, 0) as (port, _):
            _start(port, token)
            (folder / "away").mkdir()
            for end in ("", "-wal", "-shm"):
                shutil.move(f"{path}{end}", folder / "away")
            answers = [_start(port, token) for _ in range(count)]
        known = set[str]()
        with contextlib.suppress(ProvisionError), cloud.service() as service:
            known = {run.id for run in service.runs.records(RunFilter(limit=1000))}
        fresh = path.exists()
    answered = [answer for answer in answers if answer]
    yield figure("moved-lost", len(set(answered) - known), "starts answered and lost", n=count, aim="0")
    yield figure("moved-fresh", float(fresh), "new stores", aim="0")


def _start(port: int, token: str) -> str | None:
    """Return the run's id, or None if the server refuses the start."""
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/jobs/many/start",
        b"{}",
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(asked, timeout=40) as answer:
            return str(json.loads(answer.read())["run"]["id"])
    except urllib.error.HTTPError as error:
        error.close()
        return None


@contextlib.contextmanager
def _serve(folder: Path, most: int) -> Iterator[tuple[int, int]]:
    """Run `provision serve` with a limit of `most` open files (0: no limit); yield its port and process id."""
    journal = folder / "journal"

    def limited() -> None:
        if most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    with journal.open("wb") as told:
        process = subprocess.Popen([*PROVISION, "serve", "--port", "0"], stderr=told, preexec_fn=limited)
        try:
            _until(lambda: b"listening" in journal.read_bytes())
            first = json.loads(journal.read_bytes().splitlines()[0])["text"]
            yield int(first.split(",")[0].rpartition(":")[2]), process.pid
        finally:
            process.kill()
            process.wait()


def _written(folder: Path) -> int:
    return (folder / "journal").stat().st_size


def _until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(1200):
        if condition():
            return
        pause.wait(0.1)
    raise TimeoutError("timed out waiting for the server to listen")


def main(words: list[str]) -> None:
    _memory(int(words[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
