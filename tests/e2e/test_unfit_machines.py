"""Machines that cannot work at all: no way out of their subnet, a role made anew, a dead container engine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Node, Run
from provisioner.rehearsal.machines.light import LightHost
from tests.e2e.rig import Rig, rig
from tests.support import needs

#: The machines' time limits are shortened by this factor: 150 s become 3 s.
HASTE = {"PROVISION_LIMITS_FACTOR": "0.02"}


@contextmanager
def ailing(folder: Path, patch: pytest.MonkeyPatch, defect: dict[str, str], **more: Any) -> Iterator[Rig]:
    with rig(folder / "rig", patch, ailing=lambda _: {**HASTE, **defect}, **more) as whole:
        yield whole


def first_lost(whole: Rig, run: Run) -> Node:
    """Wait for the end of the first attempt, stop the run, and return the node."""
    store = whole.service.installation.store
    whole.until(lambda: any(node.verdict for node in store.nodes(run.id)))
    whole.service.runs.stop(run.id)
    whole.done(run)
    node = store.nodes(run.id)[0]
    assert node.verdict is not None
    assert node.verdict.outcome is Outcome.LOST, node.verdict
    return node


def billed(whole: Rig, run: Run) -> int:
    """Return the billed seconds of the first attempt, at most."""
    return next(each.seconds_at_most for each in whole.service.runs.receipt(run.id).machines if each.attempt == 1)


def console(whole: Rig, node: Node) -> str:
    [machine] = whole.service.installation.store.machines([node.instance_id])
    return machine.console


def failures(whole: Rig, node: Node) -> int:
    templates = whole.service.installation.store.live().templates
    return sum(each.failures for each in templates if each.id == node.template)


def test_machine_without_a_way_out_says_so_and_powers_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of S3's eight addresses answers. The reason has the console's words, and counts against the template."""
    needs.bubblewrap(works=LightHost(tmp_path).sandboxed, proves="a dead subnet is named on the console")
    with ailing(tmp_path, monkeypatch, {}, no_way_out=["*"]) as whole:
        run = whole.start("echo never")
        node = first_lost(whole, run)
        assert node.verdict is not None
        reason = node.verdict.reason
        assert reason.startswith(
            "the machine powered itself off: the agent cannot be fetched: http://s3.no-way-out.test"
        )
        assert "the subnet has no way out: it needs a route to S3" in reason
        assert "provision: powering off: the agent cannot be fetched" in console(whole, node)
        assert failures(whole, node) == 1
        assert billed(whole, run) <= 600


def test_role_made_anew_costs_one_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control plane knows the role's id for a day. The machine finds the difference, and the id is read again."""
    with ailing(tmp_path, monkeypatch, {}) as whole:
        [first] = whole.done(whole.start("echo before"))
        double = whole.double
        new_id = double.account.remake_role(double.profiles[0])
        [run] = whole.done(whole.start("echo after"))
        assert run.verdict is not None
        assert (run.verdict.outcome, run.attempt) == (Outcome.SUCCEEDED, 2)
        assert first.verdict is not None
        lost, healthy = whole.service.installation.store.nodes(run.id)
        assert lost.verdict is not None
        assert "the role was made anew" in lost.verdict.reason
        assert lost.box.partition(":")[0] != healthy.box.partition(":")[0] == new_id


def test_role_that_may_not_write_ends_the_machine_before_the_pull(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the first report, the machine would pull, execute and be unable to report."""
    denied = {"effect": "error", "service": "s3", "action": "PutObject", "principal": "machine", "status": 403}
    with ailing(tmp_path, monkeypatch, {}, faults=[{**denied, "code": "AccessDenied", "message": "no"}]) as whole:
        run = whole.start("echo never")
        node = first_lost(whole, run)
        assert node.verdict is not None
        assert "this machine's role may not write to its mailbox" in node.verdict.reason
        assert "add the rights of `provision iam machine` to the role" in node.verdict.reason
        assert node.report is None


@pytest.mark.parametrize(
    ("defect", "words"),
    [("dead", "Cannot connect to the Docker daemon"), ("hung", "docker did not end within")],
)
def test_dead_docker_loses_the_attempt_and_counts_against_the_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defect: str, words: str
) -> None:
    """systemd is asked to start it. The machine has reported, but has not begun its work."""
    container = {"engine": "container"}
    with ailing(tmp_path, monkeypatch, {"PROVISION_DOCKER": defect}, rehearsal=container) as whole:
        run = whole.start("echo never")
        node = first_lost(whole, run)
        assert node.verdict is not None
        assert node.report is not None
        assert node.verdict.reason.startswith(f"Docker did not answer within 2.4 s: {words}")
        assert b"systemd is asked to start it" in whole.log(run, "system", attempt=1)
        assert "provision: lost at boot: Docker did not answer" in whole.host.console(node.instance_id)
        assert failures(whole, node) == 1
        assert billed(whole, run) <= 600
        assert whole.double.alive() == []
