"""Answer EC2's calls about machines from the model, with EC2's own parameters and fields (EC2 API Reference).

A parameter or a filter that is not implemented raises NotPlayed: no answer is invented for it.
"""

import base64
import json
import threading
from collections.abc import Callable, Collection, Mapping
from datetime import UTC
from typing import Any

from provisioner.core.cloud.machines import MachineState
from provisioner.core.cloud.offers import Market, Offer
from provisioner.rehearsal.aws.calls import Call, NotPlayed
from provisioner.rehearsal.aws.refused import Refused
from provisioner.rehearsal.ec2 import quotas
from provisioner.rehearsal.ec2.filters import fits, tagged
from provisioner.rehearsal.ec2.instance import FleetRequest, Instance
from provisioner.rehearsal.ec2.machine_image_api import ImageCalls
from provisioner.rehearsal.ec2.model import Model
from provisioner.rehearsal.ec2.placement_group_api import PlacementGroupCalls
from provisioner.rehearsal.ec2.reserved.api import ReservationCalls
from provisioner.rehearsal.ec2.resources import Resources, template_name
from provisioner.rehearsal.ec2.templates import TemplateCalls

_CODES = {
    MachineState.PENDING: 0,
    MachineState.RUNNING: 16,
    MachineState.SHUTTING_DOWN: 32,
    MachineState.TERMINATED: 48,
    MachineState.STOPPING: 64,
    MachineState.STOPPED: 80,
}
#: Parameters of CreateFleet that the double implements, or may ignore; others raise NotPlayed.
_FLEET = {
    "Type",
    "ClientToken",
    "LaunchTemplateConfigs",
    "TargetCapacitySpecification",
    "TagSpecifications",
    "SpotOptions",
    "OnDemandOptions",
}
_OVERRIDE = {"InstanceType", "SubnetId", "Priority", "Placement"}
#: The types of resources for which an instant fleet may have tags (Karpenter's CreateFleet).
_FLEET_TAGS = {"fleet", "instance", "volume"}


