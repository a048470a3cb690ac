"""A long run of the control plane under trouble: does its process, or its store, grow?"""

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
from provisioner.core.work import Outcome
from provisioner.rehearsal.conditions import Conditions
from provisioner.rehearsal.double import Double
from provisioner.rehearsal.faults import Effect, Rule, When
from provisioner.rehearsal.machines.script import Script
from provisioner.rehearsal.machines.scripted import ScriptedHost
from provisioner.rehearsal.scenario import Scenario
from provisioner.settings import load

#: Between two looks at the daemon, and between two handfuls of faults, in seconds.
LOOK = 10.0
#: What the trouble is made of: each handful spoils a few calls of one of these.
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
#: The most that the daemon's memory may grow between the second quarter and the last, as a share.
FLAT = 0.1
#: Bytes of the store for each run.
STORE = 20_000
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
    # As Ctrl-C does: the daemon and the folder go as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    signal.signal(signal.SIGINT, lambda *_: sys.exit("stopped"))
    host = ScriptedHost((Script(command=2.0, output=2000),))
    with tempfile.TemporaryDirectory(prefix="provision-soak.") as name, Double(_scenario(), host) as double:
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
            return _soak(double, daemon.pid, folder, options.minutes * 60, options.rate)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait()


def _scenario() -> Scenario:
    return Scenario(Conditions(boot_delay=1.0, end_delay=1.0, lag=0.5))


def _soak(double: Double, daemon: int, folder: Path, seconds: float, rate: float) -> int:
    dice, began = random.Random(7), time.monotonic()
    looks: list[dict[str, Any]] = []
    with closing(wiring.service(load(str(folder / "settings.toml")))) as provision:
        provision.apply(RECIPE, "the soak's recipe")
        while not provision.served():
            time.sleep(0.1)
        looked = began
        for number in itertools.count():
            now = time.monotonic()
            if now >= began + seconds:
                break
            provision.start("soak", {"SHARD": str(number)})
            if now >= looked + LOOK:
                looked = now
                looks.append({"at": round(now - began), "runs": number, **_look(daemon), "alive": len(double.alive())})
                print(json.dumps(looks[-1]), flush=True)
                double.faults.clear()
                for rule in _trouble(dice):
                    double.faults.add(rule)
            time.sleep(max(0.0, began + (number + 1) / rate - time.monotonic()))
        double.faults.clear()
        while provision.unfinished():
            time.sleep(0.5)
        outcomes = Counter(run.verdict.outcome if run.verdict else None for run in provision.runs(limit=1_000_000))
    return _verdict(looks, outcomes, _store_size(folder / "store.db"), double)


def _trouble(dice: random.Random) -> Iterator[Rule]:
    for _ in range(3):
        effect = dice.choice((Effect.ERROR, Effect.RESET, Effect.DELAY))
        when = dice.choice((When.BEFORE, When.AFTER))
        times, skip = dice.randint(1, 5), dice.randint(0, 30)
        yield Rule(effect, when, action=dice.choice(ACTIONS), status=503, seconds=1.0, times=times, skip=skip)


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

    def growth(name: str) -> float:
        early, late = looks[quarter : 2 * quarter] or looks, looks[-quarter:]
        before, after = (float(statistics.median(look[name] for look in some)) for some in (early, late))
        return round(after / before - 1, 3)

    runs, alive = sum(outcomes.values()), len(double.alive())
    memory, files, a_run = growth("rss_kib"), growth("files"), round(store / max(1, runs))
    found = {
        "runs": runs,
        "outcomes": {str(name): count for name, count in outcomes.items()},
        "machines": len(double.history()),
        "alive": alive,
        "rss_growth": memory,
        "files_growth": files,
        "store_bytes_a_run": a_run,
    }
    print(json.dumps(found), flush=True)
    kept = memory <= FLAT and files <= FLAT and a_run <= STORE
    return 0 if kept and not alive and outcomes[Outcome.SUCCEEDED] == runs else 1


if __name__ == "__main__":
    sys.exit(main())
