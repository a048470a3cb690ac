"""Run the agent: wait for the work order, carry it out, and power off the machine in every case."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TextIO, cast

from provisioner.agent import contact, handover
from provisioner.agent.aws.imds import Identity
from provisioner.agent.handover import Memory
from provisioner.agent.job.container import ContainerEngine
from provisioner.agent.job.engine import Engine, ProcessEngine
from provisioner.agent.logs.mask import Mask, Masked
from provisioner.agent.logs.shipper import Shipper
from provisioner.agent.logs.spool import Spool
from provisioner.agent.machine.paths import Paths
from provisioner.agent.machine.tools import ask
from provisioner.agent.mailbox import Mailbox
from provisioner.agent.node import Log, Node
from provisioner.agent.outcomes import Ended
from provisioner.agent.ssh_access import let_in
from provisioner.agent.steps import next_attempt
from provisioner.agent.steps.finishing import last_report
from provisioner.agent.steps.lists import CLEANING_UP, ENDING, PREPARING, SALVAGING
from provisioner.agent.watch import Watch
from provisioner.core.protocol import words
from provisioner.core.protocol.messages import WorkOrder
from provisioner.core.protocol.words import RECORDS, STREAMS, Outcome

#: Maximum bytes of a chunk of records; the control plane reads no larger ones.
RECORDS_LONGEST = 1 << 20

Steps = Sequence[Callable[[Node], None]]

#: Maximum bytes of the log that wait on the disk for shipping. The work order replaces this limit.
SPOOL_LIMIT = 64 << 20


def main() -> None:
    """Run the agent until it has requested the power-off.

    If this process dies, its systemd unit starts a second agent process, which takes over. If the second process dies
    too, the unit's OnFailure powers off the machine.
    """
    try:
        work()
    except contact.Stranded as stranded:
        # Like the user-data's own verdicts; the control plane reads this line from the console.
        print(f"provision: powering off: {stranded}", flush=True)
    power_off()


def work() -> None:
    """Carry out the work order, and put its result. Raises Stranded."""
    paths = Paths(os.environ.get("PROVISION_ROOT", ""))
    later = next_attempt.present(paths)
    left = handover.read(paths.memory, later)
    settled = left is not None and left.result is not None
    mask = Mask()
    mask.add(handover.decoded(left.hidden if left else ()))
    # The control plane stores the console output with the logs, so the console output is masked, too.
    sys.stdout, sys.stderr = (cast(TextIO, Masked(each, mask)) for each in (sys.stdout, sys.stderr))
    settings = paths.settings()
    machine = contact.this_machine()
    spool = Spool(paths.log(later), SPOOL_LIMIT)
    for name in STREAMS:
        spool.stream(name)
    log = Log(spool, mask, closed=settled)
    log.say(f"the agent has started on {machine.instance_type} {machine.instance_id}")
    mailbox = Mailbox(settings, machine.instance_id, log.say, later)
    order = contact.work_order(mailbox, settings, machine.instance_id)
    spool.restrict(order.spool_limit)
    if order.commands is not None:
        spool.stream(RECORDS, RECORDS_LONGEST)
    log.say(f"run {order.run}, attempt {order.attempt}, of job {order.job}")
    engine = _engine(order, machine, paths, log)
    shipper = Shipper(spool, mailbox.chunk, lambda: node.orders.followed_until > time.time())
    node = Node(order, machine, paths, mailbox, spool, shipper, log, engine, left or Memory(later=later))
    node.remember()
    shipper.start()
    # Call this before the first report, which contains the machine's host keys.
    let_in(node)
    if left is None:
        contact.prove_rights(node.report, mailbox, settings, machine.instance_id)
    watch = Watch(node)
    watch.start()
    if not settled:
        prepare(node, SALVAGING if left else PREPARING)
    clean_up(node, ENDING if settled else CLEANING_UP, watch)


def prepare(node: Node, steps: Steps) -> None:
    """Run the steps until one raises Ended, and store that as `node.ended`. Any other error makes the outcome LOST."""
    try:
        for step in steps:
            step(node)
    except Ended as ended:
        node.ended = ended
    except Exception as error:  # noqa: BLE001 - a bug of the agent must not leave a run without a result
        traceback.print_exc()
        node.ended = Ended(Outcome.LOST, node.step, f"the agent failed: {error!r}")
    if node.ended.outcome is Outcome.LOST:
        # The log may never arrive, for instance because the machine fails further.
        print(f"provision: lost at {node.ended.step}: {node.ended.reason}", flush=True)
    if node.order.scale > 1:
        # The other ranks may be unable to go on, so report the end before the log is shipped.
        node.over = node.ended.outcome
        node.changed.set()


def clean_up(node: Node, steps: Steps, watch: Watch) -> None:
    """Run every step, even if others fail."""
    for step in steps:
        if step is last_report:
            watch.close()
        try:
            step(node)
        except Exception:  # noqa: BLE001 - the following steps must run in any case
            traceback.print_exc()


def power_off() -> None:
    """Request the power-off from systemd; exit with an error if systemctl fails."""
    if (answer := ask(["systemctl", "poweroff"])).code:
        sys.exit(f"systemctl poweroff failed: {answer.text}")


def _engine(order: WorkOrder, machine: Identity, paths: Paths, log: Log) -> Engine:
    if order.engine is words.Engine.PROCESS and paths.root:
        return ProcessEngine(paths.root, order.working_directory, paths.job_dir)
    # On a real machine, a job runs only in a container.
    return ContainerEngine(order, machine.instance_id, paths.home / "files", paths.job_dir, log.say)


if __name__ == "__main__":
    main()
