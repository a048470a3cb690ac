"""Fetch one object of S3 with the machine's own credentials; standard library only.

The user-data contains this file, so it must stay small and ASCII. Usage: fetch.py BUCKET KEY REGION SHA256 FILE
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import re
import socket
import ssl
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

NOTHING = hashlib.sha256(b"").hexdigest()

#: Maximum seconds for a connection to one address, and then for the next bytes. An S3 name has up to eight addresses.
WAIT = 5.0

#: Maximum seconds for all tries, and the pauses between them: new rights may take some seconds to be known everywhere.
BUDGET = 150.0
PAUSES = (1, 2, 4, 8, 15, 30, 60)

#: The metadata service's address, and its IPv6 address, which a machine in an IPv6-only subnet uses (EC2 User Guide,
#: "Instance identity documents").
METADATA = ("http://169.254.169.254", "http://[fd00:ec2::254]")

STRANGE = "S3 rejects this machine's credentials: check that the instance profile still has the same role"

#: What to do about S3's error codes (S3 API Reference, "Error responses").
ADVICE = {
    # S3 also returns this for an object that does not exist if the role lacks ListBucket.
    "AccessDenied": "the machine's role needs s3:GetObject on agent/ (see machine.json), or the object does not exist",
    "NoSuchKey": "the object does not exist; `provision start` uploads it",
    "NoSuchBucket": "the bucket does not exist: check `bucket` in the settings",
    "PermanentRedirect": "the bucket is in another region: see `region` in the settings",
    "AuthorizationHeaderMalformed": "the bucket is in another region: see `region` in the settings",
    "SignatureDoesNotMatch": "the secret key of this machine's credentials is wrong, or a proxy changed the request",
    "InvalidAccessKeyId": STRANGE,
    "InvalidToken": STRANGE,
}


def limit(seconds: float) -> float:
    """Return a time limit, which a rehearsal may shorten."""
    return seconds * float(os.environ.get("PROVISION_LIMITS_FACTOR") or 1)


def metadata(path: str, timeout: float = WAIT) -> bytes:
    """Return the value of `path` in the metadata service (IMDSv2); raises OSError."""
    own = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT")
    first = None
    for base in (own,) if own else METADATA:
        try:
            return _metadata(base.rstrip("/") + "/latest/", path, timeout)
        except urllib.error.HTTPError:
            raise
        except OSError as error:
            first = first or error
    raise first or OSError("no address")


def _metadata(base: str, path: str, timeout: float) -> bytes:
    # Use no proxy: a proxy cannot reach this machine's metadata.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    life = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
    with direct.open(
        urllib.request.Request(base + "api/token", b"", life, method="PUT"),
        timeout=timeout,
    ) as answer:
        token = answer.read().decode()
    request = urllib.request.Request(base + path, headers={"X-aws-ec2-metadata-token": token})
    with direct.open(request, timeout=timeout) as answer:
        return bytes(answer.read())


def credentials() -> dict[str, str]:
    """Return the credentials of this machine's role from IMDS; raises OSError with advice."""
    roles = "meta-data/iam/security-credentials/"
    try:
        role = metadata(roles).decode().split("\n")[0]
        told = json.loads(metadata(roles + role))
        return {name: told[name] for name in ("AccessKeyId", "SecretAccessKey", "Token", "Expiration")}
    except (OSError, ValueError, KeyError) as error:
        raise OSError(f"this machine has no credentials ({error}): it needs an instance profile") from error


def endpoint(service: str, region: str) -> str:
    """Return the URL of an AWS service, or of the double; `service` is the first part of the host name."""
    own = os.environ.get("AWS_ENDPOINT_URL")
    if own:
        return own.rstrip("/")
    # The user-data sets the domain of the region's partition.
    return f"https://{service}.{region}.{os.environ.get('PROVISION_DOMAIN') or 'amazonaws.com'}"


def object_url(bucket: str, key: str, region: str) -> str:
    base = endpoint("s3", region)
    path = urllib.parse.quote(key, safe="/-_.~")
    # With a dot in the bucket's name, S3's certificate does not match the bucket's host name.
    if "." in bucket or os.environ.get("AWS_ENDPOINT_URL"):
        return f"{base}/{bucket}/{path}"
    return f"https://{bucket}.{base[8:]}/{path}"


