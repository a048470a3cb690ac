"""Answer EC2's calls about AMIs and snapshots from the model."""

import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from provisioner.rehearsal.aws.calls import NotPlayed
from provisioner.rehearsal.ec2.filters import fits, tagged
from provisioner.rehearsal.ec2.machine_images import MachineImage, Snapshot
from provisioner.rehearsal.ec2.model import Model


class ImageCalls:
    """EC2's calls about AMIs and snapshots: `calls` has a function for each API call."""

    def __init__(
        self,
        model: Model,
        lock: threading.RLock,
        *,
        now: Callable[[], float],
        changed: Callable[[], None],
        forget: Callable[[str], None],
        account: str,
    ) -> None:
        self._model, self._lock, self._now, self._account = model, lock, now, account
        self._changed, self._forget = changed, forget
        self.calls: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "CreateImage": self._create_image,
            "DescribeImages": self._describe_images,
            "DescribeSnapshots": self._describe_snapshots,
            "DeregisterImage": self._deregister_image,
            "DeleteSnapshot": self._delete_snapshot,
        }

    def _create_image(self, said: Mapping[str, Any]) -> dict[str, Any]:
        _only("CreateImage", said, "InstanceId", "Name", "Description", "NoReboot", "TagSpecifications")
        if said.get("NoReboot"):
            raise NotPlayed("CreateImage with NoReboot")
        with self._lock:
            made = self._model.create_image(
                said["InstanceId"], said["Name"], tagged(said, "image"), tagged(said, "snapshot"), self._now()
            )
        self._changed()
        return {"ImageId": made}

    def _describe_images(self, said: Mapping[str, Any]) -> dict[str, Any]:
        _only("DescribeImages", said, "ImageIds", "Owners", "Filters", "MaxResults", "NextToken")
        with self._lock:
            now = self._now()
            shown = self._model.images.shown(said.get("ImageIds", []))
            fitting = [
                self._image(one, now)
                for one in shown
                if one.owner in said.get("Owners", [one.owner])
                and all(fits(item, _values(item, one.tags, {"name": one.name})) for item in said.get("Filters", []))
            ]
        return {"Images": fitting}

    def _image(self, one: MachineImage, now: float) -> dict[str, Any]:
        disk = {"VolumeSize": one.size_gib, "VolumeType": "gp3", "DeleteOnTermination": True}
        if one.snapshot:
            disk["SnapshotId"] = one.snapshot
        result: dict[str, Any] = {
            "ImageId": one.id,
            "Name": one.name,
            "OwnerId": self._account if one.owner == "self" else one.owner,
            "State": self._model.images.state(one, now),
            "CreationDate": datetime.fromtimestamp(int(one.created), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "Architecture": one.architecture,
            "RootDeviceName": one.root_device,
            "RootDeviceType": "ebs",
            "BlockDeviceMappings": [{"DeviceName": one.root_device, "Ebs": disk}],
            "Tags": _tags(one.tags),
        }
        if one.failure:
            code, _, message = one.failure.partition(": ")
            result["StateReason"] = {"Code": code, "Message": message}
        return result

    def _describe_snapshots(self, said: Mapping[str, Any]) -> dict[str, Any]:
        _only("DescribeSnapshots", said, "OwnerIds", "Filters", "MaxResults", "NextToken")
        if said.get("OwnerIds") != ["self"]:
            raise NotPlayed(f"DescribeSnapshots with OwnerIds {said.get('OwnerIds')} instead of ['self']")
        with self._lock:
            now = self._now()
            fitting = [
                self._snapshot(one, now)
                for one in self._model.images.snapshots()
                if all(
                    fits(item, _values(item, one.tags, {"description": one.description}))
                    for item in said.get("Filters", [])
                )
            ]
        return {"Snapshots": fitting}

    def _snapshot(self, one: Snapshot, now: float) -> dict[str, Any]:
        done = self._model.images.completed(one, now)
        return {
            "SnapshotId": one.id,
            "OwnerId": self._account,
            "Description": one.description,
            "State": "completed" if done else "pending",
            "Progress": "100%" if done else "0%",
            "StartTime": one.started,
            "VolumeSize": one.size_gib,
            "Tags": _tags(one.tags),
        }

    def _deregister_image(self, said: Mapping[str, Any]) -> dict[str, Any]:
        _only("DeregisterImage", said, "ImageId")
        with self._lock:
            self._model.images.deregister(said["ImageId"])
        self._forget(said["ImageId"])
        return {"Return": True}

    def _delete_snapshot(self, said: Mapping[str, Any]) -> dict[str, Any]:
        _only("DeleteSnapshot", said, "SnapshotId")
        with self._lock:
            self._model.images.delete_snapshot(said["SnapshotId"])
        return {}


def _only(action: str, said: Mapping[str, Any], *known: str) -> None:
    if strange := set(said) - set(known):
        raise NotPlayed(f"{action} with {sorted(strange)}")


def _values(item: Mapping[str, Any], tags: Mapping[str, str], fields: Mapping[str, str]) -> Iterable[str]:
    """Return the values that the filter compares; raises NotPlayed for an unknown filter."""
    name = item["Name"]
    if name.startswith("tag:"):
        return [tags[name[4:]]] if name[4:] in tags else []
    if name not in fields:
        raise NotPlayed(f"the filter {name} of images or snapshots")
    return [fields[name]]


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
