"""Build requests for AMIs and their snapshots, and read AMIs from EC2's answers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from provisioner.core.cloud.machine_images import Ami, AmiState

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
