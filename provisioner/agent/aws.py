"""AWS with the machine's own role: botocore alone, for boto3's cover takes a tired machine 0.2 s to import."""

from __future__ import annotations

import time
from typing import Any

from botocore.config import Config
from botocore.session import Session

#: One layer of retries, ours; half a minute is more than S3 needs to answer anything we send.
CONFIG = Config(
    connect_timeout=5,
    read_timeout=30,
    retries={"total_max_attempts": 1, "mode": "standard"},
)


def client(service: str, region: str) -> Any:
    """botocore's client, once the machine has credentials: its role may be attached a moment after it boots."""
    session = Session()
    while session.get_credentials() is None:
        time.sleep(1)
        session = Session()
    return session.create_client(service, region_name=region, config=CONFIG)
