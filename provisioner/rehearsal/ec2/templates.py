"""The launch templates of the EC2 model, and EC2's calls about them.

Error codes are EC2's (EC2 API Reference, "Error codes"); texts of messages are assumed where no line has a source.
"""

import base64
import threading
from collections.abc import Callable, Mapping
from typing import Any

from provisioner.rehearsal.aws.calls import NotPlayed
from provisioner.rehearsal.aws.refused import Refused
from provisioner.rehearsal.ec2.filters import fits, tagged
from provisioner.rehearsal.ec2.instance import Content, LaunchTemplate

#: The types of resources for which a launch template may have tags (EC2 API Reference,
#: "LaunchTemplateTagSpecificationRequest").
_NEW = ("instance", "network-interface", "spot-instances-request", "volume")

#: A filter of DescribeLaunchTemplates.
_NAME = "launch-template-name"


class Templates:
    """The launch templates of one region; pure, like the model."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._templates: dict[str, LaunchTemplate] = {}
        self._tokens: dict[str, tuple[str, Content]] = {}

    def create(self, name: str, content: Content, now: float, *, token: str = "") -> LaunchTemplate:
        if token and self._tokens.get(token) == (name, content) and name in self._templates:
            return self._templates[name]
        if name in self._templates:
            raise Refused("InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use.")
        if len(content.user_data.encode()) > 16 * 1024:
            raise Refused("InvalidUserData.Malformed", "User data is limited to 16384 bytes")
        self._templates[name] = LaunchTemplate(f"lt-{self._new_id()[-17:]}", name, content, now)
        if token:
            self._tokens[token] = (name, content)
        return self._templates[name]

    def shown(self) -> list[LaunchTemplate]:
        return list(self._templates.values())

    def delete(self, name: str) -> LaunchTemplate:
        """Delete a template by its name; machines that were launched with it stay."""
        if name not in self._templates:
            message = f"The specified launch template, with template name {name}, does not exist."
            raise Refused("InvalidLaunchTemplateName.NotFoundException", message)
        return self._templates.pop(name)


class TemplateCalls:
    """EC2's calls about launch templates: `calls` has a function for each API call."""

    def __init__(
        self,
        templates: Templates,
        lock: threading.RLock,
        *,
        now: Callable[[], float],
        visible: Callable[[float], list[LaunchTemplate]],
    ) -> None:
        """`visible` returns the templates that are visible at a time."""
        self._templates, self._lock, self._now, self._visible = templates, lock, now, visible
        self.calls: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "CreateLaunchTemplate": self._create,
            "DescribeLaunchTemplates": self._describe,
            "DeleteLaunchTemplate": self._delete,
        }

    def _create(self, said: Mapping[str, Any]) -> dict[str, Any]:
        data = said["LaunchTemplateData"]
        profile, interface = data.get("IamInstanceProfile", {}), _interface(data)
        disks = [one.get("Ebs", {}).get("VolumeSize", 0) for one in data.get("BlockDeviceMappings", [])]
        content = Content(
            image=data.get("ImageId", ""),
            user_data=base64.b64decode(data.get("UserData", "")).decode(),
            profile=profile.get("Arn") or profile.get("Name", ""),
            on_power_off=data.get("InstanceInitiatedShutdownBehavior", "stop"),
            disk_gib=disks[0] if disks else 0,
            groups=tuple(data.get("SecurityGroupIds", interface.get("Groups", []))),
            public=interface.get("AssociatePublicIpAddress"),
            tags=tagged(said, "launch-template"),
            new_tags={kind: found for kind in _NEW if (found := tagged(data, kind))},
            reservation=_target(data).get("CapacityReservationId", ""),
            market=data.get("InstanceMarketOptions", {}).get("MarketType", ""),
        )
        with self._lock:
            name, token = said["LaunchTemplateName"], said.get("ClientToken", "")
            made = self._templates.create(name, content, self._now(), token=token)
        return {"LaunchTemplate": _shown(made)}

    def _describe(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """Describe the named templates, or those that fit filters by tag or name; the answer has one page."""
        names, filters = said.get("LaunchTemplateNames", []), said.get("Filters", [])
        if any(item["Name"] != _NAME and not item["Name"].startswith("tag:") for item in filters):
            raise NotPlayed("DescribeLaunchTemplates with a filter other than tags and the name")
        with self._lock:
            shown = {one.name: one for one in self._visible(self._now())}
        for name in names:
            if name not in shown:
                message = f"At least one of the launch templates specified in the request does not exist: {name}"
                raise Refused("InvalidLaunchTemplateName.NotFoundException", message)
        found = [shown[name] for name in names or shown]
        return {"LaunchTemplates": [_shown(one) for one in found if all(_fits(one, item) for item in filters)]}

    def _delete(self, said: Mapping[str, Any]) -> dict[str, Any]:
        if set(said) != {"LaunchTemplateName"}:
            raise NotPlayed(f"DeleteLaunchTemplate with {sorted(said)}")
        with self._lock:
            return {"LaunchTemplate": _shown(self._templates.delete(said["LaunchTemplateName"]))}


def _interface(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the only network interface of a launch template, or an empty one; raises Refused and NotPlayed."""
    interfaces = data.get("NetworkInterfaces", [])
    if not interfaces:
        return {}
    if "SecurityGroupIds" in data:
        # RunInstances answers so (ansible-collections/amazon.aws#157). That CreateLaunchTemplate does is assumed.
        message = "Network interfaces and an instance-level security groups may not be specified on the same request"
        raise Refused("InvalidParameterCombination", message)
    known = {"DeviceIndex", "AssociatePublicIpAddress", "DeleteOnTermination", "Groups"}
    if len(interfaces) > 1 or set(interfaces[0]) - known or interfaces[0].get("DeviceIndex") != 0:
        raise NotPlayed(f"a launch template with the network interfaces {interfaces}")
    return dict(interfaces[0])


def _target(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the CapacityReservationTarget of a launch template's data."""
    return dict(data.get("CapacityReservationSpecification", {}).get("CapacityReservationTarget", {}))


def _fits(one: LaunchTemplate, item: Mapping[str, Any]) -> bool:
    if item["Name"] == _NAME:
        return fits(item, [one.name])
    tags, key = one.content.tags, item["Name"].removeprefix("tag:")
    return key in tags and fits(item, [tags[key]])


def _shown(one: LaunchTemplate) -> dict[str, Any]:
    return {
        "LaunchTemplateId": one.id,
        "LaunchTemplateName": one.name,
        "CreateTime": one.created,
        "DefaultVersionNumber": 1,
        "LatestVersionNumber": 1,
        "Tags": [{"Key": key, "Value": value} for key, value in one.content.tags.items()],
    }
