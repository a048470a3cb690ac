"""Create, update and delete the resources of a stack by calls of their services, for each type of resource.

The calls are those of the type's `handlers` in the CloudFormation registry, and so are the properties without which
CloudFormation makes a new resource ("Update requires: Replacement" in the Template Reference).
"""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from provisioner.rehearsal.aws.stacks.buckets import (
    Properties,
    bucket_exists,
    configure_bucket,
    create_bucket,
    delete_bucket,
)
from provisioner.rehearsal.aws.stacks.services import Services


@dataclass(frozen=True)
class Made:
    #: What `Ref` returns.
    id: str
    #: What `Fn::GetAtt` returns, by attribute.
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """A type of resource. A property that is not named here is refused."""

    properties: frozenset[str]
    create: Callable[[Services, Properties], Made]
    #: Gets the resource's id and properties.
    delete: Callable[[Services, str, Properties], object]
    exists: Callable[[Services, str, Properties], object]
    #: Gets the id, the new and the old properties. None: every change makes a new resource.
    update: Callable[[Services, str, Properties, Properties], object] | None = None
    #: Properties whose change makes a new resource.
    fixed: frozenset[str] = frozenset()
    #: Returns the properties that differ from those in the account, of those that are compared.
    differs: Callable[[Services, str, Properties], list[str]] = lambda _api, _id, _properties: []


def _tags(kind: str, properties: Properties) -> dict[str, Any]:
    tags = properties.get("Tags")
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": tags}]} if tags else {}


def _vpc(api: Services, properties: Properties) -> Made:
    id = api("ec2", "create_vpc", CidrBlock=properties["CidrBlock"], **_tags("vpc", properties))["Vpc"]["VpcId"]
    for name in ("EnableDnsSupport", "EnableDnsHostnames"):
        api("ec2", "modify_vpc_attribute", VpcId=id, **{name: {"Value": properties.get(name, False)}})
    return Made(id)


def _gateway(api: Services, properties: Properties) -> Made:
    answer = api("ec2", "create_internet_gateway", **_tags("internet-gateway", properties))
    return Made(answer["InternetGateway"]["InternetGatewayId"])


def _attachment(api: Services, properties: Properties) -> Made:
    api("ec2", "attach_internet_gateway", **properties)
    return Made(f"IGW|{properties['VpcId']}")


def _attached(api: Services, _: str, properties: Properties) -> bool:
    [one] = api("ec2", "describe_internet_gateways", InternetGatewayIds=[properties["InternetGatewayId"]])[
        "InternetGateways"
    ]
    return any(link["VpcId"] == properties["VpcId"] for link in one["Attachments"])


def _route_table(api: Services, properties: Properties) -> Made:
    answer = api("ec2", "create_route_table", VpcId=properties["VpcId"], **_tags("route-table", properties))
    return Made(answer["RouteTable"]["RouteTableId"])


def _table(api: Services, id: str) -> Any:
    return api("ec2", "describe_route_tables", RouteTableIds=[id])["RouteTables"][0]


def _route(api: Services, properties: Properties) -> Made:
    api("ec2", "create_route", **properties)
    return Made(f"{properties['RouteTableId']}|{properties['DestinationCidrBlock']}")


def _delete_route(api: Services, _: str, properties: Properties) -> None:
    names = ("RouteTableId", "DestinationCidrBlock")
    api("ec2", "delete_route", **{name: properties[name] for name in names})


def _routed(api: Services, _: str, properties: Properties) -> bool:
    routes = _table(api, properties["RouteTableId"])["Routes"]
    return any(one.get("DestinationCidrBlock") == properties["DestinationCidrBlock"] for one in routes)


def _subnet(api: Services, properties: Properties) -> Made:
    given = {name: properties[name] for name in ("VpcId", "CidrBlock", "AvailabilityZone")}
    id = api("ec2", "create_subnet", **given, **_tags("subnet", properties))["Subnet"]["SubnetId"]
    public = properties.get("MapPublicIpOnLaunch", False)
    api("ec2", "modify_subnet_attribute", SubnetId=id, MapPublicIpOnLaunch={"Value": public})
    return Made(id)


def _association(api: Services, properties: Properties) -> Made:
    return Made(api("ec2", "associate_route_table", **properties)["AssociationId"])


