"""Run a daemon for a long time with faults, and check that its process and its store do not grow."""

import argparse
import itertools
import json
import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from provisioner import wiring
from provisioner.core.protocol.words import Outcome
from provisioner.ports.store import RunFilter
from provisioner.rehearsal.aws.faults import Effect, Rule, When
from provisioner.rehearsal.double import Double
from provisioner.rehearsal.ec2.conditions import Conditions
from provisioner.rehearsal.machines.script import Script
from provisioner.rehearsal.machines.scripted import ScriptedHost
from provisioner.rehearsal.scenario import Scenario
from provisioner.settings import load

#: Seconds between two measurements of the daemon, and between two sets of fault rules.
LOOK = 10.0
#: The API calls of the fault rules; each rule affects a few calls of one of these.
ACTIONS = (
    "CreateFleet",
    "DescribeInstances",
    "TerminateInstances",
    "GetObject",
    "PutObject",
    "ListObjectsV2",
    "CopyObject",
    "DeleteObjects",
)
#: Limits of the daemon's growth from the second quarter to the last: its memory, as a share, and its number of open
#: files. Open files include the connections to AWS, whose number varies with the work.
MEMORY, FILES = 0.05, 16
#: Limit of the store's bytes for each run.
STORE = 20_000
#: Seconds to wait after the last trigger for the end of all runs; a run that takes longer is stuck.
PATIENCE = 600.0
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SETTINGS = """installation = "soak"
region = "{region}"
bucket = "{bucket}"
subnets = {subnets}
store = "{store}"
owner = "soak"

[rehearsal]
endpoint = "{url}"
busy_interval = 1.0
"""
RECIPE = """type: job
spec: {name: soak, image: any, instance_type: g5.xlarge, command: "true", use_spot_instance: true, retries: 2}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=1.0, help="runs a second")
    options = parser.parse_args()
    for number in STOPS:
        signal.signal(number, _stop)
    host = ScriptedHost((Script(command=2.0, output=2000),))
    with (
        tempfile.TemporaryDirectory(prefix="provision-soak.") as name,
        Double(_scenario(), host, installation="soak") as double,
    ):
        folder = Path(name)
        os.environ |= double.environment()
        (folder / "settings.toml").write_text(
            SETTINGS.format(
                region=double.region,
                bucket=double.bucket,
                subnets=json.dumps(list(double.account.subnets)),
                store=folder / "store.db",
                url=double.url,
            )
        )
        settings = str(folder / "settings.toml")
        command = [sys.executable, "-m", "provisioner.faces.cli.main", "--settings", settings, "daemon"]
        with (folder / "daemon.log").open("wb") as log:
            daemon = subprocess.Popen(command, stderr=log)
        try:
            return _soak(double, daemon, folder, options.minutes * 60, options.rate)
        finally:
            daemon.terminate()
            try:
                daemon.wait(60)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _stop(*_: object) -> None:
    """Exit, which ends the daemon and deletes the folder; further signals are ignored."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    sys.exit("stopped: no verdict")


def _scenario() -> Scenario:
    return Scenario(Conditions(boot_delay=1.0, end_delay=1.0, lag=0.5))


def _soak(double: Double, daemon: subprocess.Popen[bytes], folder: Path, seconds: float, rate: float) -> int:
    dice, began = random.Random(7), time.monotonic()
    looks: list[dict[str, Any]] = []
    with closing(wiring.service(load(str(folder / "settings.toml")))) as provision:
        provision.jobs.apply(RECIPE, "the soak's recipe")
        while not provision.operator.served():
            _alive(daemon, folder)
            time.sleep(0.1)
        looked = began
        for number in itertools.count():
            now = time.monotonic()
            if now >= began + seconds:
                break
            provision.runs.start("soak", {"SHARD": str(number)})
            if now >= looked + LOOK:
                looked = now
                _alive(daemon, folder)
                store, alive = (folder / "store.db").stat().st_size, len(double.alive())
                looks.append(
                    {"at": round(now - began), "runs": number, **_look(daemon.pid), "store": store, "alive": alive}
                )
                print(json.dumps(looks[-1]), flush=True)
                double.faults.clear()
                for rule in _trouble(dice):
                    double.faults.add(rule)
            time.sleep(max(0.0, began + (number + 1) / rate - time.monotonic()))
        double.faults.clear()
        for _ in range(int(PATIENCE / 0.5)):
            if not provision.operator.unfinished():
                break
            _alive(daemon, folder)
            time.sleep(0.5)
        outcomes = Counter(run.outcome for run in provision.runs.find(RunFilter(limit=1_000_000)))
    return _verdict(looks, outcomes, _store_size(folder / "store.db"), double)


def _trouble(dice: random.Random) -> Iterator[Rule]:
    for _ in range(3):
        effect = dice.choice((Effect.ERROR, Effect.RESET, Effect.DELAY))
        when = dice.choice((When.BEFORE, When.AFTER))
        times, skip = dice.randint(1, 5), dice.randint(0, 30)
        yield Rule(effect, when, action=dice.choice(ACTIONS), status=503, seconds=1.0, times=times, skip=skip)


def _alive(daemon: subprocess.Popen[bytes], folder: Path) -> None:
    if daemon.poll() is not None:
        last = (folder / "daemon.log").read_text().splitlines()[-10:]
        sys.exit("\n".join(["no verdict: the daemon exited; the end of its log:", *last]))


def _look(process: int) -> dict[str, int]:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return {
        "rss_kib": int(status["VmRSS"].split()[0]),
        "threads": int(status["Threads"]),
        "files": len(list(Path(f"/proc/{process}/fd").iterdir())),
    }


def _store_size(path: Path) -> int:
    with sqlite3.connect(path) as store:
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    return path.stat().st_size


def _verdict(looks: list[dict[str, Any]], outcomes: Counter[Outcome | None], store: int, double: Double) -> int:
    quarter = max(1, len(looks) // 4)

    def between(name: str) -> tuple[float, float]:
        early, late = looks[quarter : 2 * quarter] or looks, looks[-quarter:]
        before, after = (float(statistics.median(look[name] for look in some)) for some in (early, late))
        return before, after

    if not looks:
        sys.exit(f"no verdict: nothing was measured; run for longer than {LOOK:.0f} s (--minutes)")
    runs, (memory, memory_late), (files, files_late) = sum(outcomes.values()), between("rss_kib"), between("files")
    found: dict[str, Any] = {
        "runs": runs,
        "outcomes": {str(name): count for name, count in outcomes.items()},
        "machines": len(double.history()),
        "alive": len(double.alive()),
        "rss_growth": round(memory_late / memory - 1, 3),
        "files_growth": files_late - files,
        "store_bytes_a_run": round(store / max(1, runs)),
    }
    broken = [
        what
        for what, holds in {
            f"memory grows by no more than {MEMORY:.0%}": found["rss_growth"] <= MEMORY,
            f"no more than {FILES} open files are added": found["files_growth"] <= FILES,
            f"a run takes no more than {STORE} bytes of the store": found["store_bytes_a_run"] <= STORE,
            "every run succeeds": outcomes[Outcome.SUCCEEDED] == runs,
            "no machine is alive at the end": not found["alive"],
        }.items()
        if not holds
    ]
    print(json.dumps({**found, "verdict": "broken" if broken else "kept", "broken": broken}), flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
