"""The cluster placement groups of the EC2 model; pure, like the model.

Error codes and rules are EC2's (EC2 API Reference, "Error codes"; EC2 User Guide, "Placement groups"). The texts of
messages are assumed, and so is the code of a launch in another zone than that of the group's machines.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from provisioner.core.cloud.machines import MachineState
from provisioner.core.cloud.offers import InstanceType, Offer
from provisioner.rehearsal.aws.refused import Refused
from provisioner.rehearsal.ec2.instance import Instance


@dataclass(frozen=True)
class Group:
    id: str
    name: str
    tags: Mapping[str, str]
    created: float


class PlacementGroups:
    """The groups of one region: at most `limit`, each pending for `lag` seconds after its creation."""

    def __init__(self, limit: int, lag: float, new_id: Callable[[], str]) -> None:
        self._limit, self._lag, self._new_id = limit, lag, new_id
        self._groups: dict[str, Group] = {}

    def create(self, name: str, tags: Mapping[str, str], now: float) -> Group:
        if name in self._groups:
            raise Refused("InvalidPlacementGroup.Duplicate", f"The placement group '{name}' already exists.")
        if len(self._groups) >= self._limit:
            message = "You've reached the limit on the number of placement groups that you can have."
            raise Refused("PlacementGroupLimitExceeded", message)
        self._groups[name] = Group(f"pg-{self._new_id()[-17:]}", name, dict(tags), now)
        return self._groups[name]

    def state(self, group: Group, now: float) -> str:
        return "available" if now >= group.created + self._lag else "pending"

    def shown(self, names: Collection[str] = ()) -> list[Group]:
        """Return all groups, or those with `names`; raises Refused for an unknown name."""
        return [self._known(name) for name in names] if names else list(self._groups.values())

    def delete(self, name: str, machines: Collection[Instance]) -> None:
        """Delete a group; raises Refused if one of the machines is in it and has not ended.

        A machine that is shutting down still uses its group (aws-parallelcluster, pull request 6373).
        """
        self._known(name)
        if any(one.group == name and one.state is not MachineState.TERMINATED for one in machines):
            message = f"The placement group '{name}' is in use and may not be deleted."
            raise Refused("InvalidPlacementGroup.InUse", message)
        del self._groups[name]

    def why_no_machine(
        self, name: str, offer: Offer, kind: InstanceType, machines: Collection[Instance], now: float
    ) -> tuple[str, str] | None:
        """Return the error code and message of a launch into the group, else None; `machines` have not ended."""
        group = self._groups.get(name)
        if group is None or self.state(group, now) == "pending":
            return "InvalidPlacementGroup.Unknown", f"The placement group '{name}' is unknown."
        if not kind.cluster:
            message = f"Cluster placement groups are not supported by the '{kind.name}' instance type. "
            message += "Specify a supported instance type or change the placement group strategy, and try again."
            return "InvalidParameterCombination", message
        zones = {one.offer.zone for one in machines if one.group == name} - {offer.zone}
        if zones:
            message = f"The placement group '{name}' is in use in another availability zone: {zones.pop()}"
            return "InvalidPlacementGroup.InUse", message
        return None

    def _known(self, name: str) -> Group:
        if name not in self._groups:
            raise Refused("InvalidPlacementGroup.Unknown", f"The placement group '{name}' is unknown.")
        return self._groups[name]
