"""Answer IAM's SimulatePrincipalPolicy from the policies that a role of the account has."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from provisioner.rehearsal.aws import policy
from provisioner.rehearsal.aws.refused import Refused

#: The parameters that are evaluated; others are not implemented.
_KNOWN = {"PolicySourceArn", "ActionNames", "ResourceArns", "ContextEntries"}


def simulated(
    said: Mapping[str, Any], documents: Callable[[str], Sequence[Mapping[str, Any]] | None]
) -> dict[str, Any]:
    """Return the answer; `documents` returns the policies of a role, None for an unknown role.

    With several resources, each action has one result with one part for each resource (IAM API Reference,
    "EvaluationResult"; that a denial of one resource denies the whole is assumed).
    """
    if set(said) - _KNOWN:
        raise Refused("NotImplemented", f"SimulatePrincipalPolicy with {sorted(set(said) - _KNOWN)}", 501)
    role = said["PolicySourceArn"].rpartition("/")[2]
    found = documents(role)
    if found is None:
        raise Refused("NoSuchEntity", f"The role with name {role} cannot be found.", 404)
    statements = [statement for document in found for statement in policy.parse(document)]
    keys = {one["ContextKeyName"]: one["ContextKeyValues"][0] for one in said.get("ContextEntries", [])}
    resources = said.get("ResourceArns", ["*"])
    return {
        "EvaluationResults": [_result(statements, action, resources, keys) for action in said["ActionNames"]],
        "IsTruncated": False,
    }


def _result(
    statements: Iterable[policy.Statement], action: str, resources: Sequence[str], keys: Mapping[str, str]
) -> dict[str, Any]:
    decisions = {
        resource: "allowed" if policy.allows(statements, action, resource, keys) else "implicitDeny"
        for resource in resources
    }
    whole = next((one for one in decisions.values() if one != "allowed"), "allowed")
    result = {"EvalActionName": action, "EvalResourceName": resources[0], "EvalDecision": whole}
    if len(resources) == 1:
        return result
    return result | {
        "ResourceSpecificResults": [
            {"EvalResourceName": resource, "EvalResourceDecision": decision} for resource, decision in decisions.items()
        ]
    }


def documents(role: Any) -> list[Mapping[str, Any]]:
    """Return the policies of a role of moto: its own, and those attached to it."""
    own = [json.loads(text) for text in role.policies.values()]
    return own + [json.loads(one.document) for one in role.managed_policies.values()]
