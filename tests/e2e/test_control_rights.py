"""The control plane's policy allows exactly its calls."""

import ast
import fnmatch
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.session
import moto.backends
import pytest
from botocore import xform_name

from provisioner import wiring
from provisioner.core.errors import Misconfigured
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.machines import silence
from provisioner.core.run.records import KnownMachine
from provisioner.rehearsal.aws.account import ID
from provisioner.rehearsal.aws.calls import CONTROL
from provisioner.rehearsal.aws.faults import Effect, Rule
from provisioner.rehearsal.aws.rights import encoded
from provisioner.rehearsal.aws.signatures import Caller
from provisioner.rehearsal.fakes.clock import ListJournal
from provisioner.rehearsal.machines.host import Guest
from provisioner.rehearsal.machines.script import Script
from provisioner.rehearsal.machines.scripted import ScriptedHost
from provisioner.service.ami.bake import BakeRequest, Bakery
from provisioner.service.ami.builder import Told
from provisioner.service.ami.collection import Amis
from provisioner.service.control_loop.launch_sites import Agent, LaunchSites
from tests.e2e.rig import Rig, rig
from tests.service.shell import CONSOLE, FakeShell
from tests.service.world import TESTER

ADAPTERS = Path(wiring.__file__).parent / "adapters"


class Hosts(ScriptedHost):
    """Scripted machines, and builders that only print their host keys."""

    def boot(self, guest: Guest, powered_off: Callable[[str], None]) -> None:
        if "ssh_authorized_keys" not in guest.user_data:
            super().boot(guest, powered_off)

    def console(self, instance_id: str) -> str:
        return super().console(instance_id) or CONSOLE


def bake_and_delete(whole: Rig) -> None:
    """Make an AMI with a double of SSH, and delete it."""
    installation = wiring.installed(whole.settings, ListJournal())
    sites = LaunchSites(installation, Agent("1", lambda: b"agent"), lambda role, sha256: f"{role} {sha256}")
    bakery = Bakery(installation, sites, FakeShell(), {}, region=whole.settings.region, kind="gpu")
    amis = Amis(installation, sites, bakery, TESTER)
    try:
        amis.delete(amis.bake(BakeRequest(), Told(lambda _: None, lambda _: None)).id)
    finally:
        amis.close()


def adapters_calls() -> set[tuple[str, str]]:
    """Return the service and name of every AWS call in the control plane's adapters, from their syntax trees."""
    loader = botocore.session.get_session()
    known = {
        xform_name(operation): (service, operation)
        for service in ("ec2", "iam", "pricing", "s3", "ssm", "sts")
        for operation in loader.get_service_model(service).operation_names
    }
    known["get_service_quota"] = "servicequotas", "GetServiceQuota"
    paths = (*(ADAPTERS / "ec2").glob("*.py"), *(ADAPTERS / "checks").glob("*.py"), ADAPTERS / "s3.py")
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text()))]
    names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    # The checks name their calls by texts.
    names |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {known[name] for name in names & known.keys()}


def check(whole: Rig) -> None:
    """Check the account while disks are encrypted by default, so that the key is read, too."""
    moto.backends.get_backend("ec2")[ID][whole.double.region].enable_ebs_encryption_by_default()
    assert [line for line in wiring.check(whole.settings) if "cannot be read" in line.text] == []


