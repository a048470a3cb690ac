"""The account's quotas of running vCPUs, and whether AWS has verified the account."""

from collections.abc import Callable, Collection, Iterable

from provisioner.core.cloud.offers import OPEN_MARKETS, InstanceType, Market, Offer
from provisioner.core.cloud.quotas import quota_of
from provisioner.rehearsal.aws.refused import Refused
from provisioner.rehearsal.ec2.conditions import Quota

#: A spot quota is named without its value (karpenter#1556, nixops-aws#41), an on-demand quota with it (many reports).
_SPOT = "MaxSpotInstanceCountExceeded", "Max spot instance count exceeded"
_ON_DEMAND = (
    "You have requested more vCPU capacity than your current vCPU limit of {} allows for the instance bucket that the "
    "specified instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to request an "
    "adjustment to this limit."
)
#: Minutes, or up to 4 hours (skyplane#799). That a fleet has it in its errors is assumed: the reports are of
#: RunInstances.
UNVERIFIED = (
    "PendingVerification",
    (
        "Your request for accessing resources in this region is being validated, and you will not be able to launch "
        "additional resources in this region until the validation is complete."
    ),
)
#: EC2 puts it beside the true error of a spot fleet (karpenter#1556 and #5666).
UNFULFILLABLE = (
    "UnfulfillableCapacity",
    "Unable to fulfill capacity due to your request configuration. Please adjust your request and try again.",
)


def why_no_machine(
    quotas: Iterable[Quota],
    offer: Offer,
    live: Collection[Offer],
    types: Callable[[str], InstanceType | None],
    others: int,
) -> tuple[str, str] | None:
    """Return code and message if a quota has no room for one more machine beside `live` and `others`, else None."""

    def vcpus(name: str) -> int:
        kind = types(name)
        return kind.vcpus if kind else 0

    for quota in quotas:
        if quota.where.fits(offer):
            used = sum(vcpus(one.instance_type) for one in live if quota.where.fits(one))
            if used + (1 + others) * vcpus(offer.instance_type) > quota.vcpus:
                on_demand = "VcpuLimitExceeded", _ON_DEMAND.format(quota.vcpus)
                return _SPOT if offer.market is Market.SPOT else on_demand
    return None


#: The value of a quota for which there is no rule: in this account, it limits nothing.
UNLIMITED = 100_000


def value(quotas: Iterable[Quota], code: str, types: Iterable[str], zones: Iterable[str]) -> int:
    """Return the value of the quota with this code for GetServiceQuota; raises Refused for an unknown code."""
    offers = [Offer(market, name, zone) for market in OPEN_MARKETS for name in types for zone in zones]
    mine = [offer for offer in offers if (found := quota_of(offer)) and found.code == code]
    if not mine:
        raise Refused("NoSuchResourceException", f"no quota {code} of the service ec2", 400)
    return min((quota.vcpus for quota in quotas if any(map(quota.where.fits, mine))), default=UNLIMITED)
