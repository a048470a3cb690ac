"""Send a scripted machine's requests over plain HTTP: to the metadata service, and signed ones to the bucket."""

import http.client
import json
import re
import shlex
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from email import message_from_string

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from provisioner.rehearsal.machines.host import Guest


@dataclass(frozen=True)
class Settings:
    """The installation's settings in the user-data; `prefix` is empty or ends in a slash."""

    bucket: str
    prefix: str
    region: str
    role_id: str


def settings(user_data: str) -> Settings:
    """Return the settings that the user-data's script writes for the agent; raises ValueError if it writes none."""
    for part in message_from_string(user_data).walk():
        text = "" if part.is_multipart() else str(part.get_payload())
        for line in text.splitlines():
            if re.match(r"printf %s .*settings\.json", line):
                return Settings(**json.loads(shlex.split(line)[2]))
    raise ValueError("the user-data writes no settings.json")


class GuestWire:
    """One machine's access to the bucket, with its own credentials."""

    def __init__(self, guest: Guest) -> None:
        self.settings = settings(guest.user_data)
        self._endpoint = urllib.parse.urlsplit(guest.aws_url)
        self._signer = S3SigV4Auth(_credentials(guest.metadata_url), "s3", self.settings.region)

    def ask(self, method: str, key: str, data: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Send one request; return its status and body, with status 0 if there was no answer."""
        path = urllib.parse.quote(f"/{self.settings.bucket}/{self.settings.prefix}{key}", safe="/-_.~")
        request = AWSRequest(method, f"http://{self._endpoint.netloc}{path}", dict(headers), data)
        self._signer.add_auth(request)
        try:
            return _http(self._endpoint.netloc, method, path, data, dict(request.headers.items()))
        except (OSError, http.client.HTTPException):
            return 0, b""


def _credentials(metadata_url: str) -> Credentials:
    """Return the role's credentials, requested as an SDK does (EC2 User Guide, "Use IMDSv2")."""
    at = urllib.parse.urlsplit(metadata_url)
    life = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
    token = _http(at.netloc, "PUT", f"{at.path}/latest/api/token", b"", life)[1].decode()
    headers = {"X-aws-ec2-metadata-token": token}
    folder = f"{at.path}/latest/meta-data/iam/security-credentials/"
    role = _http(at.netloc, "GET", folder, b"", headers)[1].decode()
    said = json.loads(_http(at.netloc, "GET", folder + role, b"", headers)[1])
    return Credentials(said["AccessKeyId"], said["SecretAccessKey"], said["Token"])


def _http(host: str, method: str, target: str, data: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request(method, target, data or None, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
