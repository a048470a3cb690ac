"""Find the EC2 resources that a call names, uses or makes: they decide whether the call is allowed."""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from provisioner.rehearsal.aws.actions import Ec2Resource
from provisioner.rehearsal.aws.calls import Call
from provisioner.rehearsal.aws.refused import Refused
from provisioner.rehearsal.ec2.filters import tagged
from provisioner.rehearsal.ec2.instance import LaunchTemplate
from provisioner.rehearsal.ec2.model import Model

#: By call: the type of the resources that it names, and the parameters with their ids or names.
_NAMED = {
    "CreateImage": ("instance", ("InstanceId",)),
    "DeleteLaunchTemplate": ("launch-template", ("LaunchTemplateName", "LaunchTemplateId")),
    "DeletePlacementGroup": ("placement-group", ("GroupName",)),
    "DeleteSnapshot": ("snapshot", ("SnapshotId",)),
    "DeregisterImage": ("image", ("ImageId",)),
    "GetConsoleOutput": ("instance", ("InstanceId",)),
    "TerminateInstances": ("instance", ("InstanceIds",)),
}
#: By call: the types of the resources that it makes.
_MADE = {
    "CreateImage": ("image", "snapshot"),
    "CreateLaunchTemplate": ("launch-template",),
    "CreatePlacementGroup": ("placement-group",),
    "CreateFleet": ("fleet", "instance", "network-interface", "volume"),
    "RunInstances": ("instance", "network-interface", "volume"),
}
#: By the first part of an id: the type of the resource.
_KINDS = {
    "ami": "image",
    "eni": "network-interface",
    "fleet": "fleet",
    "i": "instance",
    "lt": "launch-template",
    "pg": "placement-group",
    "snap": "snapshot",
    "vol": "volume",
}


class Resources:
    """Implements `Known` for the checks of rights, on the model."""

    def __init__(self, model: Model, lock: threading.RLock, now: Callable[[], float]) -> None:
        self._model, self._lock, self._now = model, lock, now

    def role_of(self, call: Call) -> str:
        """Return the role that a launch gives to its machines; empty if it gives none.

        In this account, an instance profile and its role have the same name.
        """
        with self._lock:
            template = self._template(call.parameters)
        own = call.parameters.get("IamInstanceProfile", {})
        profile = own.get("Arn") or own.get("Name") or (template.content.profile if template else "")
        return str(profile).rpartition("/")[2]

    def used_by(self, call: Call) -> list[Ec2Resource]:
        """Return the resources that the call names, uses or makes, as far as EC2 knows them."""
        said = call.parameters
        with self._lock:
            if call.action in ("CreateTags", "DeleteTags"):
                return list(self._tagged(said))
            return [*self._named(call), *self._made(call), *self._launched_with(call)]

    def tags(self) -> Iterator[tuple[str, str, Mapping[str, str]]]:
        """Yield the type, the id and the tags of every resource of the model; the caller holds the lock."""
        for machine in self._model.instances(self._now()):
            yield "instance", machine.id, machine.tags
        for image in self._model.images.shown():
            yield "image", image.id, image.tags
        for snapshot in self._model.images.snapshots():
            yield "snapshot", snapshot.id, snapshot.tags
        for group in self._model.groups.shown():
            yield "placement-group", group.id, group.tags
        for template in self._model.visible_templates(self._now()):
            yield "launch-template", template.id, template.content.tags

    def _tagged(self, said: Mapping[str, Any]) -> Iterator[Ec2Resource]:
        tags = {tag["Key"]: tag.get("Value", "") for tag in said.get("Tags", [])}
        for id in said.get("Resources", []):
            yield Ec2Resource(_KINDS.get(id.partition("-")[0], "unknown"), id, self._tags(id) or {}, tags)

    def _named(self, call: Call) -> Iterator[Ec2Resource]:
        kind, parameters = _NAMED.get(call.action, ("", ()))
        for parameter in parameters:
            named = call.parameters.get(parameter, [])
            for id in named if isinstance(named, list) else [named]:
                tags = self._tags(id)
                if tags is not None:
                    yield Ec2Resource(kind, id, tags)

    def _made(self, call: Call) -> Iterator[Ec2Resource]:
        template = self._template(call.parameters)
        if call.action == "CreateFleet" and template is None:
            # The call itself reports that its template is unknown.
            return
        for kind in _MADE.get(call.action, ()):
            name = call.parameters.get("GroupName", "*") if kind == "placement-group" else "*"
            from_template = template.content.new_tags.get(kind, {}) if template else {}
            yield Ec2Resource(kind, name, {}, {**from_template, **tagged(call.parameters, kind)}, made=True)

    def _launched_with(self, call: Call) -> Iterator[Ec2Resource]:
        """Yield the existing resources of a launch: they get no tags by it."""
        said = call.parameters
        template = self._template(said)
        if call.action not in ("CreateFleet", "RunInstances") or (call.action == "CreateFleet" and template is None):
            return
        overrides = [one for config in said.get("LaunchTemplateConfigs", []) for one in config.get("Overrides", [])]
        image = said.get("ImageId") or (template.content.image if template else "*")
        yield Ec2Resource("image", image)
        yield Ec2Resource("snapshot")
        for group in said.get("SecurityGroupIds") or (template.content.groups if template else ()) or ("default",):
            yield Ec2Resource("security-group", group)
        for subnet in sorted({one["SubnetId"] for one in [*overrides, said] if "SubnetId" in one}):
            yield Ec2Resource("subnet", subnet)
        for name in sorted({one["Placement"]["GroupName"] for one in overrides if "Placement" in one}):
            yield Ec2Resource("placement-group", name, self._tags(name) or {})
        if template and template.content.reservation:
            yield Ec2Resource("capacity-reservation", template.content.reservation)
        if said.get("TargetCapacitySpecification", {}).get("DefaultTargetCapacityType") == "spot":
            yield Ec2Resource("spot-instances-request")
        if template:
            yield Ec2Resource("launch-template", template.id, template.content.tags)

    def _template(self, said: Mapping[str, Any]) -> LaunchTemplate | None:
        configs = said.get("LaunchTemplateConfigs", [])
        specification = configs[0].get("LaunchTemplateSpecification", {}) if configs else said.get("LaunchTemplate", {})
        wanted = {specification.get("LaunchTemplateName"), specification.get("LaunchTemplateId")}
        known = self._model.visible_templates(self._now())
        return next((one for one in known if {one.name, one.id} & wanted), None)

    def _tags(self, id: str) -> Mapping[str, str] | None:
        """Return the tags of a resource by its id or name; None for an unknown one."""
        found = [one.tags for one in self._model.every() if one.id == id]
        found += [one.tags for one in self._model.groups.shown() if id in (one.name, one.id)]
        found += [one.content.tags for one in self._model.visible_templates(self._now()) if id in (one.name, one.id)]
        return found[0] if found else self._model.images.tags_of(id)


def template_name(model: Model, said: Mapping[str, Any], now: float) -> str:
    """Return the name of the template that a CreateFleet call uses; raises Refused for an unknown version."""
    specification = said["LaunchTemplateConfigs"][0]["LaunchTemplateSpecification"]
    if specification.get("Version") not in ("1", "$Latest", "$Default"):
        raise Refused("InvalidLaunchTemplateVersion.NotFoundException", "The launch template has only version 1")
    if name := specification.get("LaunchTemplateName"):
        return str(name)
    wanted = specification.get("LaunchTemplateId")
    return next((one.name for one in model.visible_templates(now) if one.id == wanted), str(wanted))
