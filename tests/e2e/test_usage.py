"""Usage of a whole rehearsal equals the double's own history to the cent."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from provisioner.core.protocol.words import Outcome
from provisioner.ports.control.usage import UsageQuery
from provisioner.rehearsal.machines.script import Script
from provisioner.rehearsal.machines.scripted import ScriptedHost
from tests.e2e.rig import Rig, rig
from tests.support.billed import billed

CENT, SPOT, ON_DEMAND, GIB = 0.01, 0.4021, 1.006, 0.08
OWNERS = ("tester", "lab/bob")
#: `scripts/bench usage` compares 500 runs, in simulated time.
RUNS = 30
CONDITIONS: dict[str, Any] = {
    "prices": [{"dollars": ON_DEMAND}, {"market": "spot", "dollars": SPOT}],
    "disk": {"gib": GIB},
    "interruptions": [{"at": "0.5s", "notice": "0.5s", "times": 12}],
}


def fill(whole: Rig, runs: int) -> None:
    """Start runs of two owners, which succeed or fail, on spot and on-demand machines, and wait until all are done."""
    for number in range(runs):
        whole.start(
            "true",
            name=("good", "bad")[number % 3 == 0],
            owner=OWNERS[number % 2],
            use_spot_instance=number % 4 > 0,
            retries=number % 2,
        )
    whole.until(lambda: not whole.service.operator.unfinished())


def test_usage_equals_the_history_of_the_double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted machines are free in their first hour, but not their disks; failed attempts cost."""
    host = ScriptedHost((Script(job="bad", command=0.3, exit_code=3), Script(command=1.2)))
    with rig(tmp_path, monkeypatch, host=host, **CONDITIONS) as whole:
        fill(whole, RUNS)
        store = whole.service.installation.store
        every = whole.service.runs.records()
        owners = {node.instance_id: node.run for run in every for node in store.nodes(run.id)}
        known, total = defaultdict[str, float](float), 0.0
        machines = whole.double.machines()
        for bill in billed(machines, lambda offer, _: SPOT if offer.market == "spot" else ON_DEMAND, 100 * GIB):
            # A machine whose launch was answered too late works for no run.
            run = store.run(owners[bill.instance_id]) if bill.instance_id in owners else None
            known[run.owner if run else ""] += bill.dollars + bill.disk_dollars
            total += bill.dollars + bill.disk_dollars
        outcomes = Counter(node.verdict.outcome for run in every for node in store.nodes(run.id) if node.verdict)
        assert outcomes[Outcome.INTERRUPTED] > 0
        assert outcomes[Outcome.FAILED] > 0
        found = whole.service.usage.read(UsageQuery(("owner",)))
        assert {row.group[0] for row in found.rows} == set(known) >= set(OWNERS)
        for row in found.rows:
            assert abs(row.final.total - known[row.group[0]]) < CENT
        assert abs(found.final.total - total) < CENT
        assert found.estimated.total == 0
        uses = {row.group[0] for row in whole.service.usage.read(UsageQuery(("use",))).rows}
        assert {"succeeded", "failed", "interrupted"} <= uses
