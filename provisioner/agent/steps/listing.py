"""The steps of a run with a list of commands, instead of the single command."""

from __future__ import annotations

from provisioner.agent.node import Node
from provisioner.agent.slots.loop import Loop
from provisioner.agent.steps.executing import begin_command, take_over


def work_list(node: Node) -> None:
    """Execute the commands that this machine is given, and raise Ended when it gets no more."""
    begin_command(node, "the list of commands starts")
    _attend(node)


def salvage_list(node: Node) -> None:
    """Go on with the list of an agent process that died in this boot."""
    take_over(node)
    _attend(node)


def _attend(node: Node) -> None:
    assert node.order.commands is not None
    raise Loop(node, node.order.commands).run()
