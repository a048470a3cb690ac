"""Read the two parameters that EC2's calls share for all kinds of resources: filters, and tags of new resources."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any


def fits(item: Mapping[str, Any], values: Iterable[str]) -> bool:
    """Return whether one of a resource's `values` matches the filter."""
    # EC2's only wildcards are `*` and `?`.
    patterns = [pattern.replace("[", "[[]") for pattern in item.get("Values", [])]
    return any(fnmatchcase(value, pattern) for value in values for pattern in patterns)


def tagged(said: Mapping[str, Any], kind: str) -> dict[str, str]:
    """Return the tags that the call gives to new resources of this kind."""
    specifications = said.get("TagSpecifications", [])
    return {
        tag["Key"]: tag.get("Value", "") for one in specifications if one["ResourceType"] == kind for tag in one["Tags"]
    }
