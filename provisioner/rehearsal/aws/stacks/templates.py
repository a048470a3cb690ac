"""Read templates of CloudFormation: their resources, in the order in which they are made, and their functions.

The messages of errors are CloudFormation's, as public reports quote them.
"""

import graphlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from provisioner.rehearsal.aws.calls import NotPlayed
from provisioner.rehearsal.aws.refused import Refused
from provisioner.rehearsal.aws.stacks.kinds import KINDS, Made

#: Attributes of a resource that the double implements, and its policies: for deletion, and for a new one in its place.
_ATTRIBUTES = frozenset({"DeletionPolicy", "DependsOn", "Properties", "Type", "UpdateReplacePolicy"})
_POLICIES = frozenset({(None, None), ("Delete", "Delete"), ("RetainExceptOnCreate", "Retain")})
#: Types for which CreateStack requires CAPABILITY_NAMED_IAM if they have a name (CloudFormation API, CreateStack).
_NAMED = {
    "AWS::IAM::InstanceProfile": "InstanceProfileName",
    "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
    "AWS::IAM::Role": "RoleName",
}
_LARGEST = 51_200


def read(text: str, capabilities: list[str]) -> dict[str, Any]:
    """Return the template. Raises Refused as CloudFormation would, and NotPlayed for what the double lacks."""
    if len(text.encode()) > _LARGEST:
        raise _invalid(
            "1 validation error detected: Value at 'templateBody' failed to satisfy constraint: Member must have length"
            f" less than or equal to {_LARGEST}"
        )
    try:
        template: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise _invalid(f"Template format error: JSON not well-formed. {error}") from error
    if strange := set(template) - {"AWSTemplateFormatVersion", "Description", "Metadata", "Outputs", "Resources"}:
        raise NotPlayed(f"a template with {sorted(strange)}")
    resources = template.get("Resources") or {}
    if not resources:
        raise _invalid("Template format error: At least one Resources member must be defined.")
    if unknown := sorted({one["Type"] for one in resources.values()} - KINDS.keys()):
        raise _invalid(f"Template format error: Unrecognized resource types: [{', '.join(unknown)}]")
    for name, one in resources.items():
        _check(name, one, resources)
    named = [one["Type"] for one in resources.values() if _NAMED.get(one["Type"]) in one.get("Properties", {})]
    if named and "CAPABILITY_NAMED_IAM" not in capabilities:
        message = "Requires capabilities : [CAPABILITY_NAMED_IAM]"
        raise Refused("InsufficientCapabilitiesException", message)
    for output in template.get("Outputs", {}).values():
        _check_references(output["Value"], resources)
    return template


def _check(name: str, resource: Mapping[str, Any], resources: Mapping[str, Any]) -> None:
    if strange := set(resource) - _ATTRIBUTES:
        raise NotPlayed(f"a resource with {sorted(strange)}")
    if (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")) not in _POLICIES:
        raise NotPlayed(f"the policies of {name}")
    known = KINDS[resource["Type"]].properties
    if unknown := sorted(set(resource.get("Properties", {})) - known):
        raise _invalid(f"Encountered unsupported property {unknown[0]}")
    _check_references(resource.get("Properties", {}), resources)


def _check_references(node: Any, resources: Mapping[str, Any]) -> None:
    if missing := sorted(set(references(node)) - resources.keys()):
        raise _invalid(f"Template format error: Unresolved resource dependencies {missing} in the Resources block")


def _invalid(message: str) -> Refused:
    return Refused("ValidationError", message)


def references(node: Any) -> Iterator[str]:
    """Yield the ids of the resources to which a part of a template refers."""
    if isinstance(node, Mapping):
        if set(node) == {"Ref"}:
            yield node["Ref"]
        elif set(node) == {"Fn::GetAtt"}:
            yield node["Fn::GetAtt"][0]
        else:
            for below in node.values():
                yield from references(below)
    elif isinstance(node, list):
        for below in node:
            yield from references(below)


def order(resources: Mapping[str, Any]) -> list[str]:
    """Return the ids of the resources, each after those on which it depends."""
    graph = {
        name: {*references(one.get("Properties", {})), *([one["DependsOn"]] if "DependsOn" in one else [])}
        for name, one in resources.items()
    }
    return list(graphlib.TopologicalSorter(graph).static_order())


def resolved(node: Any, made: Callable[[str], Made]) -> Any:
    """Return a part of a template with the values of its functions."""
    if isinstance(node, Mapping):
        if set(node) == {"Ref"}:
            return made(node["Ref"]).id
        if set(node) == {"Fn::GetAtt"}:
            name, attribute = node["Fn::GetAtt"]
            return made(name).attributes[attribute]
        if set(node) == {"Fn::Join"}:
            between, parts = node["Fn::Join"]
            return between.join(resolved(part, made) for part in parts)
        if strange := [key for key in node if key.startswith("Fn::")]:
            raise NotPlayed(f"the function {strange[0]} of a template")
        return {key: resolved(below, made) for key, below in node.items()}
    return [resolved(below, made) for below in node] if isinstance(node, list) else node
