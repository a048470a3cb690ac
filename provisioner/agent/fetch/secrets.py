"""Read secrets with the machine's own role. Their values are in no work order, no error and no log."""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import time
from collections.abc import Iterator
from typing import Any

from provisioner.agent.aws.client import Service, ServiceError
from provisioner.agent.aws.http import NoAnswer
from provisioner.agent.machine.tools import Tools
from provisioner.agent.outcomes import Ended
from provisioner.core.protocol.words import Outcome, Step

#: AWS's error codes for throttling. The code decides, because the status is often 400.
BUSY = re.compile("Throttl|TooManyRequests|RequestLimitExceeded|SlowDown")

#: The error handler with which every character can be encoded. Without it, the message of an encoding error would
#: contain the whole value.
AS_IT_IS = "surrogatepass"

#: A private registry of AWS, which needs a token of ECR, with its region and domain (Amazon ECR User Guide, "Private
#: registry authentication"; the names with `dkr-ecr` are dual-stack: "Making requests to Amazon ECR registries").
ECR = re.compile(r"[0-9]{12}\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.([a-z0-9.-]+)")
#: The domains of registries, beside that of this machine's partition. Any other host must never get a token. The one in
#: China is assumed: botocore names `amazonwebservices.com.cn` for dual-stack services there.
DOMAINS = frozenset({"amazonaws.com", "amazonaws.com.cn", "on.aws", "on.amazonwebservices.com.cn"})

#: The IAM action that each call requires (Service Authorization Reference).
RIGHTS = {
    "GetAuthorizationToken": "ecr:GetAuthorizationToken",
    "GetParameter": "ssm:GetParameter",
    "GetSecretValue": "secretsmanager:GetSecretValue",
}


class Secrets:
    """Reads secrets; each is read once, even if several of its keys are needed."""

    def __init__(self, region: str, tools: Tools) -> None:
        """Throttling and missing responses are retried until the time limit of `tools`."""
        self._region = region
        self._tools = tools
        self._whole: dict[tuple[str, str], bytes] = {}
        self.service_of: Any = functools.cache(Service)

    def read(self, name: str) -> bytes:
        """Return the value of `ssm:/path`, `secretsmanager:id` or `secretsmanager:id#key`; raises Ended."""
        service, identity, key = _parts(name)
        if (service, identity) not in self._whole:
            self._whole[service, identity] = self._get(service, identity)
        value = self._whole[service, identity]
        return self._of_json(name, value, key) if key else value

    def hidden(self, name: str) -> list[bytes]:
        """Return the values to mask for a secret that was read.

        If `name` has a key, they include the whole JSON and every string in it, because tools print the whole secret.
        """
        service, identity, key = _parts(name)
        whole = self._whole[service, identity]
        strings = _strings(json.loads(whole)) if key else ()
        return [self.read(name), whole, *(text.encode(errors=AS_IT_IS) for text in strings)]

    def registry_login(self, host: str) -> bytes | None:
        """Return `user:password` for a private registry of AWS; None for any other host. Raises Ended."""
        found = ECR.fullmatch(host)
        if not found or found[2] not in DOMAINS | {os.environ.get("PROVISION_DOMAIN")}:
            return None
        get = functools.partial(self.service_of("ecr", found[1]).call, "GetAuthorizationToken")
        answer = self._insist(f"a token for the registry {host}", get)
        return base64.b64decode(answer["authorizationData"][0]["authorizationToken"])

    def _get(self, service: str, identity: str) -> bytes:
        what = f"the secret {service}:{identity}"
        if service not in ("ssm", "secretsmanager"):
            raise self._refused(what, "only ssm: and secretsmanager: are supported")
        call = self.service_of(service, self._region).call
        if service == "ssm":
            get = functools.partial(call, "GetParameter", Name=identity, WithDecryption=True)
            return str(self._insist(what, get)["Parameter"]["Value"]).encode(errors=AS_IT_IS)
        answer = self._insist(what, functools.partial(call, "GetSecretValue", SecretId=identity))
        if "SecretString" in answer:
            return str(answer["SecretString"]).encode(errors=AS_IT_IS)
        return base64.b64decode(answer["SecretBinary"])

    def _of_json(self, name: str, whole: bytes, key: str) -> bytes:
        try:
            keys = json.loads(whole)
        except ValueError:
            keys = None
        if not isinstance(keys, dict):
            raise self._refused(f"the secret {name}", "its value is not a JSON object, so it has no keys")
        if key not in keys:
            raise self._refused(f"the secret {name}", "its JSON has no such key")
        return (keys[key] if isinstance(keys[key], str) else json.dumps(keys[key])).encode(errors=AS_IT_IS)

    def _insist(self, what: str, call: functools.partial[Any]) -> Any:
        pause = 1.0
        while True:
            try:
                return call()
            except (NoAnswer, ServiceError) as error:
                if not _passing(error):
                    raise self._refused(what, f"{error}{_right(error, call.args[0])}") from error
                self._tools.say(f"{what} cannot be read, again in {pause:.0f} s: {error}")
            self._tools.sleep(pause)
            if time.time() >= self._tools.until:
                raise Ended(Outcome.LOST, self._tools.step, f"{self._tools.limit}, waiting for {what}")
            pause = min(15.0, pause * 2)

    def _refused(self, what: str, why: str) -> Ended:
        return Ended(Outcome.REFUSED, self._tools.step, f"{what} cannot be read: {why}")


def _parts(name: str) -> tuple[str, str, str]:
    """Return service, identity and key; the key is empty for the whole secret."""
    service, _, rest = name.partition(":")
    identity, _, key = rest.partition("#") if service == "secretsmanager" else (rest, "", "")
    return service, identity, key


def _strings(value: Any) -> Iterator[str]:
    """Yield every string in a JSON value, except the keys of its objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)


def _right(error: NoAnswer | ServiceError, action: str) -> str:
    """Return a hint that names the right that the machine's role lacks, if AWS denied the call; otherwise ""."""
    if not isinstance(error, ServiceError) or not error.code.startswith("AccessDenied"):
        return ""
    return (
        f"; add {RIGHTS[action]} to the role of the machine's instance profile, and kms:Decrypt if the key is your own"
    )


def _passing(error: NoAnswer | ServiceError) -> bool:
    if isinstance(error, ServiceError):
        return error.status >= 500 or error.status == 429 or bool(BUSY.search(error.code))
    return True


def login(name: str, value: bytes) -> bytes:
    """Return `user:password` of a registry's credential. Raises Ended.

    `value` is `user:password`, or JSON with `username` and `password`; `name` is the name of the secret.
    """
    try:
        said = json.loads(value)
    except ValueError:
        said = None
    if isinstance(said, dict) and isinstance(said.get("username"), str) and isinstance(said.get("password"), str):
        return f"{said['username']}:{said['password']}".encode(errors=AS_IT_IS)
    if b":" in value and not isinstance(said, dict):
        return value.strip()
    reason = f"the secret {name} holds neither user:password nor JSON with username and password"
    raise Ended(Outcome.REFUSED, Step.PULL, reason)
