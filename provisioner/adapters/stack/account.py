"""Read what an account has of that which an installation needs."""

from collections.abc import Mapping, Sequence
from typing import Any

from provisioner.adapters.stack.calls import SetupCalls
from provisioner.core.cloud.setup.plan import bucket_of
from provisioner.core.cloud.setup.stack import LOGIN_TAG, SPOT_ROLE, Found, RouteTable, Subnet, Wishes, control_name
from provisioner.core.errors import CloudError, Misconfigured

#: Codes of IAM, S3 and EC2 for a thing that does not exist; S3's HeadBucket answers without a body (S3 API).
_MISSING = frozenset({"404", "NoSuchBucket", "NoSuchEntity", "InvalidVpcID.NotFound", "InvalidSubnetID.NotFound"})


def look(
    calls: SetupCalls, wishes: Wishes, resources: Mapping[str, str], stack_tags: Mapping[str, str], endpoint: str
) -> Found:
    """Return what the account has. Raises CloudError.

    `resources` and `endpoint` are the ids of the resources of the installation's stack, and of its S3 endpoint.
    """
    account = str(calls.call("sts", "get_caller_identity")["Account"])
    subnets = _subnets(calls, wishes)
    profiles = {name: role for name in wishes.roles if (role := _profile_role(calls, name)) is not None}
    names = {role.rpartition("/")[2] for role in wishes.roles.values()} | {control_name(wishes.installation)}
    return Found(
        account=account,
        zones=_zones(calls),
        bucket_exists=_bucket_exists(calls, bucket_of(wishes, account), account, wishes.region),
        subnets=subnets,
        route_tables=_route_tables(calls, sorted({one.vpc for one in subnets}), endpoint),
        profiles=profiles,
        roles={name: tags for name in names if (tags := _role_tags(calls, name)) is not None},
        spot_role=_role_tags(calls, SPOT_ROLE) is not None,
        resources=resources,
        sso_profile=stack_tags.get(LOGIN_TAG, ""),
    )


def _if_there(calls: SetupCalls, service: str, operation: str, **parameters: Any) -> Any:
    """Return the answer, or None if the named thing does not exist."""
    try:
        return calls.call(service, operation, **parameters)
    except CloudError as error:
        if error.code in _MISSING:
            return None
        raise


def _zones(calls: SetupCalls) -> Sequence[str]:
    """Return the zones of the region, without local and wavelength zones (EC2 API, DescribeAvailabilityZones)."""
    wanted = [
        {"Name": "zone-type", "Values": ["availability-zone"]},
        {"Name": "state", "Values": ["available"]},
        {"Name": "opt-in-status", "Values": ["opt-in-not-required"]},
    ]
    answer = calls.call("ec2", "describe_availability_zones", Filters=wanted)
    return sorted(one["ZoneName"] for one in answer["AvailabilityZones"])


def _bucket_exists(calls: SetupCalls, bucket: str, account: str, region: str) -> bool:
    """Return whether the account has the bucket; raises Misconfigured if another account or region has it."""
    try:
        answer = _if_there(calls, "s3", "head_bucket", Bucket=bucket, ExpectedBucketOwner=account)
    except CloudError as error:
        # HeadBucket answers without a body, so the code is the status.
        if error.code in ("403", "AccessDenied"):
            raise Misconfigured(
                f"the bucket {bucket} belongs to another account, or this login may not read it (s3:ListBucket):"
                " write another `bucket` in the settings",
                error.code,
            ) from error
        raise
    found = (answer or {}).get("BucketRegion", region)
    if found != region:
        raise Misconfigured(
            f"the bucket {bucket} is in {found}, and the installation in {region}: write another `bucket` in the"
            " settings; transfers between regions cost money"
        )
    return answer is not None


def _subnets(calls: SetupCalls, wishes: Wishes) -> Sequence[Subnet]:
    if not wishes.subnets and not wishes.vpc:
        return ()
    wanted: dict[str, Any] = {"SubnetIds": list(wishes.subnets)}
    if not wishes.subnets:
        wanted = {"Filters": [{"Name": "vpc-id", "Values": [_vpc(calls, wishes.vpc)]}]}
    try:
        found = list(calls.pages("ec2", "describe_subnets", "Subnets", **wanted))
    except CloudError as error:
        if error.code not in _MISSING:
            raise
        found = []
    return [
        Subnet(
            id=one["SubnetId"],
            vpc=one["VpcId"],
            zone=one["AvailabilityZone"],
            free=one["AvailableIpAddressCount"],
            public=one["MapPublicIpOnLaunch"],
        )
        for one in found
    ]


def _vpc(calls: SetupCalls, name: str) -> str:
    """Return the id of the VPC; `default` is the region's default one. Raises Misconfigured if there is none."""
    wanted: dict[str, Any] = {"VpcIds": [name]}
    if name == "default":
        wanted = {"Filters": [{"Name": "is-default", "Values": ["true"]}]}
    answer = _if_there(calls, "ec2", "describe_vpcs", **wanted)
    if not answer or not answer["Vpcs"]:
        raise Misconfigured(f"--vpc {name}: this region has no such VPC; leave it out to get a new network")
    return str(answer["Vpcs"][0]["VpcId"])


def _route_tables(calls: SetupCalls, vpcs: Sequence[str], own_endpoint: str) -> Sequence[RouteTable]:
    if not vpcs:
        return ()
    within = [{"Name": "vpc-id", "Values": list(vpcs)}]
    endpoints = calls.pages("ec2", "describe_vpc_endpoints", "VpcEndpoints", Filters=within)
    covered = {
        table
        for one in endpoints
        if one["ServiceName"].endswith(".s3")
        and one["VpcEndpointId"] != own_endpoint
        # A deleted one is listed for a while.
        and one["State"].lower() not in ("deleting", "deleted")
        for table in one.get("RouteTableIds", ())
    }
    return [
        RouteTable(
            id=one["RouteTableId"],
            main=any(link.get("Main") for link in one["Associations"]),
            subnets=[link["SubnetId"] for link in one["Associations"] if "SubnetId" in link],
            outward=any(
                route.get("DestinationCidrBlock") == "0.0.0.0/0" and route.get("State") != "blackhole"
                for route in one["Routes"]
            ),
            s3=one["RouteTableId"] in covered,
        )
        for one in calls.pages("ec2", "describe_route_tables", "RouteTables", Filters=within)
    ]


def _profile_role(calls: SetupCalls, name: str) -> str | None:
    """Return the role of an instance profile, "" if it has none, and None if the profile does not exist."""
    answer = _if_there(calls, "iam", "get_instance_profile", InstanceProfileName=name)
    if answer is None:
        return None
    return next((str(one["RoleName"]) for one in answer["InstanceProfile"]["Roles"]), "")


def _role_tags(calls: SetupCalls, name: str) -> Mapping[str, str] | None:
    answer = _if_there(calls, "iam", "get_role", RoleName=name)
    return None if answer is None else {tag["Key"]: tag["Value"] for tag in answer["Role"].get("Tags", [])}
