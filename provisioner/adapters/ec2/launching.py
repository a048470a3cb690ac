"""Build the requests for a launch template and a fleet, and read the fleet's answer."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from provisioner.adapters import aws
from provisioner.adapters.ec2.codes import decisive, translate
from provisioner.core.cloud.launches import LaunchAnswer, LaunchedMachine, LaunchRequest, Refusal, Template
from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.errors import Transient

#: The market of a Capacity Block, for templates and fleets (EC2 User Guide, "Tutorial: Configure your EC2 Fleet to
#: launch instances into Capacity Blocks").
CAPACITY_BLOCK = "capacity-block"


def creation(template: Template, tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters of CreateLaunchTemplate; the tags are for the template and its network interfaces."""
    return {
        "LaunchTemplateName": template.name,
        "LaunchTemplateData": _data(template, tags),
        "TagSpecifications": [{"ResourceType": "launch-template", "Tags": _tags(tags)}],
    }


def _data(template: Template, tags: Mapping[str, str]) -> dict[str, Any]:
    # Market options only for a Capacity Block, and no tags for spot requests: with either, on-demand launches fail.
    # CreateFleet itself tags no network interfaces, and the control plane may create only tagged resources.
    return {
        "ImageId": template.image.id,
        "IamInstanceProfile": {"Arn": template.profile_arn},
        **_network(template),
        "BlockDeviceMappings": [
            {
                # With another name than that of the AMI's root device, EC2 would add a second volume.
                "DeviceName": template.image.root_device,
                "Ebs": {
                    "VolumeSize": template.disk_gib,
                    "VolumeType": "gp3",
                    "DeleteOnTermination": True,
                    **({"Throughput": template.disk_throughput} if template.disk_throughput else {}),
                    **({"Iops": template.disk_iops} if template.disk_iops else {}),
                },
            }
        ],
        "UserData": base64.b64encode(template.user_data.encode()).decode(),
        # EC2's default is `stop`: a machine that powers itself off would be kept for ever.
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        # EC2's default is `open`, which uses up any reservation that happens to match.
        "CapacityReservationSpecification": {
            "CapacityReservationPreference": template.capacity_reservation,
            # Karpenter's templates have the preference and the target, too, when it launches into a reservation.
            **(
                {"CapacityReservationTarget": {"CapacityReservationId": template.reservation}}
                if template.reservation
                else {}
            ),
        },
        **({"InstanceMarketOptions": {"MarketType": CAPACITY_BLOCK}} if template.capacity_block else {}),
        # A recovered machine would run its job a second time.
        "MaintenanceOptions": {"AutoRecovery": "disabled"},
        "TagSpecifications": [{"ResourceType": "network-interface", "Tags": _tags(tags)}],
    }


def _network(template: Template) -> dict[str, Any]:
    groups = list(template.security_groups)
    if not template.public_address:
        return {"SecurityGroupIds": groups}
    # Security groups must then be the interface's (API Reference, "RequestLaunchTemplateData"). The subnet comes from
    # the fleet's override, as in Karpenter. Only a single interface may have a public address (karpenter#5666).
    interface = {"DeviceIndex": 0, "AssociatePublicIpAddress": True, "DeleteOnTermination": True}
    return {"NetworkInterfaces": [{**interface, **({"Groups": groups} if groups else {})}]}


def fleet(request: LaunchRequest, tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters of CreateFleet: equal requests give equal parameters, as the client token requires.

    Spot uses `price-capacity-optimized`, as AWS recommends (EC2 User Guide, "Allocation strategies for Spot
    Instances"). On-demand uses `prioritized`: the planner orders the offers of the request by the user's preferences
    and by known shortages of capacity; EC2's `lowest-price` would ignore that order. Machines in a reservation are
    on-demand machines, except those in a Capacity Block: their fleet has no options (ibid.), so it may launch a part of
    the machines.
    """
    spot, block = request.market is Market.SPOT, request.template.capacity_block
    # The group differs from launch to launch, so it is not in the template, which many launches share.
    placement = {"Placement": {"GroupName": request.placement_group}} if request.placement_group else {}
    overrides = [
        {"InstanceType": offer.instance_type, "SubnetId": request.subnets[offer.zone]}
        | placement
        | ({} if spot or block else {"Priority": float(place)})
        for place, offer in enumerate(request.offers)
    ]
    options: dict[str, Any] = (
        {"AllocationStrategy": "price-capacity-optimized", "InstanceInterruptionBehavior": "terminate"}
        if spot
        else {"AllocationStrategy": "prioritized"}
    )
    if request.together:
        # EC2 accepts a minimum only with a single zone or type (API Reference, "SpotOptionsRequest").
        options |= {"SingleInstanceType": True, "SingleAvailabilityZone": True, "MinTargetCapacity": request.count}
    return {
        **({} if block else {"SpotOptions" if spot else "OnDemandOptions": options}),
        "Type": "instant",
        "ClientToken": request.token,
        # A template's name is a hash of its content, so there is never a second version.
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {"LaunchTemplateName": request.template.name, "Version": "1"},
                "Overrides": overrides,
            }
        ],
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": request.count,
            "DefaultTargetCapacityType": CAPACITY_BLOCK if block else "spot" if spot else "on-demand",
        },
        "TagSpecifications": [{"ResourceType": kind, "Tags": _tags(tags)} for kind in ("fleet", "instance", "volume")],
    }


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def answer(request: LaunchRequest, response: Mapping[str, Any], translate: aws.Translate = translate) -> LaunchAnswer:
    """Return the machines and refusals in a CreateFleet answer with status 200; raises ValueError if it has neither."""
    machines = tuple(
        LaunchedMachine(instance_id, _offer(request, entry))
        for entry in response.get("Instances", ())
        for instance_id in entry["InstanceIds"]
    )
    refusals = []
    for entry in response.get("Errors", ()):
        code, message = entry.get("ErrorCode", ""), entry.get("ErrorMessage", "")
        # An error without a code is retried: it must not end the run as refused.
        error = translate(code, message) if code else Transient(message or "an error without a code", aws.UNREADABLE)
        offer = _offer(request, entry)
        refusals.append(Refusal(error, offer if offer in request.offers else None))
    if not machines and not refusals:
        raise ValueError("neither machines nor errors")
    return LaunchAnswer(machines, decisive(refusals), aws.date(response))


def _offer(request: LaunchRequest, entry: Mapping[str, Any]) -> Offer:
    """Return the offer that an entry of the answer is about; its type or zone is "" if the entry has none."""
    said = entry.get("LaunchTemplateAndOverrides", {}).get("Overrides", {}) | entry
    zones = {subnet: zone for zone, subnet in request.subnets.items()}
    zone = said.get("AvailabilityZone") or zones.get(said.get("SubnetId", ""), "")
    return Offer(request.market, said.get("InstanceType", ""), zone)
