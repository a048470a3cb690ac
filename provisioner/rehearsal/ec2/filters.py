"""What EC2's calls about anything have in common: filters, and tags at creation."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any


def fits(item: Mapping[str, Any], values: Iterable[str]) -> bool:
    """Whether one of a thing's `values` is what the filter asks for."""
    # EC2 knows `*` and `?` alone.
    patterns = [pattern.replace("[", "[[]") for pattern in item.get("Values", [])]
    return any(fnmatchcase(value, pattern) for value in values for pattern in patterns)


def tagged(said: Mapping[str, Any], kind: str) -> dict[str, str]:
    """The tags that the call gives to resources of this kind."""
    specifications = said.get("TagSpecifications", [])
    return {
        tag["Key"]: tag.get("Value", "") for one in specifications if one["ResourceType"] == kind for tag in one["Tags"]
    }
