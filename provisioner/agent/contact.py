"""Wait for the work order, and prove that this machine may write to its mailbox.

Without such contact nothing that this machine writes reaches the bucket. So the reason goes to the console, where the
control plane reads it, and the machine powers off.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from provisioner.agent.aws.client import ServiceError, Sts, denied
from provisioner.agent.aws.fetch import ADVICE, BUDGET, limit, way_out
from provisioner.agent.aws.imds import Identity, identity
from provisioner.agent.machine.paths import Settings
from provisioner.agent.mailbox import Mailbox, Trouble
from provisioner.core.protocol import keys
from provisioner.core.protocol.messages import WorkOrder

#: Shortest and longest pause between two requests, in seconds. They are short at first, because the control plane will
#: soon put the work order.
SOONEST, LATEST = 0.25, 2.0

#: Seconds without a work order after which this machine compares its role with the one in its user-data. The control
#: plane puts the work order while the machine boots, so it is there early.
STRANGE = 20.0

#: Seconds for which the first report may be denied: new rights may take some seconds to be known everywhere.
PROOF = 60.0


class Stranded(Exception):
    """Raised if this machine cannot work with the bucket; the message says why, and what to do."""


def this_machine() -> Identity:
    """Return this machine's identity; raises Stranded if the metadata service gives none for BUDGET seconds."""
    end = time.monotonic() + limit(BUDGET)
    while True:
        try:
            return identity()
        except (OSError, ValueError, KeyError) as error:
            trouble = f"the metadata service gives no usable answer: {error!r}"
        if time.monotonic() >= end:
            raise Stranded(trouble)
        print(trouble, flush=True)
        time.sleep(1)


def work_order(mailbox: Mailbox, settings: Settings, instance_id: str) -> WorkOrder:
    """Wait for the work order and return it. If none ever arrives, the fuse powers off the machine.

    Raises Stranded if S3 gives no usable answer for BUDGET seconds, or if this machine has another role than the
    control plane believes.
    """
    began, pause, compared = time.monotonic(), SOONEST, False
    while True:
        asked = time.monotonic()
        if (order := mailbox.work()) is not None:
            return order
        now = time.monotonic()
        # A try takes long if no address of S3 answers: give up before a try that would exceed the budget.
        if not mailbox.reached and now + (now - asked) >= began + limit(BUDGET):
            raise Stranded(_unreachable(mailbox.trouble))
        if mailbox.reached and not compared and now >= began + limit(STRANGE):
            compared = True
            if words := another_role(settings, instance_id):
                raise Stranded(words)
        time.sleep(pause)
        pause = min(LATEST, pause * 1.2)


def prove_rights(report: Callable[[], bool], mailbox: Mailbox, settings: Settings, instance_id: str) -> None:
    """Put the first report; raise Stranded if S3 denies it for PROOF seconds. After other errors the work goes on."""
    end, pause = time.monotonic() + limit(PROOF), SOONEST
    while not report() and denied(mailbox.unsent):
        if time.monotonic() >= end:
            why = another_role(settings, instance_id) or "add the rights of `provision iam machine` to the role"
            raise Stranded(f"this machine's role may not write to its mailbox: {mailbox.unsent}: {why}")
        time.sleep(pause)
        pause = min(LATEST, pause * 1.2)


def another_role(settings: Settings, instance_id: str) -> str:
    """Return the fault if this machine's UserId is not that of its user-data, else "", also if either is unknown."""
    try:
        own = Sts(settings.region).user_id()
    except Exception as error:  # noqa: BLE001 - the answer only explains other errors; STS may be out of reach
        print(f"this machine's role is unknown: {error}", flush=True)
        return ""
    told = keys.mailbox(settings.role_id, instance_id)
    if own == told:
        return ""
    return (
        f"this machine's UserId is {own}, but its mailbox is {told}: the role was made anew, or the instance profile "
        "got another role. The control plane looks the role up again"
    )


def _unreachable(trouble: Trouble | None) -> str:
    if isinstance(trouble, ServiceError):
        advice = ADVICE.get(trouble.code, "check `bucket` and `region` in the settings")
    else:
        advice = way_out((trouble and trouble.__cause__) or OSError())
    return f"the work order cannot be read: {trouble}: {advice}"
