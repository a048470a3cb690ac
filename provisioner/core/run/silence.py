"""Silence is not death, and the silence of many is ours."""

from collections.abc import Sequence

from provisioner.core.run.records import Node

#: No word for eighteen heartbeats: worth a question to the cloud, and no more than that.
SILENT = 180.0
#: Of so many machines at least, more than this share silent at once: it is rather us who are deaf.
FEWEST, SHARE = 5, 0.2


def is_silent(node: Node, now: float) -> bool:
    """Whether a machine that reported once has not been heard for long."""
    return node.verdict is None and node.reported_at is not None and now > node.reported_at + SILENT


def are_we_deaf(nodes: Sequence[Node], now: float) -> bool:
    """Whether so many machines are silent at once that the fault is likely ours."""
    reporting = [node for node in nodes if node.verdict is None and node.report is not None]
    silent = sum(is_silent(node, now) for node in reporting)
    return len(reporting) >= FEWEST and silent > SHARE * len(reporting)
