"""The steps of a run with several ranks: learn the addresses of all ranks, and start together with them."""

from __future__ import annotations

import time

from provisioner.agent.node import Node
from provisioner.agent.outcomes import Ended
from provisioner.core.errors import Invalid
from provisioner.core.protocol.messages import limit_of
from provisioner.core.protocol.words import Outcome, Step

#: Seconds between two requests for the addresses.
LOOK_EVERY = 0.25


def meet_peers(node: Node) -> None:
    """Wait for the addresses of all ranks; the control plane writes them once a listing has shown all machines."""
    order = node.order
    if order.scale == 1:
        return
    began = time.time()
    end = began + order.gather_limit
    while not node.peers:
        node.halt.check(node.step)
        if time.time() >= end:
            limit = limit_of("gather", order.gather_limit)
            raise Ended(Outcome.LOST, node.step, f"the addresses of the other ranks did not arrive within {limit}")
        try:
            peers = node.mailbox.peers()
        except Invalid as error:
            raise Ended(Outcome.LOST, node.step, f"the addresses of the other ranks cannot be read: {error}") from error
        if peers is not None and (peers.run, peers.attempt) == (order.run, order.attempt):
            node.peers = peers.addresses
        else:
            time.sleep(LOOK_EVERY)
    node.waited = time.time() - began


def wait_for_ranks(node: Node) -> None:
    """Report that this rank is ready, and wait for the order to start, which comes when all ranks are ready."""
    order = node.order
    if order.scale == 1:
        return
    node.halt.check(Step.SETUP)
    node.begin(Step.BARRIER)
    node.say(f"rank {order.rank} of {order.scale} is ready and waits for the others")
    # The limit is for both waits together, because the machine's lifetime includes it once.
    end = node.began(Step.BARRIER) + order.gather_limit - node.waited
    # An order to stop comes before an order to start, and takes effect a moment after it was read.
    while node.orders.start != order.attempt or node.orders.stop is not None:
        node.halt.check(Step.BARRIER)
        if node.engine.exit_code() is not None:
            raise Ended(Outcome.LOST, Step.BARRIER, "the job's first shell ended while it waited for the other ranks")
        if time.time() >= end:
            limit = limit_of("gather", order.gather_limit)
            raise Ended(Outcome.LOST, Step.BARRIER, f"not all ranks were ready within {limit}")
        time.sleep(0.05)
    node.halt.check(Step.BARRIER)
    node.end(Step.BARRIER)
