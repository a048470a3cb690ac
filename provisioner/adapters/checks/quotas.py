"""Read quotas of vCPUs, and the vCPUs of instance types."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping

from provisioner.adapters.checks.looking import Looker
from provisioner.core.check.lines import Unseen
from provisioner.core.cloud.quotas import Quota


def values(looker: Looker, quotas: Mapping[str, Quota]) -> Mapping[str, int | Unseen]:
    """Return the value of each quota, by its code."""

    def read(code: str) -> int:
        answer = looker.ask("service-quotas", "get_service_quota", ServiceCode="ec2", QuotaCode=code)
        return int(answer["Quota"]["Value"])

    return {
        code: looker.look(
            f"the quota {quota.name} ({code})", "servicequotas:GetServiceQuota", functools.partial(read, code)
        )
        for code, quota in quotas.items()
    }


def vcpus(looker: Looker, types: Collection[str]) -> Mapping[str, int]:
    """Return the vCPUs of those of the types that the region has; nothing if they cannot be read."""
    if not types:
        return {}

    def read() -> Mapping[str, int]:
        wanted = [{"Name": "instance-type", "Values": sorted(types)}]
        found = looker.pages("ec2", "describe_instance_types", "InstanceTypes", Filters=wanted)
        return {one["InstanceType"]: int(one["VCpuInfo"]["DefaultVCpus"]) for one in found}

    found = looker.look("the instance types", "ec2:DescribeInstanceTypes", read)
    return {} if isinstance(found, Unseen) else found
