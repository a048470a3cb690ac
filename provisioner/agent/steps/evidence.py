"""Find the machine's evidence of a failure: processes that the kernel killed, GPU errors, and full disks."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.agent.machine import kernel, xids
from provisioner.agent.machine.disk import Disks
from provisioner.agent.node import Node
from provisioner.agent.outcomes import NAMED
from provisioner.core.protocol.words import Outcome, Step


def find_evidence(node: Node) -> None:
    """Add evidence from the kernel and the disks to the reason of a failure; after any other end only log it."""
    ended = node.ended
    if ended.step is Step.BOOT:
        return
    failed = ended.outcome in (Outcome.FAILED, Outcome.LOST, Outcome.TIMED_OUT)
    evidence = [*_of_kernel(node, failed), *_of_disks(node)]
    if failed:
        # Changed in place, so that the other fields of `ended` stay.
        ended.reason = "; ".join([ended.reason, *evidence])
        return
    for words in evidence:
        node.say(words)


def _of_kernel(node: Node, failed: bool) -> Iterator[str]:
    if node.kernel_mark is None:
        return
    lines = kernel.messages(node.kernel_mark)
    killed = kernel.killed(lines)
    if killed or (failed and node.engine.out_of_memory()):
        names = _some(killed) or "a process of the job"
        yield f"out of memory: the kernel killed {names}; use an instance type with more memory"
    # The reason may name an Xid already.
    if met := [words for words in map(str, xids.xids(lines)) if words not in node.ended.reason]:
        yield f"the GPU driver logged {_some(met)}"


def _of_disks(node: Node) -> Iterator[str]:
    disks = node.disks or Disks(node.paths.home, node.engine.folders())
    disks.look()
    if words := disks.full(node.ended.reason):
        yield words


def _some(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
