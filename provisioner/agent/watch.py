"""Send the heartbeat, and watch for the control plane's orders and the cloud's notices, while the steps run."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from provisioner.agent.aws.imds import rebalance
from provisioner.agent.node import Node
from provisioner.agent.outcomes import TAKEN, Cause, broken
from provisioner.core.errors import Invalid
from provisioner.core.protocol.messages import Notice, Stop
from provisioner.core.protocol.words import Outcome, Step

#: Seconds between two reads of the orders: in a run with one rank, or with a list; in a run with several ranks, which
#: stop together; and in a rank that waits at the barrier, because all ranks start together.
ORDERS_INTERVAL, RANKS_INTERVAL, BARRIER_INTERVAL = 1.5, 0.5, 0.25

#: Maximum number of seconds between two reads of the orders while the machine ends many commands of a list, and the
#: factor for its heartbeat.
BRISK_INTERVAL, BRISK_HEARTBEAT = 10.0, 6

#: Maximum number of seconds that a rank waits for the common time of SIGTERM, after its own spot notice or after an
#: order with that time. After a short notice, it is an eighth of the remaining time.
LATEST_INSTANT = 15.0

#: Seconds between two requests for a notice, as AWS recommends (EC2 User Guide, "Spot Instance interruption notices").
NOTICE_INTERVAL = 5.0

#: Seconds between two reads of the kernel's log, the only place where a GPU that breaks is named.
GPU_INTERVAL = 10.0

#: Seconds between SIGKILL and the end of the machine, so that the last bytes of the log still reach the bucket. After
#: a short notice it is half of the remaining time, so that the job has the other half.
LAST_BYTES = 20.0


def kill_time(notice: Notice) -> float:
    """Return the Unix time of SIGKILL after a spot notice; the job has about 100 s of a two-minute notice."""
    return notice.at - min(LAST_BYTES, max(0.0, notice.at - notice.seen) / 2)


class Watch:
    """The watcher threads of a node. They never end the work themselves; they add a cause to `node.halt`."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._over = threading.Event()
        self._stop_seen: float | None = None
        #: The time in the last notice that was handled.
        self._notice_at: float | None = None
        self._gpu_interval = float(os.environ.get("PROVISION_GPU_INTERVAL") or GPU_INTERVAL)
        self._notice_interval = float(os.environ.get("PROVISION_NOTICE_INTERVAL") or NOTICE_INTERVAL)

    def start(self) -> None:
        for turn in (self._heartbeat, self.read_orders, self.react_to_notice, self.watch_gpus):
            threading.Thread(target=self._repeat, args=(turn,), name=turn.__name__, daemon=True).start()

    def close(self) -> None:
        """Stop the heartbeat and the reading of orders; notices are watched for until the process ends."""
        self._over.set()
        self._node.changed.set()

    def watch_gpus(self) -> float:
        """End the job if a GPU broke. In a list, only the commands on that GPU end (`Loop`)."""
        node = self._node
        # Before the first step after boot, the check of the GPUs itself reads the log.
        found = node.look_at_gpus() if len(node.spans()) > 1 else ()
        if found and (node.order.commands is None or Step.COMMAND.value not in node.spans()):
            node.halt.ask(Cause(Outcome.LOST, broken(found), time.time() + node.order.stop_grace))
            return 3600.0
        return self._gpu_interval

    def _repeat(self, turn: Callable[[], float]) -> None:
        pause = 0.0
        while turn == self.react_to_notice or not self._over.is_set():
            try:
                pause = turn()
            except Exception as error:  # noqa: BLE001 - without its watcher the node would miss orders and notices
                self._node.say(f"a watcher failed, retrying in 5 s: {error!r}")
                pause = 5.0
            time.sleep(pause)

    def _heartbeat(self) -> float:
        self._node.changed.clear()
        self._node.report()
        usual = self._node.order.heartbeat_interval
        self._node.changed.wait(self._node.paced(usual, usual * BRISK_HEARTBEAT))
        return 0.0

    def read_orders(self) -> float:
        try:
            orders = self._node.mailbox.orders()
        except Invalid as error:
            self._node.say(f"orders that cannot be read: {error}")
            orders = None
        # The mailbox of a machine that is used again has the orders for its earlier attempt, until new ones are put.
        if orders is not None and orders.attempt in (0, self._node.order.attempt):
            self._node.orders = orders
            if orders.stop is not None and orders.stop.at != self._stop_seen:
                self._stop_seen = orders.stop.at
                self._stop(orders.stop)
        if self._node.order.scale == 1 or self._node.order.commands is not None:
            return self._node.paced(ORDERS_INTERVAL, BRISK_INTERVAL)
        return BARRIER_INTERVAL if self._node.step is Step.BARRIER else RANKS_INTERVAL

    def _stop(self, stop: Stop) -> None:
        """Wait until the order's time for SIGTERM, then add the order to `node.halt`."""
        self._node.say(f"ordered to stop ({stop.outcome}): {stop.reason}")
        time.sleep(min(max(0.0, stop.begin_at - time.time()), LATEST_INSTANT))
        kill_at = stop.kill_at or time.time() + self._node.order.stop_grace
        self._node.halt.ask(Cause(stop.outcome, stop.reason, kill_at))

    def react_to_notice(self) -> float:
        node = self._node
        try:
            found = node.look_for_notice()
        except OSError:
            # A notice that was seen before still holds.
            found = node.notice
        if found is not None and found.at != self._notice_at:
            wait = self._term_time(found) - time.time()
            if wait > NOTICE_INTERVAL:
                return min(self._notice_interval, wait - NOTICE_INTERVAL)
            # No request comes between: its answer may take longer than the grace period.
            time.sleep(max(0.0, wait))
            self._notice_at = found.at
            self._wait_for_ranks(found)
            node.halt.ask(Cause(Outcome.INTERRUPTED, TAKEN, kill_time(found)))
        self._rebalance()
        return self._notice_interval

    def _term_time(self, notice: Notice) -> float:
        """Return the Unix time of SIGTERM: 0 for at once. The commands of a list go on for as long as they can."""
        if self._node.order.commands is None or Step.COMMAND.value not in self._node.spans():
            return 0.0
        kill_at = kill_time(notice)
        return kill_at - min(self._node.order.stop_grace, (kill_at - notice.seen) / 2)

    def _wait_for_ranks(self, notice: Notice) -> None:
        """If several ranks execute the command, wait until the order to stop all of them has taken effect here."""
        node = self._node
        if node.order.scale == 1 or Step.COMMAND.value not in node.spans():
            return
        until = notice.seen + min(LATEST_INSTANT, (notice.at - notice.seen) / 8)
        while node.halt.cause is None and time.time() < until:
            time.sleep(0.1)

    def _rebalance(self) -> None:
        """Record a rebalance recommendation, and write its file for the job. The agent itself does not act on it."""
        node = self._node
        if node.rebalance_at is None:
            try:
                node.rebalance_at = rebalance()
            except OSError:
                return
            if node.rebalance_at is None:
                return
            node.say("rebalance recommendation: the spot machine has a higher risk of interruption")
            node.changed.set()
        if node.job_dir is not None:
            node.job_dir.advise(node.rebalance_at)