def _associated(api: Services, id: str, properties: Properties) -> bool:
    links = _table(api, properties["RouteTableId"])["Associations"]
    return any(one["RouteTableAssociationId"] == id for one in links)


def _endpoint(api: Services, properties: Properties) -> Made:
    return Made(api("ec2", "create_vpc_endpoint", **properties)["VpcEndpoint"]["VpcEndpointId"])


def _update_endpoint(api: Services, id: str, new: Properties, old: Properties) -> None:
    added, removed = set(new["RouteTableIds"]), set(old["RouteTableIds"])
    api(
        "ec2",
        "modify_vpc_endpoint",
        VpcEndpointId=id,
        AddRouteTableIds=sorted(added - removed),
        RemoveRouteTableIds=sorted(removed - added),
    )


def _endpoint_exists(api: Services, id: str, _: Properties) -> bool:
    # A deleted endpoint is listed for a while.
    shown = api("ec2", "describe_vpc_endpoints", VpcEndpointIds=[id])["VpcEndpoints"]
    return any(one["State"].lower() != "deleted" for one in shown)


def _permission(rule: Properties) -> list[dict[str, Any]]:
    other = rule.get("SourceSecurityGroupId") or rule.get("DestinationSecurityGroupId")
    to = {"UserIdGroupPairs": [{"GroupId": other}]} if other else {"IpRanges": [{"CidrIp": rule["CidrIp"]}]}
    return [{"IpProtocol": rule["IpProtocol"], **to}]


def _group(api: Services, properties: Properties) -> Made:
    # Without GroupName, CloudFormation makes up a name that no other group has.
    name = f"stack-{uuid.uuid4()}"
    given = {"Description": properties["GroupDescription"], "VpcId": properties["VpcId"]}
    id = api("ec2", "create_security_group", GroupName=name, **given, **_tags("security-group", properties))["GroupId"]
    if rules := properties.get("SecurityGroupEgress"):
        everything = _permission({"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"})
        api("ec2", "revoke_security_group_egress", GroupId=id, IpPermissions=everything)
        for rule in rules:
            api("ec2", "authorize_security_group_egress", GroupId=id, IpPermissions=_permission(rule))
    return Made(id, {"GroupId": id})


def _rule(direction: str) -> Kind:
    def create(api: Services, properties: Properties) -> Made:
        operation = f"authorize_security_group_{direction}"
        answer = api("ec2", operation, GroupId=properties["GroupId"], IpPermissions=_permission(properties))
        return Made(answer["SecurityGroupRules"][0]["SecurityGroupRuleId"])

    def delete(api: Services, _: str, properties: Properties) -> None:
        operation = f"revoke_security_group_{direction}"
        api("ec2", operation, GroupId=properties["GroupId"], IpPermissions=_permission(properties))

    def exists(api: Services, _: str, properties: Properties) -> bool:
        [group] = api("ec2", "describe_security_groups", GroupIds=[properties["GroupId"]])["SecurityGroups"]
        rules = group["IpPermissions" if direction == "ingress" else "IpPermissionsEgress"]
        [wanted] = _permission(properties)
        return any(
            pair["GroupId"] == one["GroupId"]
            for rule in rules
            for pair in rule["UserIdGroupPairs"]
            for one in wanted["UserIdGroupPairs"]
        )

    other = "SourceSecurityGroupId" if direction == "ingress" else "DestinationSecurityGroupId"
    return Kind(frozenset({"GroupId", "IpProtocol", other}), create, delete, exists)


def _role(api: Services, properties: Properties) -> Made:
    name = properties["RoleName"]
    given = {key: properties[key] for key in ("Path", "Description", "Tags") if key in properties}
    trust = json.dumps(properties["AssumeRolePolicyDocument"])
    arn = api("iam", "create_role", RoleName=name, AssumeRolePolicyDocument=trust, **given)["Role"]["Arn"]
    _give(api, name, properties)
    return Made(name, {"Arn": arn})


def _give(api: Services, name: str, properties: Properties) -> None:
    for one in properties.get("Policies", []):
        document = json.dumps(one["PolicyDocument"])
        api("iam", "put_role_policy", RoleName=name, PolicyName=one["PolicyName"], PolicyDocument=document)
    for arn in properties.get("ManagedPolicyArns", []):
        api("iam", "attach_role_policy", RoleName=name, PolicyArn=arn)


