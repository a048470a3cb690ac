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
    #: The private IPv4 address; in an IPv6-only subnet, the IPv6 address.
    address: str
    launch_time: float


def identity() -> Identity:
    """Return this machine's identity. Raises OSError, ValueError and KeyError."""
    document = json.loads(metadata("dynamic/instance-identity/document"))
    return Identity(
        instance_id=document["instanceId"],
        instance_type=document["instanceType"],
        region=document["region"],
        # An IPv6-only subnet gives no private IPv4 address: the value is null, or missing (assumed).
        address=document.get("privateIp") or metadata("meta-data/ipv6").decode().strip(),
        launch_time=seconds(document["pendingTime"]),
    )


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
