"""Call S3, SSM, Secrets Manager and ECR with the machine's own role; standard library only.

Callers retry failed requests. This module repeats a request only where an immediate second try can succeed: on a new
connection, with a corrected clock, or with renewed credentials.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import time
import urllib.parse
import zlib
from collections.abc import Mapping
from typing import Any

from provisioner.agent.aws.fetch import NOTHING, amz_date, endpoint, object_url, server_time, signed
from provisioner.agent.aws.http import Answer, NoAnswer, Wire
from provisioner.agent.aws.role import Role

#: The clock is corrected if its error is at least this many seconds. AWS rejects a request whose time is wrong by five
#: minutes or more; S3 rejects it from fifteen minutes on.
SKEW = 240.0

#: Error codes for credentials that have expired or were replaced by newer ones.
STALE = frozenset(
    {
        *("ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken"),
        *("TokenRefreshRequired", "UnrecognizedClientException"),
    }
)

#: For each service with AWS's JSON protocol 1.1: its names in the X-Amz-Target header and in its host name.
TARGETS = {
    "ssm": ("AmazonSSM", "ssm"),
    "secretsmanager": ("secretsmanager", "secretsmanager"),
    "ecr": ("AmazonEC2ContainerRegistry_V20150921", "api.ecr"),
}


class ServiceError(Exception):
    """An error response of AWS, with its code and message."""

    def __init__(self, call: str, status: int, code: str, message: str) -> None:
        super().__init__(f"An error occurred ({code}) when calling the {call} operation: {message}")
        self.status = status
        self.code = code


class Client:
    """A client of one service in one region. Threads may share it."""

    def __init__(self, service: str, region: str, url: str) -> None:
        """`url` is the URL of the server that all requests are sent to."""
        self._service = service
        self._region = region
        self._wire = Wire(url)
        self._role = Role()
        #: Seconds by which this machine's clock is behind AWS's clock.
        self._late = 0.0

    def ask(
        self, call: str, method: str, url: str, headers: Mapping[str, str], body: bytes = b"", sha256: str = NOTHING
    ) -> Answer:
        """Send a signed request and return the response. Raises NoAnswer and ServiceError.

        `call` is the name of the API's operation.
        """
        own = self._role.credentials(self._now())
        answer = self._send(own, method, url, headers, body, sha256)
        if answer.status >= 400 and self._sets_the_clock(answer):
            answer = self._send(own, method, url, headers, body, sha256)
        if answer.status >= 400 and _error(answer)[0] in STALE:
            own = self._role.credentials(self._now(), instead=own)
            answer = self._send(own, method, url, headers, body, sha256)
        if answer.status >= 300:
            code, message = _error(answer)
            region = answer.headers.get("x-amz-bucket-region", self._region)
            if region != self._region:
                message += f" The bucket is in {region}, not in {self._region}: see `region` in the settings."
            raise ServiceError(call, answer.status, code, message)
        return answer

    def close(self) -> None:
        self._wire.close()

    def _send(
        self, own: Mapping[str, str], method: str, url: str, headers: Mapping[str, str], body: bytes, sha256: str
    ) -> Answer:
        moment = amz_date(self._now())
        told = signed(method, url, self._service, self._region, own, moment, headers, sha256)
        return self._wire.request(method, urllib.parse.urlsplit(url).path or "/", told, body)

    def _now(self) -> float:
        return time.time() + self._late

    def _sets_the_clock(self, answer: Answer) -> bool:
        """Return whether this machine's clock is wrong by SKEW seconds or more; if so, use AWS's time from now on."""
        told = server_time(answer.headers)
        if told is None or abs(told - self._now()) < SKEW:
            return False
        self._late = told - time.time()
        return True


class S3(Client):
    """A client for the objects of one bucket."""

    def __init__(self, bucket: str, region: str) -> None:
        super().__init__("s3", region, object_url(bucket, "", region))
        self._bucket = bucket

    def get(self, key: str) -> bytes:
        """Return the object's bytes, verified if S3 sends their CRC32. Raises NoAnswer and ServiceError."""
        headers = {"x-amz-checksum-mode": "ENABLED"}
        answer = self.ask("GetObject", "GET", object_url(self._bucket, key, self._region), headers)
        crc32 = base64.b64encode(zlib.crc32(answer.body).to_bytes(4, "big")).decode()
        if answer.headers.get("x-amz-checksum-crc32", crc32) != crc32:
            raise NoAnswer(f"{key} has a wrong CRC32 checksum")
        return answer.body

    def put(self, key: str, data: bytes, sha256: str = "", *, once: bool = False) -> None:
        """Put the object. When this returns, S3 has verified the bytes by their checksum.

        Raises NoAnswer and ServiceError. With `once`, an existing object is not replaced: ServiceError has status 412.
        """
        sha256 = sha256 or hashlib.sha256(data).hexdigest()
        headers = {"x-amz-checksum-sha256": base64.b64encode(bytes.fromhex(sha256)).decode()}
        if once:
            headers["if-none-match"] = "*"
        self.ask("PutObject", "PUT", object_url(self._bucket, key, self._region), headers, data, sha256)