def _take(api: Services, name: str, properties: Properties) -> None:
    """Take from the role what the stack gave it and it still has, and nothing that others gave it."""
    own = set(api("iam", "list_role_policies", RoleName=name)["PolicyNames"])
    attached = api("iam", "list_attached_role_policies", RoleName=name)["AttachedPolicies"]
    for policy in own.intersection(one["PolicyName"] for one in properties.get("Policies", [])):
        api("iam", "delete_role_policy", RoleName=name, PolicyName=policy)
    for arn in {one["PolicyArn"] for one in attached}.intersection(properties.get("ManagedPolicyArns", [])):
        api("iam", "detach_role_policy", RoleName=name, PolicyArn=arn)


def _update_role(api: Services, name: str, new: Properties, old: Properties) -> None:
    trust = json.dumps(new["AssumeRolePolicyDocument"])
    api("iam", "update_assume_role_policy", RoleName=name, PolicyDocument=trust)
    _take(api, name, old)
    _give(api, name, new)


def _delete_role(api: Services, name: str, properties: Properties) -> None:
    _take(api, name, properties)
    api("iam", "delete_role", RoleName=name)


def _role_differs(api: Services, name: str, properties: Properties) -> list[str]:
    has = set(api("iam", "list_role_policies", RoleName=name)["PolicyNames"])
    found = []
    for number, one in enumerate(properties.get("Policies", [])):
        asked = {"RoleName": name, "PolicyName": one["PolicyName"]}
        if one["PolicyName"] not in has or (
            api("iam", "get_role_policy", **asked)["PolicyDocument"] != one["PolicyDocument"]
        ):
            found.append(f"/Policies/{number}/PolicyDocument")
    return found


def _profile(api: Services, properties: Properties) -> Made:
    name = properties["InstanceProfileName"]
    arn = api("iam", "create_instance_profile", InstanceProfileName=name)["InstanceProfile"]["Arn"]
    for role in properties["Roles"]:
        api("iam", "add_role_to_instance_profile", InstanceProfileName=name, RoleName=role)
    return Made(name, {"Arn": arn})


def _delete_profile(api: Services, name: str, properties: Properties) -> None:
    for role in properties["Roles"]:
        api("iam", "remove_role_from_instance_profile", InstanceProfileName=name, RoleName=role)
    api("iam", "delete_instance_profile", InstanceProfileName=name)


def _policy(api: Services, properties: Properties) -> Made:
    document = json.dumps(properties["PolicyDocument"])
    given = {"PolicyName": properties["ManagedPolicyName"], "Description": properties.get("Description", "")}
    return Made(api("iam", "create_policy", PolicyDocument=document, **given)["Policy"]["Arn"])


def _update_policy(api: Services, arn: str, new: Properties, _: Properties) -> None:
    document = json.dumps(new["PolicyDocument"])
    api("iam", "create_policy_version", PolicyArn=arn, PolicyDocument=document, SetAsDefault=True)
    for one in api("iam", "list_policy_versions", PolicyArn=arn)["Versions"]:
        if not one["IsDefaultVersion"]:
            api("iam", "delete_policy_version", PolicyArn=arn, VersionId=one["VersionId"])


def _service_role(api: Services, properties: Properties) -> Made:
    answer = api("iam", "create_service_linked_role", AWSServiceName=properties["AWSServiceName"])
    return Made(answer["Role"]["RoleName"])


