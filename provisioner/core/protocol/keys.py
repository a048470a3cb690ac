"""Bucket keys of messages, and other names that agent and control plane share; standard library only."""

from __future__ import annotations

#: Parts of the host names of a run's machines, and the values of SATURN_INTERNAL_SUBDOMAIN and SATURN_NAMESPACE.
SUBDOMAIN, NAMESPACE = "machines", "provision"


def mailbox(role_id: str, instance_id: str) -> str:
    """Return the machine's name in the bucket: its `aws:userid` (IAM User Guide, "Policy variables")."""
    return f"{role_id}:{instance_id}"


def container_name(run: str, attempt: int, rank: int) -> str:
    """Return the name of the job's container in the container engine."""
    return f"provision-{run}-{attempt}-{rank}"


def rank_name(run: str, rank: int) -> str:
    """Return the host name by which the processes of a run reach the machine of a rank.

    Saturn Cloud's documents build this name from the variables SATURN_JOB_RUN, SATURN_INTERNAL_SUBDOMAIN and
    SATURN_NAMESPACE.
    """
    return f"{run}-{rank}.{SUBDOMAIN}.{NAMESPACE}.svc.cluster.local"


def work_key(box: str, later: int = 0) -> str:
    """Return the key of a machine's work order; `later` is the attempt, or 0 for the machine's first attempt."""
    return f"machines/{box}/work{_of(later)}"


def orders_key(box: str) -> str:
    return f"machines/{box}/orders"


def peers_key(box: str) -> str:
    return f"machines/{box}/peers"


def started_key(box: str, later: int = 0) -> str:
    """Return the key of the `started` mark; `later` as in `work_key`."""
    return f"machines/{box}/started{_of(later)}"


def result_key(box: str, later: int = 0) -> str:
    """Return the key of the result; `later` as in `work_key`."""
    return f"machines/{box}/result{_of(later)}"


def waits_key(box: str) -> str:
    """Return the key of the object that a machine writes before it waits for a later work order.

    A machine whose role may write this object may write all keys of a later attempt.
    """
    return f"machines/{box}/result/waits"


def log_folder(box: str, later: int = 0) -> str:
    """Return the prefix of all streams of a log; `later` as in `work_key`."""
    return f"machines/{box}/log{_of(later)}/"


def log_prefix(box: str, stream: str, later: int = 0) -> str:
    """Return the prefix of a stream's chunks; `later` as in `work_key`."""
    return f"{log_folder(box, later)}{stream}/"


def chunk_key(box: str, stream: str, offset: int, later: int = 0) -> str:
    """Return the key of the chunk that begins at byte `offset`; keys of a stream sort in the order of its bytes."""
    return f"{log_prefix(box, stream, later)}{offset:015d}"


def _of(later: int) -> str:
    return f"/{later}" if later else ""


def report_key(box: str, sequence: int) -> str:
    return f"inbox/{box}/{sequence:010d}"


def batch_key(box: str, number: int) -> str:
    """Return the key of a batch of a list's commands; a machine's batches are numbered from 1."""
    return f"machines/{box}/chunks/{number:06d}"


def records_prefix(box: str) -> str:
    """Return the prefix of the chunks of the stream `records`."""
    return f"inbox/{box}/records/"


def records_key(box: str, offset: int) -> str:
    """Return the key of the chunk of the stream `records` that begins at byte `offset`.

    These chunks are in the inbox, so that a pass finds those of all machines with one listing.
    """
    return f"{records_prefix(box)}{offset:015d}"


def agent_key(sha256: str) -> str:
    return f"agent/{sha256}.zip"
