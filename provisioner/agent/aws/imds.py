"""Read this machine's identity and notices from its metadata (EC2 User Guide, "Instance identity documents")."""

from __future__ import annotations

import calendar
import json
import time
import urllib.error
from dataclasses import dataclass

from provisioner.agent.aws.fetch import metadata
from provisioner.core.protocol.messages import Notice


@dataclass(frozen=True)
class Identity:
    instance_id: str
    instance_type: str
    region: str
    address: str
    launch_time: float


def identity() -> Identity:
    """Wait until the metadata service answers, and return this machine's identity; the agent cannot work without it."""
    while True:
        try:
            document = json.loads(metadata("dynamic/instance-identity/document"))
            return Identity(
                instance_id=document["instanceId"],
                instance_type=document["instanceType"],
                region=document["region"],
                address=document["privateIp"],
                launch_time=seconds(document["pendingTime"]),
            )
        except (OSError, ValueError) as error:
            print(f"the metadata service does not answer: {error}", flush=True)
            time.sleep(1)


def notice() -> Notice | None:
    """Return the spot notice, or None (EC2 User Guide, "Spot Instance interruption notices"); raises OSError."""
    action = _document("meta-data/spot/instance-action")
    return None if action is None else Notice(at=seconds(action["time"]), seen=time.time())


def rebalance() -> float | None:
    """Return the Unix time of the cloud's rebalance recommendation, or None; raises OSError.

    EC2 User Guide, "EC2 instance rebalance recommendations".
    """
    said = _document("meta-data/events/recommendations/rebalance")
    return None if said is None else seconds(said["noticeTime"])


def _document(path: str) -> dict[str, str] | None:
    """Return a JSON document of the metadata service, or None if it does not exist; raises OSError."""
    try:
        return dict(json.loads(metadata(path)))
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            return None
        raise


def seconds(text: str) -> float:
    """Return the Unix time of a timestamp of the metadata service, such as 2026-12-31T23:59:59Z."""
    return float(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")))
