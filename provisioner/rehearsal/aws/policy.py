"""Evaluate IAM policy documents; raise an error for every element that is not supported here.

The rules are those of the IAM User Guide, "Policy evaluation logic" and "IAM JSON policy elements": an explicit Deny
wins, an action without an Allow is denied, `*` and `?` are wildcards, and actions are case-insensitive.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


class NotUnderstood(Exception):
    """The policy document has an element that cannot be evaluated here."""


@dataclass(frozen=True)
class Statement:
    allow: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    #: Operators, each with its condition keys and their patterns, one of which must fit.
    conditions: tuple[tuple[str, str, tuple[str, ...]], ...] = ()

    def fits(self, action: str, resource: str, variables: Mapping[str, str]) -> bool:
        return (
            any(_pattern(one.lower(), {}).fullmatch(action.lower()) for one in self.actions)
            and any(_pattern(one, variables).fullmatch(resource) for one in self.resources)
            # A condition key that the request lacks does not fit.
            and all(
                key in variables and any(_OPERATORS[operator](one, variables, variables[key]) for one in patterns)
                for operator, key, patterns in self.conditions
            )
        )


def parse(document: Mapping[str, Any]) -> tuple[Statement, ...]:
    """Return the statements of a policy document that json.load has read; raises NotUnderstood."""
    if document.get("Version") != "2012-10-17" or set(document) - {"Version", "Id", "Statement"}:
        raise NotUnderstood(
            f"unsupported policy document: Version {document.get('Version')!r}, elements {sorted(document)}; "
            "expected Version '2012-10-17', a Statement, and at most an Id"
        )
    return tuple(map(_statement, _several(document["Statement"])))


def _statement(item: Mapping[str, Any]) -> Statement:
    conditions = tuple(
        (operator, key, tuple(_several(values)))
        for operator, keys in item.get("Condition", {}).items()
        for key, values in keys.items()
    )
    strange = set(item) - {"Sid", "Effect", "Action", "Resource", "Condition"} or any(
        operator not in _OPERATORS or not _KEYS.fullmatch(key) for operator, key, _ in conditions
    )
    if strange or item.get("Effect") not in ("Allow", "Deny") or "Action" not in item or "Resource" not in item:
        raise NotUnderstood(
            f"unsupported policy statement {item.get('Sid', item)!r}: expected Effect (Allow or Deny), Action, "
            f"Resource, and at most a Sid and a Condition with {' or '.join(_OPERATORS)} on keys like {_KEYS.pattern}"
        )
    return Statement(
        item["Effect"] == "Allow",
        tuple(_several(item["Action"])),
        tuple(_several(item["Resource"])),
        conditions,
    )


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def allows(statements: Iterable[Statement], action: str, resource: str, variables: Mapping[str, str]) -> bool:
    """Return whether the statements allow the action on the resource.

    `variables` are the condition keys of the caller and the resource, such as `aws:userid`, with their values.
    """
    fitting = [one for one in statements if one.fits(action, resource, variables)]
    return bool(fitting) and all(one.allow for one in fitting)


def _pattern(text: str, variables: Mapping[str, str]) -> re.Pattern[str]:
    """Return the pattern as a regular expression; wildcards in a variable's value are literal characters."""
    parts = re.split(r"(\$\{[^}]*\}|\*|\?)", text)
    wild = {"*": ".*", "?": ".", "${*}": r"\*", "${?}": r"\?", "${$}": r"\$"}
    regex = ""
    for part in parts:
        if part.startswith("${") and part not in wild:
            if part[2:-1] not in variables:
                known = ", ".join(sorted(variables)) or "none"
                raise NotUnderstood(f"unknown policy variable {part}; known: {known}")
            regex += re.escape(variables[part[2:-1]])
        else:
            regex += wild.get(part, re.escape(part))
    return re.compile(regex, re.DOTALL)


def _equals(text: str, variables: Mapping[str, str], value: str) -> bool:
    # Without a wildcard the pattern is the text itself; `*` and `?` are no wildcards here.
    return (
        _pattern(re.sub(r"(?<!\$\{)[*?]", lambda found: f"${{{found[0]}}}", text), variables).fullmatch(value)
        is not None
    )


def _like(text: str, variables: Mapping[str, str], value: str) -> bool:
    return _pattern(text, variables).fullmatch(value) is not None


#: The condition operators that are supported.
_OPERATORS = {"StringEquals": _equals, "StringLike": _like}
#: The condition keys to which the double, or a simulation, gives values. With another key a Deny would be ignored, and
#: an Allow would never fit.
_KEYS = re.compile(
    r"aws:userid|aws:(Request|Resource)Tag/.+|ec2:CreateAction|iam:PassedToService|kms:ViaService|s3:prefix",
    re.IGNORECASE,
)