class Service(Client):
    """A client of a service with AWS's JSON protocol 1.1; `name` is its name in IAM: ssm, secretsmanager or ecr."""

    def __init__(self, name: str, region: str) -> None:
        self._target, host = TARGETS[name]
        self._url = endpoint(host, region) + "/"
        super().__init__(name, region, self._url)

    def call(self, call: str, **parameters: object) -> dict[str, Any]:
        """Call an operation of the API; return the members of its JSON response. Raises NoAnswer and ServiceError."""
        body = json.dumps(parameters).encode()
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": f"{self._target}.{call}"}
        answer = self.ask(call, "POST", self._url, headers, body, hashlib.sha256(body).hexdigest())
        try:
            told = json.loads(answer.body)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise NoAnswer(f"the response to {call} is not a JSON object")
        return told


class Sts(Client):
    """A client of STS, which tells whose credentials these are."""

    def __init__(self, region: str) -> None:
        self._url = endpoint("sts", region) + "/"
        super().__init__("sts", region, self._url)

    def user_id(self) -> str:
        """Return this machine's `aws:userid`, "" if the answer has none; needs no right. Raises NoAnswer, ServiceError.

        For a machine's role it is `<the role's unique id>:<the instance id>` (IAM User Guide, "aws:userid").
        """
        body = b"Action=GetCallerIdentity&Version=2011-06-15"
        headers = {"content-type": "application/x-www-form-urlencoded"}
        answer = self.ask("GetCallerIdentity", "POST", self._url, headers, body, hashlib.sha256(body).hexdigest())
        found = re.search(rb"<UserId>([^<]*)</UserId>", answer.body)
        return found[1].decode(errors="replace") if found else ""


def denied(error: Exception | None) -> bool:
    """Return whether AWS denied a request for lack of rights or for unknown credentials."""
    return isinstance(error, ServiceError) and error.status in (401, 403)


def _error(answer: Answer) -> tuple[str, str]:
    """Return the code and the message of an error response.

    If the body is not one of AWS's XML or JSON errors (but a proxy's page, for example), return the HTTP status and
    reason instead.
    """
    text = answer.body.decode(errors="replace")
    code, message = "", ""
    if text.startswith("{"):
        try:
            told = json.loads(text)
            code = str(told.get("__type", ""))
            message = str(told.get("message", told.get("Message", "")))
        except ValueError:
            pass
    elif found := re.search(r"<Code>(\w+)</Code>", text):
        code = found[1]
        words = re.search("<Message>(.*?)</Message>", text, re.DOTALL)
        message = html.unescape(words[1]) if words else ""
    # Keep only the name: the code may also be "com.amazon#Name" or "Name:https://…".
    code = code.partition(":")[0].rpartition("#")[2]
    return code or str(answer.status), " ".join((message or answer.reason).split())
