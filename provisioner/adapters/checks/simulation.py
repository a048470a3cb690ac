"""Ask IAM which rights a role has: `SimulatePrincipalPolicy` evaluates its policies without making the calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from provisioner.adapters.checks.looking import Looker
from provisioner.core.check.lines import Unseen
from provisioner.core.cloud.partitions import partition

RIGHT = "iam:SimulatePrincipalPolicy"


def denied(
    looker: Looker, principal: str, actions: Sequence[str], resources: Sequence[str], userid: str = ""
) -> list[str]:
    """Return `action on ARN` for each right that the policies of the principal do not allow; raises CloudError.

    The conditions of the policies of `provision iam` hold: a machine has the `aws:userid`, uses keys by way of S3, and
    launches grant keys to EBS only.
    """
    region = looker.session.region
    keys = (
        ("aws:userid", "string", userid or "-"),
        ("kms:ViaService", "string", f"s3.{region}.{partition(region).domain}"),
        ("kms:GrantIsForAWSResource", "boolean", "true"),
    )
    answer = looker.ask(
        "iam",
        "simulate_principal_policy",
        PolicySourceArn=principal,
        ActionNames=list(actions),
        ResourceArns=list(resources),
        ContextEntries=[
            {"ContextKeyName": name, "ContextKeyType": kind, "ContextKeyValues": [value]} for name, kind, value in keys
        ],
    )
    return [f"{action} on {arn}" for action, arn, decision in _decisions(answer) if decision != "allowed"]


def _decisions(answer: Any) -> Iterator[tuple[str, str, str]]:
    for result in answer["EvaluationResults"]:
        action = result["EvalActionName"]
        for one in result.get("ResourceSpecificResults", []):
            yield action, one["EvalResourceName"], one["EvalResourceDecision"]
        if not result.get("ResourceSpecificResults"):
            yield action, result.get("EvalResourceName", "*"), result["EvalDecision"]


def missing(
    looker: Looker, principals: Mapping[str, str], actions: Sequence[str], key: str
) -> Mapping[str, Sequence[str]] | Unseen:
    """Return the actions on a KMS key that each principal may not take, by its name."""

    def read() -> Mapping[str, Sequence[str]]:
        return {
            name: [one.partition(" ")[0] for one in denied(looker, arn, actions, [key])]
            for name, arn in principals.items()
        }

    return looker.look(f"whether {' and '.join(principals)} may use it", RIGHT, read)