class Ec2:
    """EC2's API over the model: `calls` has a function for each API call, and `resources` finds a call's resources."""

    def __init__(
        self,
        model: Model,
        lock: threading.RLock,
        *,
        now: Callable[[], float],
        console: Callable[[str], str],
        changed: Callable[[], None],
        forget: Callable[[str], None],
        account: str,
    ) -> None:
        """Set up the calls, which hold `lock` while they use the model.

        `changed` is called after each API call that may have launched, captured or ended a machine. `forget` is called
        with the id of each deregistered AMI.
        """
        self._model, self._lock, self._now = model, lock, now
        self._console, self._changed, self._account = console, changed, account
        self.resources = Resources(model, lock, now)
        self.calls: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "CreateFleet": self._create_fleet,
            "DescribeInstances": self._describe_instances,
            "DescribeInstanceStatus": self._describe_instance_status,
            "DescribeTags": self._describe_tags,
            "TerminateInstances": self._terminate_instances,
            "GetConsoleOutput": self._get_console_output,
            "DescribeSpotPriceHistory": self._describe_spot_price_history,
            **TemplateCalls(model.templates, lock, now=now, visible=model.visible_templates).calls,
            **ImageCalls(model, lock, now=now, changed=changed, forget=forget, account=account).calls,
            **PlacementGroupCalls(model, lock, now=now).calls,
            **ReservationCalls(model.reservations, model.alive, lock, now=now, account=account).calls,
        }

    def answer(self, call: Call) -> dict[str, Any]:
        """Return the result of the call; raises Refused as EC2 would, or NotPlayed."""
        return self.calls[call.action](call.parameters)

    def lapsed(self) -> bool:
        """Return whether the control plane's login has expired."""
        return self._model.conditions.lapsed(self._model.began, self._now())

    def quota(self, code: str, types: Collection[str]) -> int:
        """Return the value of a quota of vCPUs of some of these instance types; raises Refused for an unknown code."""
        return quotas.value(self._model.conditions.quotas, code, types, set(self._model.subnets.values()))

    # Launching

    def _create_fleet(self, said: Mapping[str, Any]) -> dict[str, Any]:
        strange = set(said) - _FLEET
        if strange or said.get("Type") != "instant" or len(said["LaunchTemplateConfigs"]) != 1:
            raise NotPlayed(f"CreateFleet of type {said.get('Type')} with {sorted(strange)}")
        if untaggable := {one["ResourceType"] for one in said.get("TagSpecifications", [])} - _FLEET_TAGS:
            raise NotPlayed(f"CreateFleet with tags of {sorted(untaggable)}")
        target = said["TargetCapacitySpecification"]
        kind = target.get("DefaultTargetCapacityType", "on-demand")
        market = self._market(said, kind)
        overrides = said["LaunchTemplateConfigs"][0].get("Overrides", [])
        subnets = {}
        for one in overrides:
            if set(one) - _OVERRIDE or not {"InstanceType", "SubnetId"} <= set(one):
                raise NotPlayed(f"a CreateFleet override of {sorted(one)}")
            if set(one.get("Placement", {})) - {"GroupName"} or one.get("Placement") != overrides[0].get("Placement"):
                raise NotPlayed(f"a CreateFleet override with the placement {one.get('Placement')}")
            zone = self._model.subnets.get(one["SubnetId"], "")
            subnets[Offer(market, one["InstanceType"], zone)] = one["SubnetId"]
        options = said.get("SpotOptions" if market is Market.SPOT else "OnDemandOptions", {})
        if kind == "capacity-block" and options:
            raise NotPlayed(f"CreateFleet for a Capacity Block with the options {options}")
        limits = [options.get(name) for name in ("SingleInstanceType", "SingleAvailabilityZone", "MinTargetCapacity")]
        if limits not in ([None] * 3, [True, True, target["TotalTargetCapacity"]]):
            raise NotPlayed(f"CreateFleet with the options {options}")
        ordered = said.get("OnDemandOptions", {}).get("AllocationStrategy") == "prioritized"
        if ordered and market is not Market.SPOT:
            overrides = sorted(overrides, key=lambda one: one.get("Priority", float("inf")))
        with self._lock:
            request = FleetRequest(
                token=said.get("ClientToken", ""),
                template=template_name(self._model, said, self._now()),
                overrides=tuple(
                    (Offer(market, one["InstanceType"], self._model.subnets.get(one["SubnetId"], "")), one["SubnetId"])
                    for one in overrides
                ),
                count=target["TotalTargetCapacity"],
                tags=tagged(said, "instance"),
                by_price=not (ordered and market is not Market.SPOT),
                together=bool(limits[0]),
                group=overrides[0].get("Placement", {}).get("GroupName", "") if overrides else "",
                rest=json.dumps(said, sort_keys=True, default=str),
            )
            answer = self._model.create_fleet(request, self._now())
        self._changed()
        launched: dict[Offer, list[str]] = {}
        for instance_id, offer in answer.machines:
            launched.setdefault(offer, []).append(instance_id)

        def of(offer: Offer) -> dict[str, Any]:
            override: dict[str, Any] = {"InstanceType": offer.instance_type, "SubnetId": subnets[offer]}
            override |= {"Placement": {"GroupName": request.group}} if request.group else {}
            name = {"LaunchTemplateName": request.template, "Version": "1"}
            return {
                "LaunchTemplateAndOverrides": {"LaunchTemplateSpecification": name, "Overrides": override},
                "Lifecycle": kind,
            }

        return {
            "FleetId": answer.fleet,
            "Instances": [
                of(offer) | {"InstanceIds": ids, "InstanceType": offer.instance_type} for offer, ids in launched.items()
            ],
            "Errors": [of(one.offer) | {"ErrorCode": one.code, "ErrorMessage": one.message} for one in answer.errors],
        }

    def _market(self, said: Mapping[str, Any], kind: str) -> Market:
        """Return the market of a fleet with this DefaultTargetCapacityType; its template may name a reservation."""
        with self._lock:
            name = template_name(self._model, said, self._now())
            contents = [one.content for one in self._model.visible_templates(self._now()) if one.name == name]
        if kind == "capacity-block" or any(content.reservation for content in contents):
            return Market.RESERVED
        return Market(kind)

    # Listings and terminations

    def _describe_instances(self, said: Mapping[str, Any]) -> dict[str, Any]:
        ids, most = said.get("InstanceIds", []), said.get("MaxResults")
        if ids and most is not None:
            message = "The parameter instancesSet cannot be used with the parameter maxResults"
            raise Refused("InvalidParameterCombination", message)
        if most is not None and not 5 <= most <= 1000:
            raise Refused("InvalidParameterValue", f"Value ( {most} ) for parameter maxResults is invalid.")
        for item in said.get("Filters", []):
            if item["Name"] not in _FILTERS and not item["Name"].startswith("tag:"):
                raise NotPlayed(f"DescribeInstances with the filter {item['Name']}")
        with self._lock:
            shown = self._model.instances(self._now(), ids)
        fitting = [one for one in shown if all(_fits(one, item) for item in said.get("Filters", []))]
        fitting.sort(key=_place)
        fitting = [one for one in fitting if _place(one) > said.get("NextToken", "")]
        page = fitting[:most]
        result: dict[str, Any] = {
            "Reservations": [
                {"ReservationId": f"r-{one.id[2:]}", "OwnerId": self._account, "Instances": [_described(one)]}
                for one in page
            ]
        }
        return result | ({"NextToken": _place(page[-1])} if len(page) < len(fitting) else {})

    def _describe_instance_status(self, said: Mapping[str, Any]) -> dict[str, Any]:
        if set(said) - {"InstanceIds"}:
            raise NotPlayed("DescribeInstanceStatus with parameters other than InstanceIds")
        with self._lock:
            now = self._now()
            running = [
                one for one in self._model.instances(now, said["InstanceIds"]) if one.state == MachineState.RUNNING
            ]
            words = {one.id: "impaired" if self._model.impaired(one.id, now) else "ok" for one in running}
        return {
            "InstanceStatuses": [
                {
                    "InstanceId": one.id,
                    "AvailabilityZone": one.offer.zone,
                    "InstanceState": _state(one.state),
                    "InstanceStatus": {"Status": words[one.id]},
                    "SystemStatus": {"Status": "ok"},
                }
                for one in running
            ]
        }

    def _describe_tags(self, said: Mapping[str, Any]) -> dict[str, Any]:
        if any(item["Name"] != "key" for item in said.get("Filters", [])):
            raise NotPlayed("DescribeTags with a filter other than key")
        with self._lock:
            shown = list(self.resources.tags())
        return {
            "Tags": [
                {"ResourceType": kind, "ResourceId": id, "Key": key, "Value": value}
                for kind, id, tags in shown
                for key, value in tags.items()
                if all(fits(item, [key]) for item in said.get("Filters", []))
            ]
        }

    def _terminate_instances(self, said: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            changes = self._model.terminate(said.get("InstanceIds", []), self._now())
        self._changed()
        return {
            "TerminatingInstances": [
                {"InstanceId": one, "PreviousState": _state(before), "CurrentState": _state(after)}
                for one, (before, after) in changes.items()
            ]
        }

    def _get_console_output(self, said: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            now = self._now()
            self._model.instances(now, [said["InstanceId"]])
        text = self._console(said["InstanceId"])
        result = {"InstanceId": said["InstanceId"], "Timestamp": now}
        # EC2 keeps the latest 64 KB.
        output = base64.b64encode(text.encode()[-65536:]).decode()
        return result | ({"Output": output} if text else {})

    def _describe_spot_price_history(self, said: Mapping[str, Any]) -> dict[str, Any]:
        if not said.get("InstanceTypes") or said.get("Filters"):
            raise NotPlayed("DescribeSpotPriceHistory without InstanceTypes, or with Filters")
        wanted = [said["AvailabilityZone"]] if "AvailabilityZone" in said else sorted(set(self._model.subnets.values()))
        now = self._now()
        start, end = (_time(said[name]) if name in said else now for name in ("StartTime", "EndTime"))
        prices = []
        for kind in said["InstanceTypes"]:
            for zone in wanted:
                known = self._model.prices(Offer(Market.SPOT, kind, zone), min(end, now))
                # The price in force at the start is returned too.
                first = max((at for at, _ in known if at <= start), default=start)
                prices += [
                    {
                        "InstanceType": kind,
                        "AvailabilityZone": zone,
                        "ProductDescription": "Linux/UNIX",
                        "SpotPrice": f"{dollars:.6f}",
                        "Timestamp": at,
                    }
                    for at, dollars in reversed(known)
                    if at >= first
                ]
        return {"SpotPriceHistory": prices, "NextToken": ""}


def _time(said: Any) -> float:
    """Return a time as Unix seconds; moto's parser returns times in UTC without a zone."""
    return float(said.timestamp() if said.tzinfo else said.replace(tzinfo=UTC).timestamp())


def _state(state: MachineState) -> dict[str, Any]:
    return {"Code": _CODES[state], "Name": state.value}


def _place(one: Instance) -> str:
    """Return the machine's sort key in listings, which does not change when other machines leave the listing."""
    return f"{one.launch_time:017.6f}/{one.id}"


#: The values that each filter of DescribeInstances compares; `tag:KEY` is a filter, too.
_FILTERS: dict[str, Callable[[Instance], list[str]]] = {
    "tag-key": lambda one: list(one.tags),
    "instance-state-name": lambda one: [one.state.value],
    "instance-id": lambda one: [one.id],
    "instance-type": lambda one: [one.offer.instance_type],
    "availability-zone": lambda one: [one.offer.zone],
    "client-token": lambda one: [one.token],
}


def _fits(one: Instance, item: Mapping[str, Any]) -> bool:
    name = item["Name"]
    if name.startswith("tag:"):
        return fits(item, [one.tags[name[4:]]] if name[4:] in one.tags else [])
    return fits(item, _FILTERS[name](one))


def _described(one: Instance) -> dict[str, Any]:
    change = one.now
    result: dict[str, Any] = {
        "InstanceId": one.id,
        "ImageId": one.template.content.image,
        "InstanceType": one.offer.instance_type,
        "State": _state(one.state),
        "StateTransitionReason": change.transition,
        "LaunchTime": one.launch_time,
        "Placement": {"AvailabilityZone": one.offer.zone, "GroupName": one.group, "Tenancy": "default"},
        "ClientToken": one.token,
        "Tags": [{"Key": key, "Value": value} for key, value in one.tags.items()],
    }
    if change.reason_code:
        result["StateReason"] = {"Code": change.reason_code, "Message": change.reason_message}
    if one.offer.market is Market.SPOT:
        result["InstanceLifecycle"] = "spot"
    if one.reservation:
        result |= {"CapacityReservationId": one.reservation}
        result |= {"InstanceLifecycle": one.template.content.market} if one.template.content.market else {}
    if one.state is not MachineState.TERMINATED:
        result |= {"PrivateIpAddress": one.address, "SubnetId": one.subnet}
        result |= {"PublicIpAddress": one.public_address} if one.public_address else {}
        result |= {"IamInstanceProfile": {"Arn": one.template.content.profile}} if one.template.content.profile else {}
    return result
