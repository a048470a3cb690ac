"""A recipe's limit for silence: takes minutes of real time, on a separate double."""

from pathlib import Path

import pytest

from provisioner.core.protocol.words import Outcome
from provisioner.rehearsal.machines.script import Script
from provisioner.rehearsal.machines.scripted import ScriptedHost
from tests.e2e.rig import rig


@pytest.mark.load
def test_silent_machine_is_lost_after_limits_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is lost after the recipe's limits.silence, which is at least three minutes."""
    silent = ScriptedHost([Script(job="quiet", command=600.0, silent_at=5.0)])
    with rig(tmp_path / "rig", monkeypatch, host=silent) as whole:
        run = whole.start("any", name="quiet", limits={"silence": "3m"}, retry={"rerun": "before_start"})
        [run] = whole.done(run)
        assert run.verdict is not None
        assert run.verdict.outcome is Outcome.LOST
        assert run.verdict.reason.startswith("the machine did not report for longer than limits.silence of 3 min")
        assert whole.double.alive() == []
