"""Silence of machines: what proves nothing, and when the silence of many machines is our own fault."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from provisioner.core.run.records import Node

#: Seconds without a report, 18 heartbeats, after which the cloud is asked for the machine's status checks.
SILENT = 180.0
#: If at least FEWEST machines report, and more than SHARE of them are silent, the fault is likely ours.
FEWEST, SHARE = 5, 0.2
#: After reports could not be read, silence proves nothing for this many seconds: reports may be waiting unread.
HEARING = 60.0


@dataclass(frozen=True)
class Hearing:
    """When the machines' reports were read, and when they last could not be, as Unix seconds."""

    read_at: float = 0.0
    unreadable_at: float = 0.0

    def paused_until(self, now: float) -> "Hearing":
        """Return the hearing after a start, an outage or a stall that lasted until now, or self if there was none."""
        return self.failed(now) if now > self.read_at + HEARING else self

    def failed(self, now: float) -> "Hearing":
        return replace(self, unreadable_at=now)

    def succeeded(self, asked_at: float) -> "Hearing":
        """Return the hearing after all reports were read; `asked_at` is when they were listed."""
        return replace(self.paused_until(asked_at), read_at=asked_at)


def is_silent(node: Node, now: float) -> bool:
    """Return whether a machine that once reported has not reported for SILENT seconds."""
    return node.verdict is None and node.reported_at is not None and now > node.reported_at + SILENT


def are_we_deaf(nodes: Sequence[Node], now: float) -> bool:
    """Return whether so many machines are silent at once that the fault is likely ours."""
    reporting = [node for node in nodes if node.verdict is None and node.report is not None]
    silent = sum(is_silent(node, now) for node in reporting)
    return len(reporting) >= FEWEST and silent > SHARE * len(reporting)
