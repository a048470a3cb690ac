"""The AMIs of the EC2 model and their snapshots; pure, like the model.

Error codes are EC2's (EC2 API Reference, "Error codes"). Texts of messages are assumed where no line has a source.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from provisioner.core.cloud.offers import InstanceType
from provisioner.rehearsal.aws.refused import Refused
from provisioner.rehearsal.ec2.instance import Content


@dataclass(frozen=True)
class Snapshot:
    id: str
    description: str
    tags: Mapping[str, str]
    size_gib: int
    started: float


@dataclass(frozen=True)
class MachineImage:
    id: str
    name: str
    #: `self` for the account's own AMIs.
    owner: str
    root_device: str
    architecture: str
    created: float
    size_gib: int
    snapshot: str = ""
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    #: Whether the machine host has kept the machine's disk.
    captured: bool = True
    #: Code and message of the error that makes the AMI unavailable for ever; empty without an error.
    failure: str = ""


class Images:
    """The AMIs and snapshots of one region. The account's AMIs are available when captured and `delay` seconds old."""

    def __init__(self, delay: float, new_id: Callable[[], str]) -> None:
        self._delay, self._new_id = delay, new_id
        self._images: dict[str, MachineImage] = {}
        self._deregistered: set[str] = set()
        self._snapshots: dict[str, Snapshot] = {}

    def publish(self, image: MachineImage) -> None:
        """Add an AMI of another owner, which is available at once."""
        self._images[image.id] = image

    def create(
        self,
        instance_id: str,
        source: str,
        name: str,
        tags: Mapping[str, str],
        snapshot_tags: Mapping[str, str],
        size_gib: int,
        now: float,
    ) -> MachineImage:
        """Create a pending AMI of a machine launched from AMI `source`; raises Refused for an invalid or used name."""
        if not 3 <= len(name) <= 128:
            raise Refused("InvalidAMIName.Malformed", "AMI names must be between 3 and 128 characters long")
        if taken := next((one for one in self._images.values() if one.name == name and one.owner == "self"), None):
            raise Refused("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {taken.id}")
        image_id, snapshot_id = f"ami-{self._new_id()[-17:]}", f"snap-{self._new_id()[-17:]}"
        # EC2 User Guide, "Deregister an Amazon EC2 AMI".
        words = f"Created by CreateImage({instance_id}) for {image_id}"
        self._snapshots[snapshot_id] = Snapshot(snapshot_id, words, dict(snapshot_tags), size_gib, now)
        parent = self._images.get(source)
        made = MachineImage(
            image_id,
            name,
            "self",
            parent.root_device if parent else "/dev/sda1",
            parent.architecture if parent else "x86_64",
            now,
            size_gib,
            snapshot_id,
            dict(tags),
            captured=False,
        )
        self._images[image_id] = made
        return made

    def captured(self, image_id: str, failure: str = "") -> None:
        """Record that the machine host has kept the disk, or why it could not (`failure`); ignore an unknown AMI."""
        if image := self._images.get(image_id):
            self._images[image_id] = dataclasses.replace(image, captured=not failure, failure=failure)

    def state(self, image: MachineImage, now: float) -> str:
        """Return the AMI's EC2 state: `pending`, `available` or `failed`."""
        if image.failure:
            return "failed"
        made = image.owner != "self" or (image.captured and now >= image.created + self._delay)
        return "available" if made else "pending"

    def completed(self, snapshot: Snapshot, now: float) -> bool:
        return now >= snapshot.started + self._delay

    def shown(self, ids: Collection[str] = ()) -> list[MachineImage]:
        """Return all AMIs, or those with `ids`; raises Refused for an unknown id."""
        for one in ids:
            self._known(one)
        return [self._images[one] for one in dict.fromkeys(ids)] if ids else list(self._images.values())

    def snapshots(self) -> list[Snapshot]:
        return list(self._snapshots.values())

    def tags_of(self, id: str) -> Mapping[str, str] | None:
        """Return the tags of an AMI or a snapshot; None for an unknown id."""
        found = self._images.get(id) or self._snapshots.get(id)
        return found.tags if found else None

    def why_no_machine(self, content: Content, kind: InstanceType, now: float) -> tuple[str, str] | None:
        """Return the error code and message of a launch from an AMI that is not available or does not fit, else None.

        An unknown AMI can be launched. A fleet's error for a wrong architecture is assumed to be that of RunInstances
        (skypilot#6315).
        """
        image_id = content.image
        if image_id in self._deregistered:
            return "InvalidAMIID.Unavailable", f"The image id '[{image_id}]' is no longer available"
        image = self._images.get(image_id)
        if image and (state := self.state(image, now)) != "available":
            return "InvalidAMIID.Unavailable", f"The image id '[{image_id}]' is {state}"
        if image and image.architecture != kind.architecture:
            return "InvalidParameterValue", (
                f"The architecture '{kind.architecture}' of the specified instance type does not match the "
                f"architecture '{image.architecture}' of the specified AMI."
            )
        if image and 0 < content.disk_gib < image.size_gib:
            # An error of a fleet: karpenter#3302.
            size = f"Volume of size {content.disk_gib}GB is smaller than snapshot '{image.snapshot or 'snap-0'}'"
            return "InvalidBlockDeviceMapping", f"{size}, expect size >= {image.size_gib}GB"
        return None

    def deregister(self, image_id: str) -> None:
        self._known(image_id)
        del self._images[image_id]
        self._deregistered.add(image_id)

    def delete_snapshot(self, snapshot_id: str) -> None:
        if snapshot_id not in self._snapshots:
            raise Refused("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
        if user := next((one.id for one in self._images.values() if one.snapshot == snapshot_id), None):
            raise Refused("InvalidSnapshot.InUse", f"The snapshot {snapshot_id} is currently in use by {user}")
        del self._snapshots[snapshot_id]

    def _known(self, image_id: str) -> None:
        if image_id in self._deregistered:
            raise Refused("InvalidAMIID.Unavailable", f"The image ID '{image_id}' is no longer available")
        if image_id not in self._images:
            raise Refused("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
