"""The steps after the command: end its processes, ship the logs, settle the result and report it."""

from __future__ import annotations

import time

from provisioner.agent.job.processes import Reached
from provisioner.agent.node import Node
from provisioner.core.protocol.messages import Result
from provisioner.core.protocol.words import STREAMS, Step

#: A spot machine that AWS interrupts within FREE seconds, its first hour, is free (EC2 User Guide, "Billing for
#: interrupted Spot Instances"). OVERDUE seconds after the time in the notice, the agent stops waiting for AWS.
FREE, OVERDUE = 3600.0, 180.0


#: Seconds from SIGTERM to SIGKILL for processes that a command leaves behind when it exits by itself.
LEFT_BEHIND = 5.0


def end_job(node: Node) -> None:
    """End the processes that the command left running; then read the last output.

    The processes get SIGTERM, and SIGKILL after at most LEFT_BEHIND seconds.
    """
    if node.job_dir is not None and node.signalled is None:
        cause, end = node.halt.cause, time.time() + LEFT_BEHIND
        until = min(end, cause.kill_at) if cause else end
        termination = node.engine.termination((), Reached(), node.say)
        while termination.turn(until, reported=True) and time.time() < until:
            time.sleep(0.05)
    node.engine.kill()
    node.ballast.drop()
    for pump in node.pumps.values():
        pump.finish()


def name_bash(node: Node) -> None:
    """Add to the reason that sh rejected bash syntax; the outcome stays, because the script may handle the error."""
    scripts = {"setup": ("start_script", node.order.start_script), "output": ("command", node.order.command)}
    for stream, pump in node.pumps.items():
        field, script = scripts[stream]
        message = "" if script.startswith("#!") else pump.dialect.found()
        if message:
            hint = f"the script ran with sh, not bash; write #!/bin/bash as the first line of {field}"
            node.ended.reason += f"; {message!r} in its log: {hint}"


def ship_logs(node: Node) -> None:
    """Ship every byte to the bucket; after this step nothing is written to any stream."""
    ended = node.ended
    node.end_all()
    node.begin(Step.LOGS)
    node.say(f"{ended.outcome}: {ended.reason}")
    # The console outlives a machine whose log cannot be shipped.
    print(f"provision: {ended.outcome}: {ended.reason}", flush=True)
    node.log.close()
    node.shipper.finish()
    node.end(Step.LOGS)


def settle_result(node: Node) -> None:
    """Set and store the result; an agent process that takes over later puts this result into the mailbox."""
    ended = node.ended
    node.result = Result(
        run=node.order.run,
        attempt=node.order.attempt,
        rank=node.order.rank,
        process=node.process,
        outcome=ended.outcome,
        step=ended.step,
        exit_code=ended.exit_code,
        reason=node.mask.text(ended.reason),
        at=time.time(),
        spans=node.spans(),
        streams={name: stream.end() for name, stream in node.spool.streams.items() if name in STREAMS},
        notice=node.notice,
        unresolved_host=node.mask.text(ended.unresolved_host),
        signal_cause=ended.signal_cause,
        unfit=ended.unfit,
    )
    node.remember()


def put_result(node: Node) -> None:
    if node.result is not None:
        node.mailbox.result(node.result)


def last_report(node: Node) -> None:
    """Report that the result is in the mailbox; without this report the control plane reads the result a bit later."""
    node.finished = True
    for pause in (1, 2, 0):
        if node.report():
            return
        time.sleep(pause)


def hold_for_notice(node: Node) -> None:
    """If a notice announces an end in the machine's first hour, wait for AWS to end the machine, which is then free."""
    notice = node.notice
    if notice is not None and notice.at < node.machine.launch_time + FREE:
        while time.time() < notice.at + OVERDUE:
            time.sleep(1)
