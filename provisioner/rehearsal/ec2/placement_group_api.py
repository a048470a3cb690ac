"""Answer EC2's calls about placement groups from the model."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from provisioner.rehearsal.aws.calls import NotPlayed
from provisioner.rehearsal.ec2.filters import fits, tagged
from provisioner.rehearsal.ec2.model import Model
from provisioner.rehearsal.ec2.placement_groups import Group


class PlacementGroupCalls:
    """EC2's calls about placement groups: `calls` has a function for each API call."""

    def __init__(self, model: Model, lock: threading.RLock, *, now: Callable[[], float]) -> None:
        self._model, self._lock, self._now = model, lock, now
        self.calls: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "CreatePlacementGroup": self._create,
            "DescribePlacementGroups": self._describe,
            "DeletePlacementGroup": self._delete,
        }

    def _create(self, said: Mapping[str, Any]) -> dict[str, Any]:
        if set(said) != {"GroupName", "Strategy", "TagSpecifications"} or said["Strategy"] != "cluster":
            raise NotPlayed(f"CreatePlacementGroup with {sorted(said)} and the strategy {said.get('Strategy')}")
        with self._lock:
            now = self._now()
            made = self._model.groups.create(said["GroupName"], tagged(said, "placement-group"), now)
            return {"PlacementGroup": self._shown(made, now)}

    def _describe(self, said: Mapping[str, Any]) -> dict[str, Any]:
        filters = said.get("Filters", [])
        if set(said) - {"GroupNames", "Filters"} or any(not item["Name"].startswith("tag:") for item in filters):
            raise NotPlayed(f"DescribePlacementGroups with {sorted(said)}, or with a filter that is no tag")
        with self._lock:
            now = self._now()
            groups = self._model.groups.shown(said.get("GroupNames", []))
            fitting = [one for one in groups if all(fits(item, _values(one, item)) for item in filters)]
            return {"PlacementGroups": [self._shown(one, now) for one in fitting]}

    def _delete(self, said: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            self._model.groups.delete(said["GroupName"], self._model.alive(self._now()))
        return {}

    def _shown(self, one: Group, now: float) -> dict[str, Any]:
        return {
            "GroupId": one.id,
            "GroupName": one.name,
            "State": self._model.groups.state(one, now),
            "Strategy": "cluster",
            "Tags": [{"Key": key, "Value": value} for key, value in one.tags.items()],
        }


def _values(one: Group, item: Mapping[str, Any]) -> list[str]:
    key = item["Name"].removeprefix("tag:")
    return [one.tags[key]] if key in one.tags else []
