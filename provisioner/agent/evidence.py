"""What the machine itself knows of a failure: whom the kernel killed, what the GPUs met, which disk is full."""

from __future__ import annotations

from provisioner.agent import kernel
from provisioner.agent.disk import Disks
from provisioner.agent.ending import Ended
from provisioner.agent.gpus import xids
from provisioner.agent.node import Node
from provisioner.core.work import Outcome, Step

#: A reason is one line: of many alike so many are named.
NAMED = 3


def explained(node: Node, ended: Ended) -> Ended:
    """The end with its evidence in the reason, where it is a failure; of any other it is only said."""
    if ended.step is Step.BOOT:
        return ended
    evidence = [*_of_kernel(node), *_of_disks(node, ended)]
    if ended.outcome in (Outcome.FAILED, Outcome.LOST, Outcome.TIMED_OUT):
        return Ended(ended.outcome, ended.step, "; ".join([ended.reason, *evidence]), ended.exit_code)
    for words in evidence:
        node.say(words)
    return ended


def _of_kernel(node: Node) -> list[str]:
    if node.kernel_mark is None:
        return []
    lines = kernel.messages(node.kernel_mark)
    found = []
    if killed := kernel.killed(lines):
        found.append(f"out of memory: the kernel killed {_some(killed)}; a larger instance type has more")
    if met := xids(lines):
        found.append(f"the GPU driver logged {_some(met)}")
    return found


def _of_disks(node: Node, ended: Ended) -> list[str]:
    disks = node.disks or Disks(node.place.home, node.engine.folders())
    disks.look()
    words = disks.full(ended.reason)
    return [words] if words else []


def _some(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