def test_control_policy_allows_exactly_the_control_planes_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of every kind and the making of an AMI use every call of the adapters, and every action of the policy."""
    monkeypatch.setattr(silence, "SILENT", 0.5)
    host = Hosts((Script(job="silent", silent_at=1, command=600), Script(command=0.1)))
    research = {"provision-research": ["sg-research"]}
    settings = {"profiles": {"research": "provision-research"}, "profile_security_groups": research}
    group = "arn:aws:resource-groups:us-east-1:123456789012:group/ours"
    reserved = {"id": "cr-0a", "type": "g5.xlarge", "zone": "us-east-1a", "machines": 1, "group": group}
    conditions: dict[str, Any] = {
        "reservations": [reserved],
        "impairments": [{"type": "g6.xlarge"}],
        "quotas": [{"type": "p4d.24xlarge", "market": "spot", "vcpus": 0}],
    }
    with rig(tmp_path, monkeypatch, host=host, settings=settings, **conditions) as whole:
        # The route tables are read if a subnet assigns no public address.
        subnet = next(iter(whole.double.account.subnets))
        whole.administrator().modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": False})
        # A silent machine's status is checked; it is lost if it is impaired.
        silent = whole.start("true", name="silent", instance_type="g6.xlarge")
        whole.until(lambda: any(node.verdict for node in whole.service.installation.store.nodes(silent.id)))
        [node, *_] = whole.service.installation.store.nodes(silent.id)
        assert node.verdict is not None
        assert node.verdict.outcome is Outcome.LOST
        assert "status checks" in node.verdict.reason
        whole.service.runs.stop(silent.id)
        # A machine that cannot read its work order never reports, so its console is read.
        store = whole.service.installation.store

        def machines_of(run: str) -> tuple[KnownMachine, ...]:
            return store.machines([node.instance_id for node in store.nodes(run)])

        whole.double.faults.add(Rule(Effect.ERROR, resource="*/work", principal="machine", status=503))
        mute = whole.start("true", name="mute", limits={"boot": "1s"})
        whole.until(lambda: any(machine.console for machine in machines_of(mute.id)))
        whole.service.runs.stop(mute.id)
        whole.double.faults.clear()
        near = whole.start("true", name="near", scale=2, placement={"group": "cluster"})
        fine = whole.start("true", name="fine", use_spot_instance=True)
        own = whole.start("true", name="own", owner="research")
        kept = whole.start("true", name="kept", placement={"reservation": group})
        _, _, _, *done = whole.done(silent, mute, near, fine, own, kept)
        assert [run.verdict and run.verdict.outcome for run in done] == [Outcome.SUCCEEDED] * 3
        # A spot quota is read from Service Quotas, and an encoded denial is decoded.
        poor = whole.start("true", name="poor", instance_type="p4d.24xlarge", use_spot_instance=True)
        [refused] = whole.done(poor)
        assert refused.verdict is not None
        assert "L-7212CCBC (All P4, P3 and P2 Spot Instance Requests) is 0 vCPUs" in refused.verdict.reason
        assert refused.verdict.reason.endswith("p4d.24xlarge needs 96 vCPUs")
        hidden = encoded(Caller(CONTROL, "ec2", whole.double.region), "ec2:DescribeInstances", "*")
        denial = f"You are not authorized. Encoded authorization failure message: {hidden}"
        code = "UnauthorizedOperation"
        rule = Rule(Effect.ERROR, action="DescribeInstances", code=code, message=denial, status=403, times=1)
        whole.double.faults.add(rule)
        with pytest.raises(Misconfigured, match="no policy allows"):
            whole.service.installation.cloud.machines()
        cloud = whole.service.installation.cloud
        for template in cloud.launch_templates():
            cloud.delete_launch_template(template.name)
        bake_and_delete(whole)
        check(whole)
        double = whole.double
        made = {(call.service, call.action) for call in double.calls.of(principal=CONTROL)}
        assert double.calls.unimplemented == []
    assert double.rights.denied == []
    assert adapters_calls() - made == set()
    allowed: set[str] = set()
    for statement in double.policies["control"]["Statement"]:
        actions = statement["Action"]
        allowed |= {actions} if isinstance(actions, str) else set(actions)
    asked = double.rights.weighed
    assert {right for right in allowed if not fnmatch.filter(asked, right)} == set()
    assert {call for call in asked if not any(fnmatch.fnmatchcase(call, right) for right in allowed)} == set()
