"""List, make and delete the installation's own AMIs, and read AMIs from EC2's answers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from provisioner.adapters import aws
from provisioner.adapters.ec2.pages import PAGE, ours, pages
from provisioner.core import errors
from provisioner.core.cloud.machine_images import Ami, AmiState
from provisioner.core.cloud.tags import INSTALLATION_TAG
from provisioner.core.errors import CloudError

NAME_TAKEN = "InvalidAMIName.Duplicate"

#: `transient` is not a final state. Every state that is not listed here is a final failure (EC2 API Reference, "Image",
#: imageState).
_STATES = {"pending": AmiState.PENDING, "transient": AmiState.PENDING, "available": AmiState.AVAILABLE}


def creation(instance_id: str, name: str, tags: Mapping[str, str]) -> dict[str, Any]:
    """Return CreateImage's parameters. EC2 restarts the machine first, so that the file system is consistent."""
    tagged = [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
    return {
        "InstanceId": instance_id,
        "Name": name,
        "TagSpecifications": [{"ResourceType": kind, "Tags": tagged} for kind in ("image", "snapshot")],
    }


def behind(image_id: str) -> dict[str, Any]:
    """Return the filter for the snapshots that CreateImage made for this AMI.

    CreateImage puts the AMI's id into their description (EC2 User Guide, "Deregister an Amazon EC2 AMI").
    """
    return {"Name": "description", "Values": [f"Created by CreateImage(*) for {image_id}*"]}


def disk_gib(image: Mapping[str, Any]) -> int:
    """Return the size of the root disk in GiB, or 0 if the AMI's description lacks it."""
    for mapping in image.get("BlockDeviceMappings", ()):
        if mapping.get("DeviceName") == image.get("RootDeviceName"):
            return int(mapping.get("Ebs", {}).get("VolumeSize", 0))
    return 0


def ami(image: Mapping[str, Any]) -> Ami:
    reason = image.get("StateReason", {})
    return Ami(
        id=image["ImageId"],
        name=image.get("Name", ""),
        state=_STATES.get(image["State"], AmiState.FAILED),
        created_at=dt.datetime.fromisoformat(image["CreationDate"]).timestamp(),
        architecture=image["Architecture"],
        disk_gib=disk_gib(image),
        tags={tag["Key"]: tag["Value"] for tag in image.get("Tags", ())},
        reason=": ".join(filter(None, (reason.get("Code"), reason.get("Message")))),
    )


class OwnAmis:
    """Implements the part of the `Cloud` port about machine images of the installation."""

    def __init__(self, installation: str, session: aws.Session, calls: aws.Calls) -> None:
        self._installation, self._session, self._calls = installation, session, calls

    @aws.reading("DescribeImages")
    def listed(self) -> tuple[Ami, ...]:
        ec2 = self._session.client("ec2")
        mine = [ours(self._installation)]
        images = pages(self._calls, ec2.describe_images, "Images", Owners=["self"], Filters=mine, MaxResults=PAGE)
        return tuple(ami(image) for image in images)

    @aws.reading("CreateImage")
    def create(self, instance_id: str, name: str, tags: Mapping[str, str]) -> str:
        tags = {**tags, INSTALLATION_TAG: self._installation}
        parameters = creation(instance_id, name, tags)
        try:
            return str(self._calls.repeat(self._session.client("ec2").create_image, **parameters)["ImageId"])
        except CloudError as error:
            if error.code != NAME_TAKEN:
                raise
            # CreateImage has no client token: the name makes the call idempotent.
            for each in self.listed():
                if each.name == name and each.tags == tags:
                    return each.id
            raise errors.Conflict(str(error)) from error

    @aws.reading("DescribeSnapshots")
    def delete(self, id: str) -> bool:
        ec2 = self._session.client("ec2")
        # List the snapshots before anything is deleted: if this fails, the AMI stays.
        snapshots = pages(
            self._calls,
            ec2.describe_snapshots,
            "Snapshots",
            OwnerIds=["self"],
            Filters=[ours(self._installation), behind(id)],
            MaxResults=PAGE,
        )
        made = [snapshot["SnapshotId"] for snapshot in snapshots]
        deleted = self._delete(ec2.deregister_image, "InvalidAMIID", ImageId=id)
        for snapshot in made:
            deleted |= self._delete(ec2.delete_snapshot, "InvalidSnapshot.NotFound", SnapshotId=snapshot)
        return deleted

    def _delete(self, operation: Callable[..., Any], absent: str, **parameters: Any) -> bool:
        """Delete a resource; return False if it does not exist: EC2's error code begins with `absent`."""
        try:
            self._calls.repeat(operation, **parameters)
        except CloudError as error:
            if error.code.startswith(absent):
                return False
            raise
        return True
