"""The control plane may touch only what belongs to its own installation."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from provisioner.rehearsal.double import Double
from provisioner.rehearsal.scenario import parse
from tests.rehearsal.conftest import Rig
from tests.rehearsal.rights import status
from tests.support.fleets import fleet, machines, tags, template
from tests.support.hosts import IdleHost

FOREIGN = "another"
PREFIX = "team/"
SPOT = {"DefaultTargetCapacityType": "spot", "TotalTargetCapacity": 1}


class Stage:
    """A double with resources of this installation and, made by the administrator, of another one."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.own = rig.double.installation
        self.ec2, self.s3 = rig.client("ec2"), rig.client("s3")
        administrator = rig.client("ec2", administrator=True)
        template(rig)
        [self.machine] = machines(fleet(rig))
        template(rig, FOREIGN, installation=FOREIGN, administrator=True)
        template(rig, "without-interfaces", administrator=True, LaunchTemplateData=self.data())
        # Another's template that differs from an own one in its own tag only.
        data = {**self.data(), "TagSpecifications": [tags("network-interface", self.own)]}
        template(rig, "disguised", installation=FOREIGN, administrator=True, LaunchTemplateData=data)
        double = rig.double
        double.account.add_profile("administration", double.policies["trust"], double.policies["machine"])
        template(rig, "other-role", profile=double.account.profile_arns["administration"])
        given = [tags(kind, FOREIGN) for kind in ("fleet", "instance", "volume")]
        alien = fleet(rig, "alien", template=FOREIGN, administrator=True, TagSpecifications=given)
        bare = fleet(rig, "bare", template=FOREIGN, administrator=True, TagSpecifications=[])
        [self.alien], [self.bare] = machines(alien), machines(bare)
        running = administrator.get_waiter("instance_running")
        running.wait(InstanceIds=[self.machine, self.alien, self.bare], WaiterConfig={"Delay": 0})
        self.image = administrator.create_image(
            InstanceId=self.alien,
            Name=FOREIGN,
            TagSpecifications=[tags(kind, FOREIGN) for kind in ("image", "snapshot")],
        )["ImageId"]
        [snapshot] = administrator.describe_snapshots(OwnerIds=["self"])["Snapshots"]
        self.snapshot = snapshot["SnapshotId"]
        self.group(FOREIGN, administrator, FOREIGN)
        for key in ("mine", f"{PREFIX}mine"):
            rig.client("s3", administrator=True).put_object(Bucket=double.bucket, Key=key, Body=b"x")

    def data(self) -> dict[str, Any]:
        account = self.rig.double.account
        return {"ImageId": account.image_id, "IamInstanceProfile": {"Arn": account.profile_arn}}

    def group(self, name: str, ec2: Any, installation: str) -> Any:
        tagged = [tags("placement-group", installation)]
        return ec2.create_placement_group(GroupName=name, Strategy="cluster", TagSpecifications=tagged)

    def fleet(self, *kinds: str, installation: str = "", **changes: Any) -> Any:
        """Launch with tags on resources of these kinds only."""
        given = [tags(kind, installation or self.own) for kind in kinds]
        return fleet(self.rig, f"fleet-{len(self.rig.double.calls.every)}", TagSpecifications=given, **changes)

    def fleet_into(self, reservation: str) -> Any:
        target = {"CapacityReservationTarget": {"CapacityReservationId": reservation}}
        tagged = [tags("network-interface", self.own)]
        data = {**self.data(), "TagSpecifications": tagged, "CapacityReservationSpecification": target}
        template(self.rig, reservation, LaunchTemplateData=data)
        on_demand = {"DefaultTargetCapacityType": "on-demand", "TotalTargetCapacity": 1}
        return self.fleet(*ALL, template=reservation, TargetCapacitySpecification=on_demand)

    def capture(self, machine: str, *kinds: str, installation: str = "") -> Any:
        given = [tags(kind, installation or self.own) for kind in kinds]
        name = f"image-{len(self.rig.double.calls.every)}"
        return self.ec2.create_image(InstanceId=machine, Name=name, TagSpecifications=given)

    def tag(self, resource: str) -> Any:
        return self.ec2.create_tags(Resources=[resource], Tags=tags("instance", self.own)["Tags"])

    @property
    def bucket(self) -> str:
        return self.rig.double.bucket


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Yield one stage for all tests: a forbidden call changes nothing."""
    host = IdleHost()
    reserved = {"id": "cr-0a", "type": "g5.xlarge", "zone": "us-east-1a", "machines": 1}
    given = parse({"boot_delay": 0, "end_delay": 0, "reservations": [reserved]})
    with Double(given, host, prefix=PREFIX) as double:
        yield Stage(Rig(double, host))


ALL = ("fleet", "instance", "volume")

#: What the control plane must not do. Each call differs in one thing from a call that it may make.
FORBIDDEN: dict[str, Callable[[Stage], Any]] = {
    "end another installation's machine": lambda on: on.ec2.terminate_instances(InstanceIds=[on.alien]),
    "end a machine without tags": lambda on: on.ec2.terminate_instances(InstanceIds=[on.bare]),
    "end its own machine and another": lambda on: on.ec2.terminate_instances(InstanceIds=[on.machine, on.alien]),
    "tag another's machine as its own": lambda on: on.tag(on.alien),
    "tag a machine without tags": lambda on: on.tag(on.bare),
    "tag another's volume": lambda on: on.tag("vol-0123456789abcdef0"),
    "change the tag of its own machine": lambda on: on.tag(on.machine),
    "remove the tag of its own machine": lambda on: on.ec2.delete_tags(Resources=[on.machine]),
    "read the console of another's machine": lambda on: on.ec2.get_console_output(InstanceId=on.alien),
    "make an AMI of another's machine": lambda on: on.capture(on.alien, "image", "snapshot"),
    "make an AMI without a tag": lambda on: on.capture(on.machine, "snapshot"),
    "make an AMI without a tag on its snapshot": lambda on: on.capture(on.machine, "image"),
    "make an AMI of another installation": lambda on: on.capture(on.machine, "image", "snapshot", installation=FOREIGN),
    "deregister another's AMI": lambda on: on.ec2.deregister_image(ImageId=on.image),
    "delete another's snapshot": lambda on: on.ec2.delete_snapshot(SnapshotId=on.snapshot),
    "delete another's launch template": lambda on: on.ec2.delete_launch_template(LaunchTemplateName=FOREIGN),
    "create a launch template without a tag": lambda on: template(on.rig, "bare", TagSpecifications=[]),
    "create another's launch template": lambda on: template(on.rig, "false", installation=FOREIGN),
    "launch with another's template": lambda on: on.fleet(*ALL, template="disguised"),
    "launch without tags": lambda on: on.fleet(),
    "launch without a tag on the fleet": lambda on: on.fleet("instance", "volume"),
    "launch without a tag on the machine": lambda on: on.fleet("fleet", "volume"),
    "launch without a tag on the disk": lambda on: on.fleet("fleet", "instance"),
    "launch without a tag on the interface": lambda on: on.fleet(*ALL, template="without-interfaces"),
    "launch for another installation": lambda on: on.fleet(*ALL, installation=FOREIGN),
    "launch with another role": lambda on: on.fleet(*ALL, template="other-role"),
    "launch by RunInstances without tags": lambda on: on.ec2.run_instances(MinCount=1, MaxCount=1, ImageId="ami-1"),
    "read another instance profile": lambda on: on.rig.client("iam").get_instance_profile(
        InstanceProfileName="administration"
    ),
    "read the policy of a role": lambda on: on.rig.client("iam").get_role(RoleName="provision-machine"),
    "create a placement group without a tag": lambda on: on.ec2.create_placement_group(
        GroupName="bare", Strategy="cluster", TagSpecifications=[]
    ),
    "create another's placement group": lambda on: on.group("false", on.ec2, FOREIGN),
    "delete another's placement group": lambda on: on.ec2.delete_placement_group(GroupName=FOREIGN),
    "read another prefix": lambda on: on.s3.get_object(Bucket=on.bucket, Key="mine"),
    "read a missing object of another prefix": lambda on: on.s3.get_object(Bucket=on.bucket, Key="none"),
    "write another prefix": lambda on: on.s3.put_object(Bucket=on.bucket, Key="teams/x", Body=b""),
    "delete from another prefix": lambda on: on.s3.delete_objects(
        Bucket=on.bucket, Delete={"Objects": [{"Key": f"{PREFIX}none"}, {"Key": "mine"}]}
    ),
    "copy from another prefix": lambda on: on.s3.copy_object(
        Bucket=on.bucket, Key=f"{PREFIX}x", CopySource={"Bucket": on.bucket, "Key": "mine"}
    ),
    "list another prefix": lambda on: on.s3.list_objects_v2(Bucket=on.bucket, Prefix="teams/"),
    "list the whole bucket": lambda on: on.s3.list_objects_v2(Bucket=on.bucket),
}

#: Calls that it may make: each is a forbidden call with the other value of the one thing.
ALLOWED: dict[str, Callable[[Stage], Any]] = {
    "launch": lambda on: on.fleet(*ALL),
    "launch into a reservation": lambda on: on.fleet_into("cr-0a"),
    "look at reservations": lambda on: on.ec2.describe_capacity_reservations(),
    "look at the groups of a reservation": lambda on: on.ec2.get_groups_for_capacity_reservation(
        CapacityReservationId="cr-0a"
    ),
    "create a launch template": lambda on: template(on.rig, "second"),
    "create a placement group": lambda on: on.group("own", on.ec2, on.own),
    "delete a placement group": lambda on: (
        on.group("gone", on.ec2, on.own),
        on.ec2.delete_placement_group(GroupName="gone"),
    ),
    "read a console": lambda on: on.ec2.get_console_output(InstanceId=on.machine),
    "make an AMI": lambda on: on.capture(on.machine, "image", "snapshot"),
    "read its instance profile": lambda on: on.rig.client("iam").get_instance_profile(
        InstanceProfileName="provision-machine"
    ),
    "read its prefix": lambda on: on.s3.get_object(Bucket=on.bucket, Key=f"{PREFIX}mine"),
    "list its prefix": lambda on: on.s3.list_objects_v2(Bucket=on.bucket, Prefix=PREFIX),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_control_plane_is_refused_what_is_not_its_own(stage: Stage, what: str) -> None:
    assert status(lambda: FORBIDDEN[what](stage)) == 403


@pytest.mark.parametrize("what", ALLOWED)
def test_control_plane_may_use_its_own(stage: Stage, what: str) -> None:
    assert status(lambda: ALLOWED[what](stage)) == 200


def test_missing_object_of_the_own_prefix_is_not_found(stage: Stage) -> None:
    """With 403 in place of 404, the control plane could not see that an object is missing."""
    assert status(lambda: stage.s3.get_object(Bucket=stage.bucket, Key=f"{PREFIX}none")) == 404


def test_own_ami_is_deleted_with_its_snapshot(stage: Stage) -> None:
    made = stage.capture(stage.machine, "image", "snapshot")["ImageId"]
    shown = stage.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    [snapshot] = [one["SnapshotId"] for one in shown if one["Description"].endswith(made)]
    assert status(lambda: stage.ec2.deregister_image(ImageId=made)) == 200
    assert status(lambda: stage.ec2.delete_snapshot(SnapshotId=snapshot)) == 200


def test_own_machine_is_terminated(stage: Stage) -> None:
    [machine] = machines(stage.fleet(*ALL))
    assert status(lambda: stage.ec2.terminate_instances(InstanceIds=[machine])) == 200
