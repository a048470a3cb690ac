"""Fetch one object of S3 with the machine's own credentials; standard library only.

It travels inside the user-data, so it stays small and ASCII: fetch.py BUCKET KEY REGION SHA256 FILE
"""

import hashlib
import hmac
import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from email.utils import parsedate_to_datetime

NOTHING = hashlib.sha256(b"").hexdigest()

STRANGE = "it does not know the credentials of this machine's role: is the instance profile's role still the same?"

#: What a reader is to make of S3's codes (S3 API Reference, "Error responses").
ADVICE = {
    # Without ListBucket this is S3's answer for what is not there, too.
    "AccessDenied": "the role of this machine needs s3:GetObject on agent/ as in machine.json, or nothing is there",
    "NoSuchKey": "nothing is there; `provision start` puts it",
    "NoSuchBucket": "there is no such bucket: see `bucket` in the settings",
    "PermanentRedirect": "the bucket is in another region: see `region` in the settings",
    "AuthorizationHeaderMalformed": "the bucket is in another region: see `region` in the settings",
    "SignatureDoesNotMatch": "the secret key of this machine's credentials is wrong, or a proxy changed the request",
    "InvalidAccessKeyId": STRANGE,
    "InvalidToken": STRANGE,
}


def metadata(path: str, timeout: float = 5.0) -> bytes:
    """What the metadata service (IMDSv2) says under `path`; raises OSError."""
    base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or "http://169.254.169.254"
    base = base.rstrip("/") + "/latest/"
    # No proxy ever stands between a machine and its metadata.
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


def object_url(bucket: str, key: str, region: str) -> str:
    path = urllib.parse.quote(key, safe="/-_.~")
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        return f"{endpoint.rstrip('/')}/{bucket}/{path}"
    host = f"s3.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")
    # A dot in a bucket's name does not match the certificate of its own host name.
    return f"https://{host}/{bucket}/{path}" if "." in bucket else f"https://{bucket}.{host}/{path}"


def signed(url: str, region: str, access_key: str, secret_key: str, token: str, moment: str) -> dict[str, str]:
    """The headers of a GET of `url`, whose path is quoted already (Signature Version 4).

    `moment` is now, as in 20261231T235959Z.
    """
    parts = urllib.parse.urlsplit(url)
    headers = {
        "host": parts.netloc,
        "x-amz-content-sha256": NOTHING,
        "x-amz-date": moment,
    }
    if token:
        headers["x-amz-security-token"] = token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"GET\n{parts.path}\n\n{lines}\n{names}\n{NOTHING}"
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    text = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            moment,
            scope,
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    key = ("AWS4" + secret_key).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return headers


def fetch(bucket: str, key: str, region: str, sha256: str) -> bytes:
    """The object, if it is the one meant; raises OSError or ValueError, which say what to do."""
    roles = "meta-data/iam/security-credentials/"
    try:
        role = metadata(roles).decode().split("\n")[0]
        own = json.loads(metadata(roles + role))
    except OSError as error:
        raise OSError(f"this machine has no credentials ({error}): it needs an instance profile") from error
    url = object_url(bucket, key, region)
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    headers = signed(url, region, own["AccessKeyId"], own["SecretAccessKey"], own["Token"], moment)
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
            data = bytes(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            raise OSError(f"{url}: {error.code} {explained(error, own['Expiration'])}") from error
    except urllib.error.URLError as error:
        raise OSError(f"{url}: {error.reason}: the subnet needs a way to S3") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{url} is not the agent that was promised")
    return data


def explained(error: urllib.error.HTTPError, expiration: str) -> str:
    """S3's code and what to do about it, given when the credentials expire."""
    found = re.search(r"<Code>(\w+)</Code>", error.read(65536).decode(errors="replace"))
    code = found[1] if found else error.reason
    now = time.time()
    try:
        now = parsedate_to_datetime(error.headers["Date"]).timestamp()
    except (TypeError, ValueError):
        # Then this machine's own clock has to do.
        pass
    late = (now - time.time()) / 60
    if code == "RequestTimeTooSkewed":
        way = "behind" if late > 0 else "ahead"
        return f"{code}: this machine's clock is {abs(late):.0f} min {way}: its image needs a time service (chrony)"
    if code == "ExpiredToken" or expiration < time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)):
        return f"{code}: the credentials of this machine's role expired at {expiration}, and it is given no newer ones"
    return f"{code}: {ADVICE.get(code, 'unknown to us')}"


def main() -> None:
    bucket, key, region, sha256, target = sys.argv[1:]
    try:
        data = fetch(bucket, key, region, sha256)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    with open(target + ".part", "wb") as file:
        file.write(data)
    os.replace(target + ".part", target)


if __name__ == "__main__":
    main()
