"""Identify the caller of a request: keep the double's access keys, and check the request's signature.

The signature is computed again with botocore's own signer (Signature Version 4), over the headers that the request
lists as signed.
"""

import hashlib
import hmac
import math
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import botocore.auth
import botocore.awsrequest
import botocore.credentials

from provisioner.rehearsal.aws.calls import ADMINISTRATOR, CONTROL
from provisioner.rehearsal.aws.metadata import Credentials
from provisioner.rehearsal.aws.refused import Refused
from provisioner.rehearsal.aws.wire import Request

#: Seconds for which a machine's credentials are valid. On AWS they are valid for at most six hours, and AWS renews them
#: before they expire (EC2 User Guide).
_VALID = 6 * 3600.0
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([^/]+)/([^/]+)/aws4_request, ?"
    r"SignedHeaders=([^,]+), ?Signature=([0-9a-f]+)"
)


@dataclass(frozen=True)
class Caller:
    #: `control`, `administrator`, or a machine's `aws:userid`.
    principal: str
    service: str
    region: str


class Identities:
    """The access keys of one double: the control plane's, the administrator's, and those of machines."""

    def __init__(self, role_id: Callable[[str], str]) -> None:
        """`role_id` returns the unique id of a machine's role, by the machine's id."""
        self._role_id = role_id
        self.control, self.administrator = (
            Credentials(f"AKIA{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30), "", math.inf)
            for _ in range(2)
        )
        self._keys = {
            self.control.access_key: (CONTROL, self.control),
            self.administrator.access_key: (ADMINISTRATOR, self.administrator),
        }
        self._lock = threading.Lock()

    def login(self, principal: str) -> Credentials:
        """Return the credentials of the control plane, the administrator or another person, who may be a new one."""
        with self._lock:
            for known, credentials in self._keys.values():
                if known == principal:
                    return credentials
            made = Credentials(f"AKIA{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30), "", math.inf)
            self._keys[made.access_key] = (principal, made)
            return made

    def machine(self, instance_id: str) -> Credentials:
        """Return new temporary credentials of the machine's role session."""
        token = secrets.token_urlsafe(60)
        made = Credentials(
            f"ASIA{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30), token, time.time() + _VALID
        )
        with self._lock:
            self._keys[made.access_key] = (f"{self._role_id(instance_id)}:{instance_id}", made)
        return made

    def caller(self, request: Request) -> Caller:
        """Return the caller that signed the request; raises Refused with AWS's own codes."""
        found = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
        if not found:
            raise Refused("MissingAuthenticationToken", "The request must be signed (Signature Version 4).", 403)
        access_key, region, service, signed, signature = found.groups()
        with self._lock:
            principal, credentials = self._keys.get(access_key, ("", Credentials("", "", "", 0.0)))
        token = request.headers.get("x-amz-security-token", "")
        if not principal or not hmac.compare_digest(token, credentials.token):
            raise _unknown(service)
        if credentials.expires_at < time.time():
            raise Refused("ExpiredToken", "The provided token has expired.", 403)
        if not hmac.compare_digest(_signature(request, credentials, service, region, signed.split(";")), signature):
            raise Refused("SignatureDoesNotMatch", "The request signature does not match the signature provided.", 403)
        return Caller(principal, service, region)


def _unknown(service: str) -> Refused:
    """Return the service's error for an unknown access key: each API Reference, "Common errors" or "Error codes"."""
    match service:
        case "ec2":
            return Refused("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
        case "s3":
            return Refused(
                "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.", 403
            )
        case "iam" | "sts":
            return Refused("InvalidClientTokenId", "The security token included in the request is invalid.", 403)
        case _:
            return Refused("UnrecognizedClientException", "The security token included in the request is invalid.", 400)


def service_of(request: Request) -> str:
    """Return the service that the request is signed for; `s3` for an unsigned request."""
    found = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    return found[3] if found else "s3"


def _signature(request: Request, credentials: Credentials, service: str, region: str, signed: list[str]) -> str:
    """Return the signature that the request must have; empty if its body is not the body that was signed."""
    said = request.headers.get("x-amz-content-sha256", "")
    if re.fullmatch("[0-9a-f]{64}", said) and said != hashlib.sha256(request.body).hexdigest():
        return ""
    headers = {name: request.headers.get(name, "") for name in signed}
    url = f"http://{request.headers.get('host', '')}{request.target}"
    copy = botocore.awsrequest.AWSRequest(method=request.method, url=url, headers=headers, data=request.body)
    copy.context["timestamp"] = request.headers.get("x-amz-date", "")
    keys = botocore.credentials.Credentials(credentials.access_key, credentials.secret_key)
    kind = botocore.auth.S3SigV4Auth if service == "s3" else botocore.auth.SigV4Auth
    signer = kind(keys, service, region)
    return str(signer.signature(signer.string_to_sign(copy, signer.canonical_request(copy)), copy))