KINDS: Mapping[str, Kind] = {
    "AWS::EC2::VPC": Kind(
        frozenset({"CidrBlock", "EnableDnsHostnames", "EnableDnsSupport", "Tags"}),
        _vpc,
        lambda api, id, _: api("ec2", "delete_vpc", VpcId=id),
        lambda api, id, _: api("ec2", "describe_vpcs", VpcIds=[id]),
    ),
    "AWS::EC2::InternetGateway": Kind(
        frozenset({"Tags"}),
        _gateway,
        lambda api, id, _: api("ec2", "delete_internet_gateway", InternetGatewayId=id),
        lambda api, id, _: api("ec2", "describe_internet_gateways", InternetGatewayIds=[id]),
    ),
    "AWS::EC2::VPCGatewayAttachment": Kind(
        frozenset({"InternetGatewayId", "VpcId"}),
        _attachment,
        lambda api, _, properties: api("ec2", "detach_internet_gateway", **properties),
        _attached,
    ),
    "AWS::EC2::RouteTable": Kind(
        frozenset({"Tags", "VpcId"}),
        _route_table,
        lambda api, id, _: api("ec2", "delete_route_table", RouteTableId=id),
        lambda api, id, _: _table(api, id),
    ),
    "AWS::EC2::Route": Kind(
        frozenset({"DestinationCidrBlock", "GatewayId", "RouteTableId"}), _route, _delete_route, _routed
    ),
    "AWS::EC2::Subnet": Kind(
        frozenset({"AvailabilityZone", "CidrBlock", "MapPublicIpOnLaunch", "Tags", "VpcId"}),
        _subnet,
        lambda api, id, _: api("ec2", "delete_subnet", SubnetId=id),
        lambda api, id, _: api("ec2", "describe_subnets", SubnetIds=[id]),
    ),
    "AWS::EC2::SubnetRouteTableAssociation": Kind(
        frozenset({"RouteTableId", "SubnetId"}),
        _association,
        lambda api, id, _: api("ec2", "disassociate_route_table", AssociationId=id),
        _associated,
    ),
    "AWS::EC2::VPCEndpoint": Kind(
        frozenset({"RouteTableIds", "ServiceName", "VpcEndpointType", "VpcId"}),
        _endpoint,
        lambda api, id, _: api("ec2", "delete_vpc_endpoints", VpcEndpointIds=[id]),
        _endpoint_exists,
        update=_update_endpoint,
        fixed=frozenset({"ServiceName", "VpcEndpointType", "VpcId"}),
    ),
    "AWS::EC2::SecurityGroup": Kind(
        frozenset({"GroupDescription", "SecurityGroupEgress", "Tags", "VpcId"}),
        _group,
        lambda api, id, _: api("ec2", "delete_security_group", GroupId=id),
        lambda api, id, _: api("ec2", "describe_security_groups", GroupIds=[id]),
    ),
    "AWS::EC2::SecurityGroupIngress": _rule("ingress"),
    "AWS::EC2::SecurityGroupEgress": _rule("egress"),
    "AWS::IAM::Role": Kind(
        frozenset(
            {"AssumeRolePolicyDocument", "Description", "ManagedPolicyArns", "Path", "Policies", "RoleName", "Tags"}
        ),
        _role,
        _delete_role,
        lambda api, id, _: api("iam", "get_role", RoleName=id),
        update=_update_role,
        fixed=frozenset({"Path", "RoleName"}),
        differs=_role_differs,
    ),
    "AWS::IAM::InstanceProfile": Kind(
        frozenset({"InstanceProfileName", "Roles"}),
        _profile,
        _delete_profile,
        lambda api, id, _: api("iam", "get_instance_profile", InstanceProfileName=id),
    ),
    "AWS::IAM::ManagedPolicy": Kind(
        frozenset({"Description", "ManagedPolicyName", "PolicyDocument"}),
        _policy,
        lambda api, id, _: api("iam", "delete_policy", PolicyArn=id),
        lambda api, id, _: api("iam", "get_policy", PolicyArn=id),
        update=_update_policy,
        fixed=frozenset({"Description", "ManagedPolicyName"}),
    ),
    "AWS::IAM::ServiceLinkedRole": Kind(
        frozenset({"AWSServiceName"}),
        _service_role,
        lambda api, id, _: api("iam", "delete_service_linked_role", RoleName=id),
        lambda api, id, _: api("iam", "get_role", RoleName=id),
    ),
    "AWS::S3::Bucket": Kind(
        frozenset(
            {
                *("BucketEncryption", "BucketName", "LifecycleConfiguration", "OwnershipControls"),
                *("PublicAccessBlockConfiguration", "Tags"),
            }
        ),
        lambda api, properties: Made(create_bucket(api, properties)),
        delete_bucket,
        bucket_exists,
        update=configure_bucket,
        fixed=frozenset({"BucketName"}),
    ),
}
