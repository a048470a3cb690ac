"""Cluster placement groups: EC2 places the machines of a group close to each other, in one zone."""

from collections.abc import Mapping
from dataclasses import dataclass

from provisioner.core.cloud.tags import LAUNCH_TAG


def placement_group_of(launch: str) -> str:
    """Return the name of a launch's group.

    Each launch has its own group: EC2 seldom has room for further machines in a group that has machines already.
    """
    return f"provision-{launch}"


@dataclass(frozen=True)
class PlacementGroup:
    """A placement group as the cloud describes it."""

    name: str
    tags: Mapping[str, str]

    @property
    def launch(self) -> str:
        """The id of the launch that the group was made for, or ""."""
        return self.tags.get(LAUNCH_TAG, "")
