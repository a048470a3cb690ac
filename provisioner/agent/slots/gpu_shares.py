"""Share a machine's GPUs among the slots of a list of commands."""

from __future__ import annotations

from collections.abc import Sequence

from provisioner.agent.machine.tools import OVERDUE, ask
from provisioner.agent.machine.xids import place
from provisioner.agent.node import Node
from provisioner.agent.outcomes import Ended
from provisioner.core.protocol.words import Outcome, Step


def shares(uuids: Sequence[str], slots: int) -> list[tuple[str, ...]]:
    """Return the GPUs of each slot, by UUID.

    With at least as many GPUs as slots, each slot has the same number of GPUs of its own, and a rest stays unused. With
    fewer, several slots share one GPU.
    """
    each = len(uuids) // slots
    if each:
        return [tuple(uuids[slot * each : (slot + 1) * each]) for slot in range(slots)]
    return [(uuids[slot % len(uuids)],) if uuids else () for slot in range(slots)]


def may_use_broken_gpu(node: Node, slot: int) -> bool:
    """Return whether the command of a slot may use a GPU that broke.

    True if the GPUs of the slot are not known, or if the GPU that broke is none of the machine's known GPUs.
    """
    broken = {place(xid.where) for xid in node.broken_gpus}
    own = node.slot_gpus[slot] if node.slot_gpus else frozenset[str]()
    return not own or bool(own & broken) or not broken <= node.gpu_places


def gpu_places() -> dict[str, str]:
    """Return the PCI addresses of the machine's GPUs, by UUID; empty if the driver does not report them.

    Raises OSError, and Ended if the driver hangs.
    """
    answer = ask(["nvidia-smi", "--query-gpu=uuid,pci.bus_id", "--format=csv,noheader"])
    if answer.code == OVERDUE:
        raise Ended(Outcome.LOST, Step.SETUP, f"the GPU driver hangs: {answer.text}")
    rows = [line.split(",") for line in answer.text.splitlines()]
    found = {row[0].strip(): place(row[-1]) for row in rows if row[0].startswith("GPU-")}
    return found if not answer.code else {}
