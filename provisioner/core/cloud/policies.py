"""Fill in the templates of the IAM policies for one installation, and compare policies.

The templates are the files of `config/iam`: valid policies of AWS's standard partition, with placeholders.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from provisioner.core.cloud.partitions import partition

Document = Mapping[str, Any]

#: The policies: of the control plane's role, of every machine's role, and which service may assume a machine's role.
CONTROL, MACHINE, TRUST = "control", "machine", "trust"
NAMES = (CONTROL, MACHINE, TRUST)
#: EC2's name as a principal, in the templates. In other partitions it has their domain (Karpenter's CloudFormation
#: template, `ec2.${AWS::URLSuffix}`).
_EC2 = "ec2.amazonaws.com"


@dataclass(frozen=True)
class PolicyValues:
    """The values of the templates' placeholders."""

    installation: str
    region: str
    #: `name` or `name/prefix`.
    bucket: str
    #: The role of each instance profile, by the profile's name; a role may have a path before its name.
    roles: Mapping[str, str]
    #: Names of SSM parameters of the account, such as `/ours/ami-id`, that contain the AMI's id.
    parameters: Sequence[str] = ()
    #: ARNs of KMS keys.
    keys: Sequence[str] = ()


def filled(templates: Mapping[str, Document], values: PolicyValues) -> dict[str, dict[str, Any]]:
    """Return the policies, by the names of their templates.

    A text with a placeholder is repeated for each of the placeholder's values, and left out if there is none. So is a
    statement that has no resource left.
    """
    of_ec2 = f"ec2.{partition(values.region).domain}"
    documents = {}
    for name, template in templates.items():
        # In other partitions EC2 may have either name as iam:PassedToService (not documented), so both are allowed. IAM
        # rejects a trust policy with a principal that does not exist, so it gets only the partition's own name.
        services = [of_ec2] if name == TRUST else sorted({_EC2, of_ec2})
        documents[name] = dict(_filled(template, {**_words(values), _EC2: services}))
        documents[name]["Statement"] = [one for one in documents[name]["Statement"] if one.get("Resource") != []]
        for statement in documents[name]["Statement"]:
            _limit_listing(statement, values)
    return documents


def _words(values: PolicyValues) -> dict[str, Sequence[str]]:
    """Return the values of each placeholder, in the order in which they must be replaced."""
    bucket, _, prefix = _literal(values.bucket).strip("/").partition("/")
    return {
        "arn:aws:kms:YOUR-KEY": [_literal(key) for key in values.keys],
        "arn:aws:": [f"arn:{partition(values.region).name}:"],
        "YOUR-BUCKET/": [f"{bucket}/{prefix}/" if prefix else f"{bucket}/"],
        "YOUR-BUCKET": [bucket],
        "YOUR-INSTALLATION": [values.installation],
        "YOUR-PARAMETER": [_literal(name).lstrip("/") for name in values.parameters],
        "YOUR-PROFILE": [_literal(name) for name in values.roles],
        "YOUR-REGION": [values.region],
        "YOUR-ROLE": sorted({_literal(name).lstrip("/") for name in values.roles.values()}),
    }


def _limit_listing(statement: dict[str, Any], values: PolicyValues) -> None:
    """Allow the listing of the installation's prefix only, if it has one.

    For a missing key, S3 checks whether the caller may list, with the key as `s3:prefix` (ceph/ceph#68577), so the
    answer is still NoSuchKey.
    """
    _, _, prefix = _literal(values.bucket).strip("/").partition("/")
    if prefix and statement.get("Action") == "s3:ListBucket":
        statement["Condition"] = {"StringLike": {"s3:prefix": f"{prefix}/*"}}


def _literal(text: str) -> str:
    """Return the text with wildcards and `$` written as variables (IAM User Guide, "Policy variables")."""
    return re.sub(r"[*?$]", lambda found: f"${{{found[0]}}}", text)


def _filled(node: Any, words: Mapping[str, Sequence[str]]) -> Any:
    if isinstance(node, str):
        texts = _texts(node, words)
        return texts[0] if len(texts) == 1 else texts
    if isinstance(node, Mapping):
        return {key: _filled(below, words) for key, below in node.items()}
    if isinstance(node, Sequence):
        return [
            each
            for below in node
            for each in (_texts(below, words) if isinstance(below, str) else [_filled(below, words)])
        ]
    return node


def _texts(text: str, words: Mapping[str, Sequence[str]]) -> list[str]:
    texts = [text]
    for word, values in words.items():
        if word in text:
            texts = [one.replace(word, value) for one in texts for value in values]
    return texts


def difference(wanted: Document, found: Iterable[Document], *, whole: bool) -> list[str]:
    """Return the differences between the policies `found` and `wanted`, as lines of `diff --unified`; none if equal.

    A line with `-` is in force but not wanted, and a line with `+` is wanted but missing. Statements with the same Sid
    are compared with each other. With `whole`, statements of `found` with other Sids are differences, too; without it
    they are ignored, because a machine's role also has the rights of its jobs.
    """
    before = [statement for document in found for statement in _several(document.get("Statement", []))]
    lines: list[str] = []
    for statement in _several(wanted["Statement"]):
        same = [one for one in before if one.get("Sid") == statement.get("Sid")]
        before = [one for one in before if one not in same]
        for one in same or [{}]:
            lines += _lines(one, statement)
    for one in before if whole else ():
        lines += _lines(one, {})
    return lines


def _lines(before: Document, after: Document) -> list[str]:
    old, new = (json.dumps(_plain(one), indent=2).splitlines() if one else [] for one in (before, after))
    # The first three lines name files and places.
    return list(difflib.unified_diff(old, new, n=max(len(old), len(new)), lineterm=""))[3:]


def _plain(node: Any) -> Any:
    """Return the element in one of its equal forms: lists sorted, and a single text as a list."""
    if isinstance(node, Mapping):
        return {
            key: value if key in ("Sid", "Effect") else _plain(value)
            for key, value in sorted(node.items(), key=lambda item: (item[0] != "Sid", item[0]))
        }
    return sorted(map(str, _several(node)))


def _several(node: Any) -> list[Any]:
    return list(node) if isinstance(node, list) else [node]
