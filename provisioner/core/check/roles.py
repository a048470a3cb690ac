"""Judge the instance profiles, their roles, and the rights to launch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from provisioner.core.check.lines import Group, Line, Unseen, named, ok, unseen, warning, wrong


@dataclass(frozen=True)
class Role:
    """A role of machines, as the account has it."""

    #: The role's name, with its path.
    name: str
    #: The services, accounts and others that may assume the role, of all statements that allow it.
    trusted: Sequence[str] | Unseen
    #: The rights of the machine policy that the role lacks, each as `action on ARN`.
    missing: Sequence[str] | Unseen


@dataclass(frozen=True)
class Profile:
    """An instance profile; its role is None if it has none."""

    role: Role | None


def profile(name: str, found: Profile | Unseen | None, wanted: str, service: str) -> Iterator[Line]:
    """Yield the lines for an instance profile; None if the account lacks it.

    `wanted` is the role in the settings, and `service` the name of EC2 as a principal.
    """
    if isinstance(found, Unseen):
        yield unseen(Group.ROLES, found)
    elif found is None:
        fix = "`provision setup` makes it, or correct `instance_profile` or `profiles` in the settings"
        yield wrong(Group.ROLES, f"the instance profile {name} does not exist", fix)
    elif found.role is None:
        role = wanted.rpartition("/")[2]
        fix = f"aws iam add-role-to-instance-profile --instance-profile-name {name} --role-name {role}"
        yield wrong(Group.ROLES, f"the instance profile {name} has no role", fix)
    elif found.role.name != wanted.lstrip("/"):
        text = f"the instance profile {name} has the role {found.role.name}, but the policies are made for {wanted}"
        yield wrong(Group.ROLES, text, f'write `"{name}" = "{found.role.name}"` below [profile_roles] in the settings')
    else:
        yield ok(Group.ROLES, f"the instance profile {name} has the role {found.role.name}")
        yield from _role(found.role, service)


def _role(role: Role, service: str) -> Iterator[Line]:
    name = role.name.rpartition("/")[2]
    others = () if isinstance(role.trusted, Unseen) else [who for who in role.trusted if who != service]
    to_trust = f"aws iam update-assume-role-policy --role-name {name} --policy-document file://trust.json"
    if isinstance(role.trusted, Unseen):
        yield unseen(Group.ROLES, role.trusted)
    elif service not in role.trusted:
        text = f"{service} may not assume the role {name}, so its machines would have no rights"
        yield wrong(Group.ROLES, text, f"`provision iam trust > trust.json`, then {to_trust}")
    elif others:
        text = f"others than machines may assume the role {name}: {named(others)}"
        yield warning(Group.ROLES, text, f"`provision iam trust > trust.json`, then {to_trust}")
    if isinstance(role.missing, Unseen):
        yield unseen(Group.ROLES, role.missing)
    elif role.missing:
        text = f"machines with the role {name} lack {len(role.missing)} rights: {named(role.missing, 2)}"
        put = (
            f"aws iam put-role-policy --role-name {name} --policy-name provision --policy-document file://machine.json"
        )
        yield wrong(Group.ROLES, text, f"`provision iam machine > machine.json`, then {put}")
    else:
        yield ok(Group.ROLES, f"the role {name} has the rights of machines")


def launching(tried: Mapping[str, str | Unseen]) -> Iterator[Line]:
    """Yield the lines for the calls of a launch; `tried` has, by call, why it is denied, or "" if it is allowed."""
    allowed = [call for call, refused in tried.items() if refused == ""]
    for call, refused in tried.items():
        if isinstance(refused, Unseen):
            yield unseen(Group.ROLES, refused)
        elif refused:
            text = f"{call} is denied (tried with DryRun): {refused}"
            yield wrong(Group.ROLES, text, "give the control plane's role the policy of `provision iam control`")
    if allowed:
        yield ok(Group.ROLES, f"this login may make {', '.join(allowed)} (tried with DryRun)")


def trusted(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the principals that a trust policy allows to assume the role, sorted."""
    found = set[str]()
    statements = document.get("Statement", [])
    for statement in [statements] if isinstance(statements, Mapping) else statements:
        if statement.get("Effect") == "Allow":
            principal = statement.get("Principal", {})
            for names in principal.values() if isinstance(principal, Mapping) else [principal]:
                found |= {names} if isinstance(names, str) else set(names)
    return tuple(sorted(found))


def asked(policy: Mapping[str, Any], userid: str) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the actions and resources of each statement of the machine policy, for the machine with this `aws:userid`.

    A wildcard at the end of a resource stands for a key's rest.
    """
    for statement in policy["Statement"]:
        actions, resources = statement["Action"], statement["Resource"]
        yield (
            [actions] if isinstance(actions, str) else list(actions),
            [
                arn.replace("${aws:userid}", userid).removesuffix("*") + ("x" if arn.endswith("*") else "")
                for arn in ([resources] if isinstance(resources, str) else resources)
            ],
        )
