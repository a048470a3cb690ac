"""Judge the silence of machines: when it proves nothing, and when the control plane itself is likely at fault."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from provisioner.core.run.records import Node

#: Seconds without a report (18 heartbeats) after which the machine's status checks are read from the cloud.
SILENT = 180.0
#: If the machines of at least FEWEST runs have reported, and those of more than SHARE of the runs are silent, the
#: control plane is likely at fault.
FEWEST, SHARE = 5, 0.2
#: After reports could not be read, silence proves nothing for this many seconds: reports may be waiting unread.
HEARING = 60.0


@dataclass(frozen=True)
class Hearing:
    """The Unix times at which the machines' reports were last read, and at which they last could not be read."""

    read_at: float = 0.0
    unreadable_at: float = 0.0

    def paused_until(self, now: float) -> "Hearing":
        """Return self, with `unreadable_at` set to `now` if no reports were read for HEARING seconds.

        The reason may be a start, an outage or a stall of this process.
        """
        return self.failed(now) if now > self.read_at + HEARING else self

    def failed(self, now: float) -> "Hearing":
        return replace(self, unreadable_at=now)

    def succeeded(self, asked_at: float) -> "Hearing":
        """Return self after all reports were read; their listing was requested at the Unix time `asked_at`."""
        return replace(self.paused_until(asked_at), read_at=asked_at)


def is_silent(node: Node, now: float) -> bool:
    """Return whether the node has no verdict, and its machine has reported, but not in the last SILENT seconds."""
    return node.verdict is None and node.reported_at is not None and now > node.reported_at + SILENT


def are_we_deaf(nodes: Sequence[Node], now: float) -> bool:
    """Return whether the machines of so many runs are silent at once that the control plane is likely at fault."""
    reporting = [node for node in nodes if node.verdict is None and node.report is not None]
    runs, silent = {node.run for node in reporting}, {node.run for node in reporting if is_silent(node, now)}
    return len(runs) >= FEWEST and len(silent) > SHARE * len(runs)
