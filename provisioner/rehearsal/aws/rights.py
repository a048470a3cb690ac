"""Check each call against the policies of `config/iam`, filled in for the double's installation.

This module itself allows nothing, except to the account's administrator, who may do everything.
"""

import base64
import json
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import unquote

from provisioner.core.cloud.partitions import partition
from provisioner.core.cloud.setup.stack import SPOT_ROLE, SPOT_SERVICE
from provisioner.rehearsal.aws import policy
from provisioner.rehearsal.aws.account import CONTROL_ROLE, ID
from provisioner.rehearsal.aws.actions import ASKS, Ec2Resource, On, on_resource
from provisioner.rehearsal.aws.calls import ADMINISTRATOR, CONTROL, Call
from provisioner.rehearsal.aws.refused import Refused
from provisioner.rehearsal.aws.signatures import Caller


def owners_own(
    region: str, buckets: Iterable[str], parameters: Iterable[str], secrets: Iterable[str]
) -> dict[str, Any]:
    """Return the policy that an owner adds to the machine role, for its jobs' buckets, parameters, secrets, and ECR."""
    allowed = {
        "s3:*": [f"arn:{partition(region).name}:s3:::{bucket}{rest}" for bucket in buckets for rest in ("", "/*")],
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
    first = f"arn:{partition(region).name}:ssm:{region}:{account}"
    return name if name.startswith("arn:") else f"{first}:parameter/{name.lstrip('/')}"


def secret_arn(region: str, id: str) -> str:
    """Return the ARN of a secret from its name or ARN; `random` stands for the six random letters that AWS adds."""
    first = f"arn:{partition(region).name}:secretsmanager:{region}:{ID}"
    return id if id.startswith("arn:") else f"{first}:secret:{id}-random"


def _stack_arn(region: str, name: str) -> str:
    """Return the ARN of a stack from its name or ARN; `id` stands for the id that CloudFormation adds."""
    return (
        name
        if name.startswith("arn:")
        else f"arn:{partition(region).name}:cloudformation:{region}:{ID}:stack/{name}/id"
    )


def encoded(caller: Caller, action: str, resource: str) -> str:
    """Return the encoded reason of EC2's denials, different each time (STS API, "DecodeAuthorizationMessage")."""
    context = {"principal": {"arn": arn(caller.principal)}, "action": action, "resource": resource}
    # Assumed: no policy of an installation has an explicit deny.
    said = {"allowed": False, "explicitDeny": False, "context": context, "nonce": secrets.token_hex(4)}
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode()


def arn(principal: str) -> str:
    """Return the ARN of a session: of the control plane's role, or of a machine's role."""
    role = CONTROL_ROLE if principal == CONTROL else "machine"
    return f"arn:aws:sts::{ID}:assumed-role/{role}/{principal.partition(':')[2] or 'session'}"


class Known(Protocol):
    """The facts about EC2's resources that are needed to decide whether a call is allowed."""

    def role_of(self, call: Call) -> str:
        """Return the role that a launch gives to its machines; empty if it gives none."""

    def used_by(self, call: Call) -> Sequence[Ec2Resource]:
        """Return the resources that an EC2 call names, uses or makes; the call itself reports unknown ids."""


class Rights:
    """The policies of the control plane and of the machines."""

    def __init__(
        self,
        control: Mapping[str, Any],
        machine: Iterable[Mapping[str, Any]],
        roles: Callable[[str], Iterable[Mapping[str, Any]]] = lambda _: (),
    ) -> None:
        """`roles` returns further policies of a machine's role, by the role's unique id."""
        self._roles = roles
        self._control = policy.parse(control)
        self._machine = tuple(statement for one in machine for statement in policy.parse(one))
        #: The actions that the control plane's calls so far required, and those that were denied, with their resources.
        self.weighed: set[str] = set()
        self.denied: list[str] = []
        #: Policies of further persons, by principal.
        self._persons: dict[str, tuple[policy.Statement, ...]] = {}
        self._lock = threading.Lock()

    def grant(self, principal: str, document: Mapping[str, Any]) -> None:
        """Give a person who has no other rights those of this policy."""
        self._persons[principal] = policy.parse(document)

    def weigh(self, caller: Caller, call: Call, known: Known, deleted: Callable[[], list[str]]) -> None:
        """Raise Refused with the service's own error unless every action of the call is allowed."""
        asked = _asked(caller, call, known, deleted)
        if caller.principal == CONTROL:
            with self._lock:
                self.weighed |= {action for action, _, _ in asked}
        for action, resource, keys in asked:
            if not self._allowed(caller, action, resource, keys):
                if caller.principal == CONTROL:
                    self.denied.append(f"{action} on {resource}")
                if call.service == "s3":
                    raise Refused("AccessDenied", "Access Denied", 403)
                code = "UnauthorizedOperation" if call.service == "ec2" else "AccessDenied"
                message = f"You are not authorized to perform: {action} on resource: {resource}"
                if call.service == "ec2":
                    message += f". Encoded authorization failure message: {encoded(caller, action, resource)}"
                if call.service in ("ssm", "secretsmanager", "servicequotas", "ecr"):
                    # Services with a JSON protocol have another code (each API Reference, "Common errors").
                    raise Refused("AccessDeniedException", message, 400)
                raise Refused(code, message, 403)

    @staticmethod
    def decoded(message: str) -> str:
        """Return the text of a message that `encoded` made, for DecodeAuthorizationMessage; raises Refused."""
        try:
            return base64.urlsafe_b64decode(message).decode()
        except ValueError as error:
            said = "Message is not valid"
            raise Refused("InvalidAuthorizationMessageException", said, 400) from error

    def may_list(self, caller: Caller, call: Call) -> bool:
        """Return whether the caller may list the key of the call (ceph/ceph#68577: `s3:prefix` is the key)."""
        bucket = On.BUCKET.value.format(bucket=call.parameters["Bucket"], partition=partition(caller.region).name)
        return self._allowed(caller, "s3:ListBucket", bucket, {"s3:prefix": call.parameters.get("Key", "")})

    def _allowed(self, caller: Caller, action: str, resource: str, keys: Mapping[str, str]) -> bool:
        if caller.principal == ADMINISTRATOR:
            return True
        statements = self._persons.get(caller.principal, self._machine)
        if caller.principal == CONTROL:
            statements = self._control
        elif caller.principal not in self._persons:
            role_id = caller.principal.partition(":")[0]
            statements += tuple(one for document in self._roles(role_id) for one in policy.parse(document))
        return policy.allows(statements, action, resource, {"aws:userid": caller.principal, **keys})


def _asked(
    caller: Caller, call: Call, known: Known, deleted: Callable[[], list[str]]
) -> list[tuple[str, str, Mapping[str, str]]]:
    """Return the actions that the call requires, each with the ARN of its resource and its condition keys."""
    said, within = call.parameters, partition(caller.region)
    role = said.get("RoleName", "")
    words = {
        "partition": within.name,
        "region": caller.region,
        "account": ID,
        "bucket": said.get("Bucket", ""),
        "key": said.get("Key", ""),
        "source": unquote(said.get("CopySource", "")).lstrip("/").partition("?")[0],
        "parameter": parameter_arn(caller.region, said.get("Name", "")),
        "secret": secret_arn(caller.region, said.get("SecretId", "")),
        "profile": said.get("InstanceProfileName", ""),
        "read": f"aws-service-role/{SPOT_SERVICE}/{SPOT_ROLE}" if role == SPOT_ROLE else role,
        "given": role,
        "policy": said.get("PolicyArn") or f"arn:{within.name}:iam::{ID}:policy/{said.get('PolicyName', '')}",
        "principal": said.get("PolicySourceArn", ""),
        "stack": _stack_arn(caller.region, said.get("StackName", "")),
        "service_role": f"aws-service-role/{said.get('AWSServiceName', '')}/{SPOT_ROLE}",
    }
    keys = {"s3:prefix": str(said["prefix"])} if call.service == "s3" and "prefix" in said else {}
    asked: list[tuple[str, str, Mapping[str, str]]] = []
    for resource in known.used_by(call) if call.service == "ec2" else ():
        arn = resource.arn(within.name, caller.region, ID)
        asked += [(action, arn, of_it) for action, of_it in on_resource(call.action, resource)]
    for ask in ASKS[call.service, call.action]:
        if ask.on is On.GIVEN_ROLE:
            passed = {"iam:PassedToService": f"ec2.{within.domain}"}
            asked.append((ask.action, ask.on.value.format(**words), passed))
            continue
        if ask.on is On.ROLE:
            if passed_on := known.role_of(call):
                passed = {"iam:PassedToService": f"ec2.{within.domain}"}
                asked.append((ask.action, ask.on.value.format(**words | {"role": passed_on}), passed))
            continue
        named = deleted() if call.action == "DeleteObjects" else [words["key"]]
        asked += [(ask.action, ask.on.value.format(**words | {"key": key}), keys) for key in named]
    return asked
