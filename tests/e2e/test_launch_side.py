"""Launches that a real account would refuse, or whose machines would have no way out."""

from pathlib import Path

import pytest
import yaml

from provisioner.core.errors import Invalid
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Run
from provisioner.rehearsal.machines.script import Script
from provisioner.rehearsal.machines.scripted import ScriptedHost
from provisioner.service.control_loop.launch_sites import AMI
from tests.e2e.rig import Rig, rig


def scripted() -> ScriptedHost:
    return ScriptedHost((Script(command=0.1),))


def public_addresses(whole: Rig, *runs: Run) -> list[str]:
    """Return the public addresses of the machines of the runs while they are alive."""
    nodes = [node for run in runs for node in whole.service.installation.store.nodes(run.id)]
    listed = {machine.id: machine for machine in whole.service.installation.cloud.machines().machines}
    return [listed[node.instance_id].public_address for node in nodes]


def test_disk_below_the_amis_is_raised_with_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EC2 refuses a disk that is smaller than the AMI's snapshot, so the run would be refused."""
    with rig(tmp_path, monkeypatch, host=scripted()) as whole:
        spec = {"name": "small", "image": "any", "instance_type": "g5.xlarge", "command": "true"}
        small = {**spec, "placement": {"disk_size": "20Gi"}}
        applied = whole.service.jobs.apply(yaml.safe_dump({"type": "job", "spec": small}), "the test's recipe")
        note = "the disk has 45 GiB: the AMI needs more than placement.disk_size of 20 GiB"
        assert applied.warnings == (note,)
        [run] = whole.done(whole.service.runs.start("small", {}))
        assert run.verdict is not None
        assert run.verdict.outcome is Outcome.SUCCEEDED
        assert [event.text for event in whole.service.installation.store.events(run.id) if event.text.endswith(note)]
        assert whole.service.runs.receipt(run.id).machines[0].disk_gib == 45


def test_type_that_the_default_ami_cannot_drive_is_refused_at_apply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine would cost money until the GPU check fails. An AMI of the user's own may have the driver."""
    spec = {"name": "old", "image": "any", "instance_type": "p3dn.24xlarge", "command": "true"}
    recipe = yaml.safe_dump({"type": "job", "spec": spec})
    with rig(tmp_path, monkeypatch, host=scripted()) as whole:
        with pytest.raises(Invalid, match=r"p3dn\.24xlarge: the driver of the AMI supports only g4dn, g5"):
            whole.service.jobs.apply(recipe, "the test's recipe")
        whole.service.installation.store.choose(AMI, whole.double.account.image_id)
        assert whole.service.jobs.apply(recipe, "the test's recipe").warnings == ()


def test_machine_in_a_public_subnet_that_assigns_no_address_gets_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a public address it has no way to S3. In a private subnet none is asked for."""
    host = ScriptedHost((Script(command=600),))
    with rig(tmp_path, monkeypatch, host=host) as whole:
        change, subnets = whole.administrator(), list(whole.double.account.subnets)
        for subnet in subnets:
            change.modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": False})
        first = whole.start("true")
        whole.until(lambda: bool(whole.service.installation.store.nodes(first.id)))
        assert all(public_addresses(whole, first))
        [table] = change.describe_route_tables()["RouteTables"]
        change.delete_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0")
        # Another job has a catalog of its own.
        second = whole.start("true", instance_type="g6.xlarge")
        whole.until(lambda: bool(whole.service.installation.store.nodes(second.id)))
        assert public_addresses(whole, second) == [""]
        for run in (first, second):
            whole.service.runs.stop(run.id)
        whole.done(first, second)
        assert whole.double.calls.unimplemented == []
