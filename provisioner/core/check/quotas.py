"""Judge the account's quotas of running vCPUs against what the jobs need, and the role that spot launches need."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from provisioner.core.check.lines import Group, Line, Unseen, named, ok, unseen, warning, wrong
from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.cloud.quotas import Quota, quota_of
from provisioner.core.recipe.recipe import Spec


@dataclass(frozen=True)
class Need:
    """What a job launches at once: machines of one of these types, in one of these markets."""

    job: str
    types: Sequence[str]
    markets: Sequence[Market]
    machines: int = 1


def need(job: str, spec: Spec) -> Need:
    return Need(job, spec.instance_types, spec.markets, spec.together)


#: Quotas that are read if there are no jobs yet: of the cheapest GPU types.
_USUAL = (Need("", ("g4dn.xlarge",), (Market.ON_DEMAND, Market.SPOT)),)


def concerned(needs: Iterable[Need]) -> dict[str, Quota]:
    """Return the quotas that the needs use up, by their codes."""
    offers = [offer for need in list(needs) or _USUAL for offer in _offers(need)]
    return {quota.code: quota for offer in offers if (quota := quota_of(offer))}


def quotas(needs: Sequence[Need], values: Mapping[str, int | Unseen], vcpus: Mapping[str, int]) -> Iterator[Line]:
    """Yield the lines for the quotas; `values` has them by code, and `vcpus` has those of each known type."""
    for code, quota in sorted(concerned(needs).items()):
        value = values.get(code)
        if isinstance(value, Unseen):
            yield unseen(Group.QUOTAS, value)
        elif value == 0:
            text = f"{quota.name} ({code}) is 0 vCPUs, as in a new account: EC2 launches no such machine"
            yield warning(Group.QUOTAS, text, f"ask for more at {quota.page}")
        elif value is not None:
            yield ok(Group.QUOTAS, f"{quota.name} ({code}): {value} vCPUs")
    for need in needs:
        known = {code: value for code, value in values.items() if isinstance(value, int)}
        if problem := too_small(need, known, vcpus):
            text, page = problem
            yield wrong(Group.QUOTAS, f"job {need.job}: {text}", f"ask for more at {page}, or choose smaller types")


def too_small(need: Need, values: Mapping[str, int], vcpus: Mapping[str, int]) -> tuple[str, str] | None:
    """Return why the quotas can never be enough for any offer of the need, and the page to ask for more; else None.

    A quota or type that is not known may be enough.
    """
    reasons: dict[str, str] = {}
    for offer in _offers(need):
        quota = quota_of(offer)
        value, each = values.get(quota.code) if quota else None, vcpus.get(offer.instance_type)
        if quota is None or value is None or each is None or need.machines * each <= value:
            return None
        machines = f"{need.machines} machines of {offer.instance_type} need" if need.machines > 1 else ""
        needed = f"{machines or f'{offer.instance_type} needs'} {need.machines * each} vCPUs"
        reasons[f"{needed}, but the quota {quota.name} ({quota.code}) is {value}"] = quota.page
    if not reasons:
        return None
    return named(reasons, 2), next(iter(reasons.values()))


def spot(exists: bool | Unseen, needs: Iterable[Need]) -> Iterator[Line]:
    """Yield the line for the role AWSServiceRoleForEC2Spot, without which every spot launch fails."""
    fix = "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com"
    jobs = [need.job for need in needs if Market.SPOT in need.markets]
    if isinstance(exists, Unseen):
        yield unseen(Group.SPOT, exists)
    elif exists:
        yield ok(Group.SPOT, "the role AWSServiceRoleForEC2Spot exists")
    elif jobs:
        text = f"the role AWSServiceRoleForEC2Spot does not exist, so spot launches fail: {named(jobs)}"
        yield wrong(Group.SPOT, text, fix)
    else:
        yield warning(Group.SPOT, "the role AWSServiceRoleForEC2Spot does not exist, so spot launches fail", fix)


def _offers(need: Need) -> list[Offer]:
    return [Offer(market, name, "") for market in need.markets for name in need.types]
