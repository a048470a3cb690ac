"""Read the batches of a list, and ask for spot notices, in a thread of its own: these requests may take seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.agent.machine import kernel
from provisioner.agent.machine.shutdown import shutting_down
from provisioner.agent.node import Node
from provisioner.agent.slots.held import HeldFailures
from provisioner.agent.slots.queue import Queue
from provisioner.core.errors import Invalid
from provisioner.core.protocol.messages import Recall

#: Seconds between two turns of the thread.
TURN = 0.2

#: Seconds between two requests for a notice while failures wait for the answer.
CONFIRM = 1.0


@dataclass(frozen=True)
class Checked:
    """A check that found no notice and no shutdown: its begin, and whether new out-of-memory kills were found."""

    at: float = 0.0
    out_of_memory: bool = False


class Errands(threading.Thread):
    def __init__(self, node: Node, queue: Queue, held: HeldFailures) -> None:
        super().__init__(name="batches", daemon=True)
        self._node = node
        self._queue = queue
        self._held = held
        #: The highest number of batches that the orders gave, and whether they said that no batch follows.
        self._batches, self._last = queue.read, False
        self._kills = 0
        #: The last request for a notice.
        self.checked = Checked()
        #: Whether the list ends early, so that no command may begin.
        self.finish = False
        #: Why the list cannot go on; empty if it can.
        self.trouble = ""
        #: Set to end the thread.
        self.over = threading.Event()

    @property
    def complete(self) -> bool:
        """Whether every batch of this machine was read."""
        return self._last and self._queue.read >= self._batches

    def run(self) -> None:
        confirm, self._kills = 0.0, self._killed()
        while not self.over.wait(TURN):
            try:
                self._fetch()
                if self._held and time.monotonic() >= confirm:
                    confirm = time.monotonic() + CONFIRM
                    self.confirm()
            except Exception as error:  # noqa: BLE001 - without this thread the list would never go on
                self._node.say(f"the reader of batches failed, and goes on: {error!r}")

    def _fetch(self) -> None:
        orders = self._node.orders.commands
        if orders is not None:
            self._batches = max(self._batches, orders.batches)
            self._last = self._last or orders.last
            if orders.finish and not self.finish:
                self.finish = True
                self._node.say("the list ends early: no command begins any more")
            self._give_back(orders.recalls)
        while self._queue.read < self._batches and not self.trouble:
            number = self._queue.read + 1
            data = self._node.mailbox.batch(number)
            if data is None:
                return
            try:
                self._queue.add(number, data)
            except Invalid as error:
                self.trouble = f"batch {number} cannot be read: {error}"

    def _give_back(self, recalls: Sequence[Recall]) -> None:
        given = [each for each in recalls if self._queue.give_back(each.batch, each.spare)]
        if given:
            self._node.say(f"commands that have not begun are given back, of batch {given[0].batch}")
            self._node.changed.set()

    def confirm(self) -> None:
        """Set `checked`, so that earlier failures count, unless an interruption or a broken GPU may be the cause."""
        node, at = self._node, time.time()
        try:
            if node.look_for_notice() is not None:
                return
        except OSError:
            return
        # A shutdown by the fuse is not an interruption.
        if at < node.machine.launch_time + node.order.lifetime and shutting_down():
            return
        if node.look_at_gpus():
            return
        found = False
        if self._held.killed:
            kills = self._killed()
            found, self._kills = kills > self._kills, kills
        self.checked = Checked(at, found)

    def _killed(self) -> int:
        """Return how many processes the kernel has killed because no memory was left."""
        return len(kernel.killed(kernel.messages(self._node.kernel_mark or "")))
