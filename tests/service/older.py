"""The bucket as an agent of an earlier release sees it: without the messages and fields that it does not know."""

import json
from typing import Any

from provisioner.rehearsal.machines.scripted_agent import AgentBucket

#: The fields that the last release without runs on several machines knew. Its agents ignore other fields of what they
#: read, and write no others.
ORDERS = {"followed_until", "stop"}
STOP = {"at", "outcome", "reason"}
REPORT = {
    *("at", "finished", "host_keys", "notice", "process", "produced", "rebalance_at", "sequence", "shipped", "spans"),
    "step",
}
WORK = {
    *("attempt", "authorized_key", "checkpoint", "command", "config_files", "engine", "environment", "gpus"),
    *("heartbeat_interval", "image", "job", "job_id", "known_hosts", "lifetime", "owner", "packages", "pull_limit"),
    *("rank", "registry_credential", "repositories", "run", "runtime_limit", "scale", "secrets", "setup_limit"),
    *("shm_size", "spool_limit", "start_script", "stop_grace", "working_directory"),
}
#: The outcomes with which it could be told to stop.
OUTCOMES = {"succeeded", "failed", "cancelled", "timed_out", "interrupted", "lost", "refused"}


class OlderBucket:
    """The bucket operations of an older agent. Raises AssertionError for what that agent could not read."""

    def __init__(self, bucket: AgentBucket) -> None:
        self._bucket = bucket

    def get(self, key: str) -> bytes | None:
        data = self._bucket.get(key)
        name = key.rpartition("/")[2]
        if data is None or key.startswith("agent/"):
            return data
        message = json.loads(data)
        if name == "work":
            return known(message, WORK)
        if name == "orders":
            if message["stop"] is not None:
                assert message["stop"]["outcome"] in OUTCOMES
                message["stop"] = json.loads(known(message["stop"], STOP))
            return known(message, ORDERS)
        assert name in ("started", "result"), f"an older agent does not read {key}"
        return data

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        if key.startswith("inbox/"):
            data = known(json.loads(data), REPORT)
        return self._bucket.put(key, data, if_absent=if_absent)


def known(message: dict[str, Any], names: set[str]) -> bytes:
    """Return the message with these fields only."""
    assert names <= message.keys(), f"an older agent needs {sorted(names - message.keys())}"
    return json.dumps({name: message[name] for name in names}, sort_keys=True).encode()
