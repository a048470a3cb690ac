"""Fetch one object of S3 with the machine's own credentials; standard library only.

It travels inside the user-data, so it stays small and ASCII: fetch.py BUCKET KEY REGION SHA256 FILE
"""

import hashlib
import hmac
import json
import os
import sys
import time
import urllib.parse
import urllib.request

NOTHING = hashlib.sha256(b"").hexdigest()


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
    """The object, if it is the one meant; raises OSError or ValueError."""
    roles = "meta-data/iam/security-credentials/"
    role = metadata(roles).decode().split("\n")[0]
    own = json.loads(metadata(roles + role))
    url = object_url(bucket, key, region)
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    headers = signed(url, region, own["AccessKeyId"], own["SecretAccessKey"], own["Token"], moment)
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
        data = bytes(answer.read())
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{url} is not the agent that was promised")
    return data


def main() -> None:
    bucket, key, region, sha256, target = sys.argv[1:]
    data = fetch(bucket, key, region, sha256)
    with open(target + ".part", "wb") as file:
        file.write(data)
    os.replace(target + ".part", target)


if __name__ == "__main__":
    main()
