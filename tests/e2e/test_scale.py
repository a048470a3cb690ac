"""Two hundred machines at once from one control plane."""

from pathlib import Path

import pytest

from provisioner.core.protocol.words import Outcome
from provisioner.rehearsal.machines.script import Script
from provisioner.rehearsal.machines.scripted import ScriptedHost
from tests.e2e.rig import rig

RUNS = 200


def test_two_hundred_runs_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run is done on its own machine, which has ended; all were launched by one call."""
    host = ScriptedHost((Script(command=2.0, output=1000),))
    with rig(tmp_path, monkeypatch, host=host) as whole:
        first = whole.start("train", name="job")
        runs = [first.id, *(whole.service.runs.start("job", {"SHARD": str(shard)}).id for shard in range(1, RUNS))]
        most = 0

        def all_done() -> bool:
            nonlocal most
            most = max(most, len(whole.double.alive()))
            return not whole.service.operator.unfinished()

        whole.until(all_done)
        done = [whole.service.runs.record(run) for run in runs]
        assert [run.verdict.outcome for run in done if run.verdict] == [Outcome.SUCCEEDED] * RUNS
        assert all(run.done_at is not None and run.attempt == 1 for run in done)
        assert most == RUNS
        assert whole.double.alive() == []
        assert len(whole.double.history()) == RUNS
        assert len(whole.double.calls.of("ec2", "CreateFleet")) == 1
        assert len(whole.log(done[-1])) == 1000
