"""Check each call against the policy files of `config/iam`; this module itself allows nothing."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

from provisioner.rehearsal.aws import policy
from provisioner.rehearsal.aws.account import ID
from provisioner.rehearsal.aws.actions import ASKS, On
from provisioner.rehearsal.aws.calls import CONTROL, Call
from provisioner.rehearsal.aws.refused import Refused
from provisioner.rehearsal.aws.signatures import Caller

#: Placeholder in the policy files for the installation's bucket, or for its bucket and prefix.
PLACEHOLDER = "YOUR-BUCKET"


def document(path: Path, bucket: str, prefix: str = "") -> dict[str, Any]:
    """Return the policy document in the file, for this bucket.

    `prefix` is empty or ends in `/`; it is part of the ARNs of objects, not of the bucket's ARN.
    """
    text = path.read_text()
    text = text.replace(f"{PLACEHOLDER}/", f"{bucket}/{prefix}")
    return dict(json.loads(text.replace(PLACEHOLDER, bucket)))


def owners_own(
    region: str, buckets: Iterable[str], parameters: Iterable[str], secrets: Iterable[str]
) -> dict[str, Any]:
    """Return the policy that an owner adds to the machine role, for its jobs' buckets, parameters, secrets, and ECR."""
    allowed = {
        "s3:*": [f"arn:aws:s3:::{bucket}{rest}" for bucket in buckets for rest in ("", "/*")],
        "ssm:GetParameter": [parameter_arn(region, name) for name in parameters],
        "secretsmanager:GetSecretValue": [secret_arn(region, name) for name in secrets],
        "ecr:GetAuthorizationToken": ["*"],
    }
    # A statement needs at least one resource; `none` fits nothing.
    statements = [
        {"Effect": "Allow", "Action": action, "Resource": arns or ["none"]} for action, arns in allowed.items()
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def parameter_arn(region: str, name: str) -> str:
    """Return the ARN of a parameter from its name or ARN; the ARN of an AWS parameter (/aws/…) has no account."""
    account = "" if name.startswith("/aws/") else ID
    return name if name.startswith("arn:") else f"arn:aws:ssm:{region}:{account}:parameter/{name.lstrip('/')}"


def secret_arn(region: str, id: str) -> str:
    """Return the ARN of a secret from its name or ARN; `random` stands for the six random letters that AWS adds."""
    return id if id.startswith("arn:") else f"arn:aws:secretsmanager:{region}:{ID}:secret:{id}-random"


#: Parameters of a call that hold ids of machines, AMIs or snapshots, or the name of a placement group; each id is
#: evaluated separately.
_NAMED = {
    On.INSTANCE: ("InstanceIds", "InstanceId"),
    On.IMAGE: ("ImageId",),
    On.SNAPSHOT: ("SnapshotId",),
    On.GROUP: ("GroupName",),
}


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


class Known(Protocol):
    """The facts about resources that are needed to decide whether a call is allowed."""

    def role_of(self, call: Call) -> str:
        """Return the role that a launch gives to its machines; empty if it gives none."""

    def tags_of(self, id: str) -> Mapping[str, str] | None:
        """Return the tags of a machine, an AMI, a snapshot or a placement group; None for an unknown id or name."""


class Rights:
    """The policies of the control plane and of the machines."""

    def __init__(self, control: Mapping[str, Any], machine: Iterable[Mapping[str, Any]]) -> None:
        self._control = policy.parse(control)
        self._machine = tuple(statement for one in machine for statement in policy.parse(one))

    def weigh(self, caller: Caller, call: Call, known: Known, deleted: Callable[[], list[str]]) -> None:
        """Raise Refused with the service's own error unless every action of the call is allowed."""
        for action, resource, tags in _asked(caller, call, known, deleted):
            if not self._allowed(caller, action, resource, tags):
                if call.service == "s3":
                    raise Refused("AccessDenied", "Access Denied", 403)
                code = "UnauthorizedOperation" if call.service == "ec2" else "AccessDenied"
                message = f"You are not authorized to perform: {action} on resource: {resource}"
                if call.service in ("ssm", "secretsmanager", "ecr"):
                    # Services with a JSON protocol have another code (each API Reference, "Common errors").
                    raise Refused("AccessDeniedException", message, 400)
                raise Refused(code, message, 403)

    def may_list(self, caller: Caller, call: Call) -> bool:
        return self._allowed(caller, "s3:ListBucket", On.BUCKET.value.format(bucket=call.parameters["Bucket"]))

    def _allowed(self, caller: Caller, action: str, resource: str, tags: Mapping[str, str] = {}) -> bool:
        statements = self._control if caller.principal == CONTROL else self._machine
        tagged = {f"aws:ResourceTag/{key}": value for key, value in tags.items()}
        return policy.allows(statements, action, resource, {"aws:userid": caller.principal, **tagged})


def _asked(
    caller: Caller, call: Call, known: Known, deleted: Callable[[], list[str]]
) -> list[tuple[str, str, Mapping[str, str]]]:
    said = call.parameters
    words = {
        "region": caller.region,
        "account": ID,
        "bucket": said.get("Bucket", ""),
        "key": said.get("Key", ""),
        "source": unquote(said.get("CopySource", "")).lstrip("/").partition("?")[0],
        "parameter": parameter_arn(caller.region, said.get("Name", "")),
        "secret": secret_arn(caller.region, said.get("SecretId", "")),
        "profile": said.get("InstanceProfileName", ""),
    }
    asked: list[tuple[str, str, Mapping[str, str]]] = []
    for ask in ASKS[call.service, call.action]:
        if ask.on is On.ROLE:
            words["role"] = known.role_of(call)
            if not words["role"]:
                continue
        if ask.on in _NAMED:
            # An unknown id is skipped: the call itself reports it.
            tagged = {id: known.tags_of(id) for name in _NAMED[ask.on] for id in _several(said.get(name, []))}
            asked += [
                (ask.action, ask.on.value.format(**words, id=id), tags)
                for id, tags in tagged.items()
                if tags is not None
            ]
            continue
        keys = deleted() if call.action == "DeleteObjects" else [words["key"]]
        asked += [(ask.action, ask.on.value.format(**words | {"key": key}), {}) for key in keys]
    return asked
