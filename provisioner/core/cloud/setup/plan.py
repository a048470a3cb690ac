"""Decide what the stack of an installation makes, and what the settings get of it."""

from collections.abc import Collection, Mapping, Sequence

from provisioner.core.cloud.policies import Document
from provisioner.core.cloud.setup.stack import (
    SETUP_TAG,
    Found,
    Network,
    Subnet,
    Wanted,
    Wishes,
    bucket_name,
    control_name,
    logical,
)
from provisioner.core.cloud.setup.template import BUCKET, SUBNETS
from provisioner.core.errors import Conflict, Invalid

#: The keys of a setting: those of its tables, then its own.
Place = tuple[str, ...]


def bucket_of(wishes: Wishes, account: str) -> str:
    """Return the bucket of the settings, or the name of a new one, without a prefix."""
    return wishes.bucket.strip("/").partition("/")[0] or bucket_name(wishes.installation, account, wishes.region)


def wanted(wishes: Wishes, found: Found, policies: Mapping[str, Document]) -> Wanted:
    """Return what the stack makes: all that the account lacks, and all that the stack has made before.

    Raises Invalid for a network that cannot be used, and Conflict for a role of another installation's stack.
    """
    own = frozenset(found.resources.values())
    sso_profile = found.sso_profile if wishes.sso_profile is None else wishes.sso_profile
    control = control_name(wishes.installation)
    for role in [*wishes.roles.values(), *([] if sso_profile else [control])]:
        _check_role(role, found, own)
    bucket = bucket_of(wishes, found.account)
    groups = {wishes.profile: wishes.security_groups, **wishes.profile_groups}
    return Wanted(
        installation=wishes.installation,
        region=wishes.region,
        account=found.account,
        bucket=bucket,
        prefix=_prefix(wishes.bucket),
        make_bucket=not found.bucket_exists or bucket in own,
        network=_network(wishes, found, own),
        profile=wishes.profile,
        profiles={
            profile: role
            for profile, role in sorted(wishes.roles.items())
            if profile not in found.profiles or profile in own
        },
        roles=sorted(
            role for role in set(wishes.roles.values()) if _name(role) not in found.roles or _name(role) in own
        ),
        groups=sorted(profile for profile in wishes.roles if own.issuperset(groups.get(profile, ()))),
        make_spot_role=not found.spot_role or "SpotRole" in found.resources,
        sso_profile=sso_profile,
        policies=policies,
    )


def made(wishes: Wishes, outputs: Mapping[str, str]) -> dict[Place, str | list[str]]:
    """Return the settings that name resources of the stack, by their keys, from the stack's outputs."""
    found: dict[Place, str | list[str]] = {}
    if BUCKET in outputs:
        found["bucket",] = f"{outputs[BUCKET]}/{_prefix(wishes.bucket)}".rstrip("/")
    if SUBNETS in outputs:
        found["subnets",] = outputs[SUBNETS].split(",")
    for profile in wishes.roles:
        if group := outputs.get(logical("Group", profile)):
            place = ("security_groups",) if profile == wishes.profile else ("profile_security_groups", profile)
            found[place] = [group]
    return found


def entries(wishes: Wishes, wanted: Wanted, outputs: Mapping[str, str]) -> dict[Place, str | list[str]]:
    """Return the settings that name what the stack has made or uses, by their keys."""
    used: dict[Place, str | list[str]] = {
        ("bucket",): f"{wanted.bucket}/{wanted.prefix}".rstrip("/"),
        ("subnets",): list(wanted.network.subnets),
        ("instance_profile",): wanted.profile,
    }
    return used | made(wishes, outputs)


def _prefix(bucket: str) -> str:
    prefix = bucket.strip("/").partition("/")[2]
    return f"{prefix}/" if prefix else ""


def _name(role: str) -> str:
    return role.rpartition("/")[2]


def _check_role(role: str, found: Found, own: Collection[str]) -> None:
    other = found.roles.get(_name(role), {}).get(SETUP_TAG)
    if other is not None and _name(role) not in own:
        raise Conflict(
            f"the role {_name(role)} belongs to the stack of the installation {other!r}: write another name as"
            " `instance_profile` (or below [profiles]), or another `installation`, in the settings"
        )


def _network(wishes: Wishes, found: Found, own: Collection[str]) -> Network:
    if not wishes.vpc and set(wishes.subnets) <= set(own):
        return Network(zones=sorted(found.zones))
    subnets = _chosen(wishes, found)
    vpcs = sorted({one.vpc for one in subnets})
    if len(vpcs) != 1:
        raise Invalid(f"subnets: these are in the VPCs {', '.join(vpcs)}; expected those of one VPC")
    if wishes.vpc not in ("", vpcs[0]):
        raise Invalid(
            f"--vpc {wishes.vpc}: `subnets` of the settings are in {vpcs[0]}; remove that line to use another VPC"
        )
    tables = {_table_of(one, found) for one in subnets}
    covered = {table.id for table in found.route_tables if table.s3}
    return Network(
        vpc=vpcs[0],
        subnets=[one.id for one in subnets],
        route_tables=sorted(table for table in tables if table and table not in covered),
    )


def _chosen(wishes: Wishes, found: Found) -> Sequence[Subnet]:
    """Return the subnets of the settings, or of the VPC the best one of each zone; raises Invalid."""
    known = {one.id: one for one in found.subnets}
    if wishes.subnets:
        if missing := [id for id in wishes.subnets if id not in known]:
            raise Invalid(
                f"subnets: {', '.join(missing)} not found in {wishes.region}: correct the line in the settings, or"
                " remove it to get a new network"
            )
        return [known[id] for id in wishes.subnets]
    outward = {table.id for table in found.route_tables if table.outward}
    usable = [one for one in found.subnets if _table_of(one, found) in outward]
    if not usable:
        raise Invalid(
            f"--vpc {wishes.vpc}: no subnet has a route to the internet (0.0.0.0/0); machines need one for images,"
            " repositories and AWS's services"
        )
    best = {one.zone: one for one in sorted(usable, key=lambda one: (one.public, one.free, one.id))}
    return [best[zone] for zone in sorted(best)]


def _table_of(subnet: Subnet, found: Found) -> str:
    """Return the id of the route table of a subnet, or "" if the account shows none."""
    own = [table.id for table in found.route_tables if subnet.id in table.subnets]
    return next(iter([*own, *(table.id for table in found.route_tables if table.main)]), "")