def signed(
    method: str,
    url: str,
    service: str,
    region: str,
    own: Mapping[str, str],
    moment: str,
    more: Mapping[str, str] = {},
    sha256: str = NOTHING,
) -> dict[str, str]:
    """Return the headers of a signed request (Signature Version 4).

    `url` is percent-encoded. `own` are the credentials. `moment` is the current time, as in 20261231T235959Z.
    `more` headers are added; their names are lower-case. `sha256` is the body's.
    """
    parts = urllib.parse.urlsplit(url)
    headers = {
        "host": parts.netloc,
        "x-amz-content-sha256": sha256,
        "x-amz-date": moment,
        **more,
    }
    if own["Token"]:
        headers["x-amz-security-token"] = own["Token"]
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in sorted(headers))
    canonical = f"{method}\n{parts.path or '/'}\n\n{lines}\n{names}\n{sha256}"
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    text = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            moment,
            scope,
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    key = ("AWS4" + own["SecretAccessKey"]).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={own['AccessKeyId']}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return headers


def amz_date(moment: float) -> str:
    """Return a Unix time in the format of a signature, as in 20261231T235959Z."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment))


def server_time(headers: Any) -> float | None:
    """Return the Unix time in a response's Date header; None if the header is missing or invalid."""
    try:
        return parsedate_to_datetime(headers["Date"]).timestamp()
    except (TypeError, ValueError):
        return None


def fetch(bucket: str, key: str, region: str, sha256: str) -> bytes:
    """Return the object; raises OSError with advice, or ValueError if the checksum differs."""
    own = credentials()
    url = object_url(bucket, key, region)
    headers = signed("GET", url, "s3", region, own, amz_date(time.time()))
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=limit(WAIT)) as answer:
            data = bytes(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            raise OSError(f"{url}: {error.code} {explained(error, own['Expiration'])}") from error
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{url}: {getattr(error, 'reason', error)}: {way_out(error)}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{url} does not have the expected SHA-256 checksum: the object was replaced")
    return data


def way_out(error: BaseException) -> str:
    """Return what to do if S3 or a proxy gives no usable answer."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, socket.gaierror):
        return "the name does not resolve: turn on the VPC's DNS support, or correct the DNS server in its DHCP options"
    if isinstance(reason, (ssl.SSLError, http.client.HTTPException)):
        return "another server answers in place of S3 (a proxy?), or this machine's clock is wrong"
    return (
        "the subnet has no way out: it needs a route to S3 (an internet gateway and public addresses, a NAT gateway, "
        "or an S3 endpoint), and the security groups must allow HTTPS out"
    )


def explained(error: urllib.error.HTTPError, expiration: str) -> str:
    """Return S3's error code and what to do; `expiration` is the time at which the credentials expire."""
    body = error.read(65536).decode(errors="replace")
    found = re.search(r"<Code>(\w+)</Code>", body)
    code = found[1] if found else error.reason
    # Without the server's time, use this machine's clock.
    now = server_time(error.headers) or time.time()
    late = (now - time.time()) / 60
    if code == "RequestTimeTooSkewed":
        way = "behind" if late > 0 else "ahead"
        return f"{code}: this machine's clock is {abs(late):.0f} min {way}: its AMI needs a time service (chrony)"
    if code == "ExpiredToken" or expiration < time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)):
        return (
            f"{code}: the credentials of this machine's role expired at {expiration}, "
            "and the metadata service has no newer ones"
        )
    if found and (right := re.search(r"\bkms:\w+", body)):
        return f"{code}: the machine's role needs {right[0]} on the bucket's key: see `kms_keys` in the settings"
    return f"{code}: {ADVICE.get(code, 'unknown error')}"


def persistent(bucket: str, key: str, region: str, sha256: str) -> bytes:
    """Return the object, after at most BUDGET seconds of tries; raises OSError with advice."""
    got: list[bytes] = []
    over = threading.Event()
    trouble = f"{object_url(bucket, key, region)}: no answer within {limit(BUDGET):.0f} s: {way_out(OSError())}"

    def work() -> None:
        nonlocal trouble
        for pause in (*PAUSES, 0):
            try:
                got.append(fetch(bucket, key, region, sha256))
                return
            except (OSError, ValueError) as error:
                trouble = str(error)
            time.sleep(limit(pause))
            if over.is_set():
                return

    # In a thread, because nothing else ends a call that waits for a name server.
    worker = threading.Thread(target=work, name="fetch", daemon=True)
    worker.start()
    worker.join(limit(BUDGET))
    over.set()
    if not got:
        raise OSError(trouble)
    return got[0]


def main() -> None:
    bucket, key, region, sha256, target = sys.argv[1:]
    try:
        data = persistent(bucket, key, region, sha256)
    except OSError as error:
        sys.exit(str(error))
    with open(target + ".part", "wb") as file:
        file.write(data)
    os.replace(target + ".part", target)


if __name__ == "__main__":
    main()
