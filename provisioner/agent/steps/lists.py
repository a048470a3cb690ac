"""The steps of a node's work, in order; each step is small and may be repeated.

Preparing stops at the first step that raises Ended; cleaning up runs all of its steps.
"""

from __future__ import annotations

from collections.abc import Callable

from provisioner.agent.node import Node
from provisioner.agent.steps.evidence import find_evidence
from provisioner.agent.steps.executing import claim, execute, look_for_predecessor, salvage
from provisioner.agent.steps.finishing import (
    end_job,
    hold_for_notice,
    last_report,
    name_bash,
    put_result,
    settle_result,
    ship_logs,
)
from provisioner.agent.steps.gathering import meet_peers, wait_for_ranks
from provisioner.agent.steps.gpus import check_gpus, describe_gpus
from provisioner.agent.steps.instance_store import use_instance_store
from provisioner.agent.steps.listing import salvage_list, work_list
from provisioner.agent.steps.next_attempt import offer_machine, wait_for_work
from provisioner.agent.steps.preparing import (
    fetch_secrets,
    look_for_image,
    pull_and_clone,
    set_up,
    swap_fuse,
    wait_for_engine,
)


def work(node: Node) -> None:
    """Execute the command or the list of commands."""
    (work_list if node.order.commands else execute)(node)


def go_on(node: Node) -> None:
    """Continue the work of an agent process that died."""
    (salvage_list if node.order.commands else salvage)(node)


PREPARING: tuple[Callable[[Node], None], ...] = (
    swap_fuse,
    look_for_predecessor,
    check_gpus,
    wait_for_engine,
    use_instance_store,
    describe_gpus,
    look_for_image,
    fetch_secrets,
    pull_and_clone,
    meet_peers,
    set_up,
    wait_for_ranks,
    claim,
    work,
)


#: Replaces PREPARING if an earlier agent process of this boot died.
SALVAGING: tuple[Callable[[Node], None], ...] = (
    swap_fuse,
    go_on,
)


#: The steps that are left once the result is settled.
ENDING: tuple[Callable[[Node], None], ...] = (
    put_result,
    offer_machine,
    last_report,
    wait_for_work,
    hold_for_notice,
)


CLEANING_UP: tuple[Callable[[Node], None], ...] = (
    find_evidence,
    end_job,
    name_bash,
    ship_logs,
    settle_result,
    *ENDING,
)
