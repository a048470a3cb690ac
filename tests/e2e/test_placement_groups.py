"""Runs in cluster placement groups, end to end: no group is leaked, whenever the control plane is killed."""

import threading
from pathlib import Path

import pytest

from provisioner.core.protocol.words import Outcome
from provisioner.rehearsal.aws.faults import Effect, Rule
from provisioner.rehearsal.machines.script import Script
from provisioner.rehearsal.machines.scripted import ScriptedHost
from tests.e2e.ambush import Aim, Ambush, wait_done
from tests.e2e.daemons import Daemons
from tests.e2e.rig import rig
from tests.polling import until

GROUP = {"group": "cluster"}


def test_ranks_run_in_one_group_which_is_deleted_after_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped policy of the control plane allows every call."""
    with rig(tmp_path, monkeypatch) as whole:
        run = whole.start("sleep 1; echo near", scale=2, placement=GROUP)
        whole.until(lambda: len(whole.double.alive()) == 2)
        [group] = whole.double.placement_groups()
        assert {one.group for one in whole.double.alive()} == {group}
        [done] = whole.done(run)
        assert done.verdict
        assert done.verdict.outcome is Outcome.SUCCEEDED, done.verdict
        assert [whole.log(run, rank=rank) for rank in (0, 1)] == [b"near\n"] * 2
        assert whole.double.placement_groups() == ()
        assert whole.double.calls.unimplemented == []


def test_policy_without_the_new_rights_refuses_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the right and where to find it. A run without a group needs no such right."""
    with rig(tmp_path, monkeypatch, host=ScriptedHost((Script(command=0.1),))) as whole:
        denied = {"code": "UnauthorizedOperation", "status": 403}
        whole.double.faults.add(Rule(Effect.ERROR, action="*PlacementGroup*", **denied))  # type: ignore[arg-type]
        grouped = whole.start("true", name="grouped", scale=2, placement=GROUP)
        plain = whole.start("true", name="plain", scale=2)
        refused, done = whole.done(grouped, plain)
        assert refused.verdict
        assert done.verdict
        assert (refused.verdict.outcome, done.verdict.outcome) == (Outcome.REFUSED, Outcome.SUCCEEDED)
        assert "needs ec2:CreatePlacementGroup, see `provision iam control`" in refused.verdict.reason
        assert whole.double.placement_groups() == ()


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize(
    "action", ["CreatePlacementGroup", "CreateFleet", "DescribePlacementGroups", "DeletePlacementGroup"]
)
def test_control_plane_killed_at_a_call_leaks_no_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str, lost: bool
) -> None:
    """The call has its effect or not. The next process repeats the launch in the same group, or deletes the group."""
    with rig(tmp_path, monkeypatch, host=ScriptedHost((Script(command=0.3),))) as whole, Daemons() as daemons:
        ambush = Ambush(Aim("ec2", action, 1))
        whole.double.calls.on_call = ambush
        if lost:
            whole.double.faults.add(Rule(Effect.RESET, service="ec2", action=action, times=1))
        ambush.victim = pid = daemons.start(whole.settings)
        run = whole.start("true", scale=2, placement=GROUP)
        until(ambush.sprung.is_set, f"the call of {action}")
        daemons.kill(pid)
        second = daemons.start(whole.settings)
        done = wait_done(whole, run)
        while whole.double.placement_groups():
            threading.Event().wait(0.02)
        daemons.kill(second)
        assert done.verdict
        assert (done.verdict.outcome, done.attempt) == (Outcome.SUCCEEDED, 1)
        assert len(whole.double.history()) == 2
        assert ambush.counts["ec2", "CreatePlacementGroup"] <= 2
