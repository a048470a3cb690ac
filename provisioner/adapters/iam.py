"""Read what an account has, for a login that may read IAM and all tags; the control plane itself may not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from provisioner.adapters import aws
from provisioner.core.cloud.policies import CONTROL, MACHINE, TRUST, Document, difference
from provisioner.core.cloud.tags import INSTALLATION_TAG
from provisioner.core.errors import CloudError, Misconfigured

#: An ARN of STS for a session of a role: what GetCallerIdentity returns for a role.
_SESSION = ":assumed-role/"


@dataclass(frozen=True)
class Difference:
    """The lines by which a role's policies differ from those of the settings, as of `core.cloud.policies`."""

    #: The name of the policy: control, machine or trust.
    policy: str
    role: str
    lines: tuple[str, ...]


class Iam:
    def __init__(self, session: aws.Session, *, calls: aws.Calls | None = None) -> None:
        self._session = session
        self._calls = calls or aws.Calls(_translate)

    def differences(
        self, policies: Mapping[str, Document], roles: Mapping[str, str], control: str = ""
    ) -> Iterator[Difference]:
        """Compare the policies with those of the account's roles; raises CloudError.

        `roles` has the role of each instance profile. `control` is the control plane's role. If it is empty, the role
        of this process's own login is used.
        """
        if CONTROL in policies:
            control = control or self._own_role()
            found = self._documents(control)
            yield Difference(CONTROL, control, tuple(difference(policies[CONTROL], found, whole=True)))
        for profile, role in sorted(roles.items()) if {MACHINE, TRUST} & policies.keys() else ():
            self._check(profile, role)
            name = role.rpartition("/")[2]
            if MACHINE in policies:
                found = self._documents(name)
                yield Difference(MACHINE, name, tuple(difference(policies[MACHINE], found, whole=False)))
            if TRUST in policies:
                trust = self._read("get_role", RoleName=name)["Role"]["AssumeRolePolicyDocument"]
                yield Difference(TRUST, name, tuple(difference(policies[TRUST], [_unnamed(trust)], whole=True)))

    def of_others(self, installation: str) -> Mapping[str, Mapping[str, int]]:
        """Return the number of EC2 resources with the tag of another installation, by its name and their type.

        The policies do not allow to change or delete them.
        """
        wanted = [{"Name": "key", "Values": [INSTALLATION_TAG]}]
        found: dict[str, Counter[str]] = {}
        parameters: dict[str, Any] = {"Filters": wanted}
        while True:
            answer = self._calls.repeat(self._session.client("ec2").describe_tags, **parameters)
            for tag in answer["Tags"]:
                if tag["Value"] != installation:
                    found.setdefault(tag["Value"], Counter())[tag["ResourceType"]] += 1
            if not answer.get("NextToken"):
                return found
            parameters["NextToken"] = answer["NextToken"]

    def _own_role(self) -> str:
        arn = str(self._calls.repeat(self._session.client("sts").get_caller_identity)["Arn"])
        if _SESSION not in arn:
            raise Misconfigured(f"{arn} is no role: name the control plane's role with --role")
        return arn.partition(_SESSION)[2].partition("/")[0]

    def _check(self, profile: str, role: str) -> None:
        """Raise Misconfigured unless the instance profile has this role."""
        answer = self._read("get_instance_profile", InstanceProfileName=profile)["InstanceProfile"]
        found = [one["Arn"].partition(":role/")[2] for one in answer["Roles"]]
        if found != [role.lstrip("/")]:
            text = f"the role {found[0]}, but the settings have {role}" if found else "no role"
            advice = f'write `"{profile}" = "{found[0]}"` below [profile_roles]' if found else "add a role to it"
            raise Misconfigured(f"the instance profile {profile} has {text}: {advice}")

    def _documents(self, role: str) -> Sequence[Document]:
        """Return all policies of the role: its own, and those attached to it."""
        own = [
            self._read("get_role_policy", RoleName=role, PolicyName=name)["PolicyDocument"]
            for name in self._pages("list_role_policies", "PolicyNames", RoleName=role)
        ]
        attached = []
        for one in self._pages("list_attached_role_policies", "AttachedPolicies", RoleName=role):
            arn = one["PolicyArn"]
            version = self._read("get_policy", PolicyArn=arn)["Policy"]["DefaultVersionId"]
            answer = self._read("get_policy_version", PolicyArn=arn, VersionId=version)
            attached.append(answer["PolicyVersion"]["Document"])
        return [*own, *attached]

    def _pages(self, operation: str, key: str, **parameters: Any) -> Iterator[Any]:
        while True:
            answer = self._read(operation, **parameters)
            yield from answer[key]
            if not answer.get("IsTruncated"):
                return
            parameters["Marker"] = answer["Marker"]

    def _read(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        try:
            answer: Mapping[str, Any] = self._calls.repeat(
                getattr(self._session.client("iam"), operation), **parameters
            )
        except CloudError as error:
            if error.code in aws.DENIED:
                raise Misconfigured(
                    f"{operation} is denied: comparing policies needs a login that may read IAM, such as an "
                    "administrator's (AWS_PROFILE)",
                    error.code,
                ) from error
            raise
        return answer


def _unnamed(trust: Document) -> Document:
    """Return the trust policy without Sids, which decide nothing."""
    statements = [trust["Statement"]] if isinstance(trust["Statement"], Mapping) else trust["Statement"]
    return {"Statement": [{key: one[key] for key in one if key != "Sid"} for one in statements]}


def _translate(code: str, message: str) -> CloudError:
    return aws.PASSING.get(code, Misconfigured)(message, code)
