"""Read the instance profiles and their roles, and try the calls of a launch without making them (DryRun)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from provisioner.adapters import aws
from provisioner.adapters.checks.looking import Looker
from provisioner.adapters.checks.simulation import RIGHT, denied
from provisioner.core.check.lines import Unseen
from provisioner.core.check.roles import Profile, Role, asked, trusted
from provisioner.core.cloud.policies import Document
from provisioner.core.cloud.setup.stack import SPOT_ROLE
from provisioner.core.cloud.tags import INSTALLATION_TAG
from provisioner.core.errors import CloudError, NoCapacity, QuotaExceeded

#: EC2's answer to an allowed call with DryRun (EC2 API Reference, "Common query parameters").
ALLOWED = "DryRunOperation"
#: IAM's codes for something that does not exist.
_ABSENT = ("NoSuchEntity", "NoSuchEntityException")


def profile(looker: Looker, name: str, policy: Document) -> tuple[Profile | Unseen | None, str]:
    """Return the instance profile, None if there is none, and the ARN of its role or "".

    `policy` is the policy that the role must have.
    """
    what, right = f"the instance profile {name}", "iam:GetInstanceProfile"
    found = looker.look(what, right, lambda: _profile(looker, name), needed=True)
    if found is None or isinstance(found, Unseen):
        return found, ""
    if not found["Roles"]:
        return Profile(None), ""
    role = found["Roles"][0]
    own = f"{role['Path']}{role['RoleName']}".lstrip("/")
    trust = looker.look(f"the trust policy of {own}", "iam:GetRole", lambda: trusted(role["AssumeRolePolicyDocument"]))
    lacking = looker.look(
        f"what the role {own} may do", RIGHT, lambda: list(_missing(looker, role["Arn"], role["RoleId"], policy))
    )
    return Profile(Role(own, trust, lacking)), str(role["Arn"])


def _profile(looker: Looker, name: str) -> Any:
    try:
        return looker.ask("iam", "get_instance_profile", InstanceProfileName=name)["InstanceProfile"]
    except CloudError as error:
        if error.code in _ABSENT:
            return None
        raise


def _missing(looker: Looker, role: str, role_id: str, policy: Document) -> Iterator[str]:
    userid = f"{role_id}:i-0123456789abcdef0"
    for actions, resources in asked(policy, userid):
        yield from denied(looker, role, actions, resources, userid)


def spot_role(looker: Looker) -> bool | Unseen:
    """Return whether the role exists that EC2 needs for spot launches (EC2 User Guide, "Service-linked role")."""
    name = SPOT_ROLE

    def read() -> bool:
        try:
            looker.ask("iam", "get_role", RoleName=name)
        except CloudError as error:
            if error.code in _ABSENT:
                return False
            raise
        return True

    return looker.look(f"the role {name}", "iam:GetRole", read)


def launches(
    looker: Looker, installation: str, image: str, subnet: str, groups: Sequence[str], profile: str, kind: str
) -> Mapping[str, str | Unseen]:
    """Try each call of a launch; return by call why it is denied, or "" if it is allowed.

    CreateFleet and TerminateInstances are tried only with a template or a machine of the installation, because their
    rights depend on its tags.
    """
    tags = [{"Key": INSTALLATION_TAG, "Value": installation}]

    def tagged(*kinds: str) -> list[dict[str, Any]]:
        return [{"ResourceType": kind, "Tags": tags} for kind in kinds]

    own = {"Filters": [{"Name": f"tag:{INSTALLATION_TAG}", "Values": [installation]}]}
    tried: dict[str, str | Unseen] = {}

    def attempt(operation: str, call: str, **parameters: Any) -> None:
        tried[call] = looker.look(f"the answer to {call}", f"ec2:{call}", lambda: _tried(looker, operation, parameters))

    attempt(
        "run_instances",
        "RunInstances",
        ImageId=image,
        InstanceType=kind,
        SubnetId=subnet,
        MinCount=1,
        MaxCount=1,
        IamInstanceProfile={"Name": profile},
        TagSpecifications=tagged("instance", "network-interface", "volume"),
        **({"SecurityGroupIds": list(groups)} if groups else {}),
    )
    attempt(
        "create_launch_template",
        "CreateLaunchTemplate",
        LaunchTemplateName=f"provision-check-{installation}",
        LaunchTemplateData={"ImageId": image},
        TagSpecifications=tagged("launch-template"),
    )
    if template := _first(looker, "describe_launch_templates", "LaunchTemplates", "LaunchTemplateName", own):
        override = {"InstanceType": kind, "SubnetId": subnet}
        attempt(
            "create_fleet",
            "CreateFleet",
            Type="instant",
            LaunchTemplateConfigs=[
                {
                    "LaunchTemplateSpecification": {"LaunchTemplateName": template, "Version": "1"},
                    "Overrides": [override],
                }
            ],
            TargetCapacitySpecification={"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "on-demand"},
            TagSpecifications=tagged("fleet", "instance", "volume"),
        )
    if machine := _machine(looker, own):
        attempt("terminate_instances", "TerminateInstances", InstanceIds=[machine])
    return tried


def _tried(looker: Looker, operation: str, parameters: Mapping[str, Any]) -> str:
    try:
        looker.ask("ec2", operation, DryRun=True, **parameters)
    except CloudError as error:
        # Assumed: EC2 checks rights before it looks at capacity and quotas.
        if error.code == ALLOWED or isinstance(error, NoCapacity | QuotaExceeded):
            return ""
        if error.code in aws.DENIED:
            return str(error).removeprefix(f"{error.code}: ")
        raise
    return ""


def _first(looker: Looker, operation: str, key: str, name: str, parameters: Mapping[str, Any]) -> str:
    """Return the name of the first of the installation's objects, or "" if there is none or they cannot be read."""
    found = looker.look(key, "", lambda: looker.ask("ec2", operation, **parameters)[key])
    if isinstance(found, Unseen):
        return ""
    wanted = parameters["Filters"][0]["Values"][0]
    tags = [{tag["Key"]: tag["Value"] for tag in one.get("Tags", [])} for one in found]
    return next(
        (str(one[name]) for one, own in zip(found, tags, strict=True) if own.get(INSTALLATION_TAG) == wanted), ""
    )


def _machine(looker: Looker, own: Mapping[str, Any]) -> str:
    found = looker.look("Reservations", "", lambda: looker.ask("ec2", "describe_instances", **own)["Reservations"])
    if isinstance(found, Unseen):
        return ""
    alive = [one for each in found for one in each["Instances"] if one["State"]["Name"] in ("pending", "running")]
    return str(alive[0]["InstanceId"]) if alive else ""
