"""Share a machine's GPUs among the slots of a list of commands."""

from __future__ import annotations

from collections.abc import Sequence

from provisioner.agent.machine.tools import ask


def shares(uuids: Sequence[str], slots: int) -> list[tuple[str, ...]]:
    """Return the GPUs of each slot, by UUID.

    With at least as many GPUs as slots, each slot has the same number of GPUs of its own, and a rest stays unused. With
    fewer, several slots share one GPU.
    """
    each = len(uuids) // slots
    if each:
        return [tuple(uuids[slot * each : (slot + 1) * each]) for slot in range(slots)]
    return [(uuids[slot % len(uuids)],) if uuids else () for slot in range(slots)]


def gpu_uuids() -> list[str]:
    """Return the UUIDs of the machine's GPUs; empty if the driver does not report them. Raises OSError."""
    answer = ask(["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"])
    lines = [line.strip() for line in answer.text.splitlines()]
    return [line for line in lines if line.startswith("GPU-")] if not answer.code else []
