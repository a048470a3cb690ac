"""The steps that execute the command, at most once, and wait for its end."""

from __future__ import annotations

import contextlib
import time

from provisioner.agent.job.engine import Termination
from provisioner.agent.job.job_dir import JobDir
from provisioner.agent.job.shell_dialect import Dialect
from provisioner.agent.logs.pipe_journal import PipeJournal
from provisioner.agent.logs.pump import Pump
from provisioner.agent.machine import kernel
from provisioner.agent.machine.disk import Disks
from provisioner.agent.machine.files import replace
from provisioner.agent.machine.shutdown import shutting_down
from provisioner.agent.node import Node
from provisioner.agent.outcomes import TAKEN, Cause, Ended, judge, outcome_of, told
from provisioner.core.protocol.messages import Started, limit_of
from provisioner.core.protocol.words import Outcome, SignalCause, Step

#: The `$0` in the error messages of the shell that runs a script without a `#!` line, by stream.
SHELL_NAMES = {"setup": b"start_script", "output": b"sh"}


def look_for_predecessor(node: Node) -> None:
    """Raise Ended if the command was started already, even if that was before a restart of the machine."""
    standing = node.mailbox.started()
    if standing is not None:
        stand_aside(node)


def stand_aside(node: Node) -> None:
    node.say("an earlier agent process has started the command")
    if node.paths.boot.exists() and node.paths.boot.read_bytes() != kernel.boot():
        # The restart ended the container, so its exit code does not count.
        raise Ended(Outcome.LOST, Step.COMMAND, "the machine was restarted while the command ran")
    reason = "the command was started before, and none of its processes was found on this machine"
    raise Ended(Outcome.LOST, Step.COMMAND, reason)


def salvage(node: Node) -> None:
    """Wait for the command of an agent process that died in this boot, and raise Ended with its outcome."""
    take_over(node)
    _attend(node)


def take_over(node: Node) -> None:
    """Take over the job of an agent process that died in this boot.

    Raises Ended if the command has not begun, which then never does, and if none of its processes is left.
    """
    died = f"the agent died at {node.step}"
    node.say(f"{died}; a new agent process waits for the job")
    try:
        node.job_dir = job_dir = JobDir(node.paths.job_dir)
    except FileNotFoundError as error:
        raise Ended(Outcome.LOST, node.step, f"{died}, before the job began") from error
    found = node.engine.adopt()
    listen(node, job_dir)
    if job_dir.said("begun") is None:
        job_dir.call_off()
        node.engine.kill()
        late = job_dir.said("begun") is not None
        raise Ended(Outcome.LOST, node.step, f"{died}, {'as' if late else 'before'} the command began")
    if not found and job_dir.said("command") is None:
        raise Ended(Outcome.LOST, Step.COMMAND, f"{died}, and no process of the command is left")
    node.begin(Step.COMMAND)


def listen(node: Node, job_dir: JobDir) -> None:
    """Start to read the job's output, and to watch the disks that it writes to.

    The commands of a list have other pipes.
    """
    pipes = {"setup": job_dir.setup, **({} if node.order.commands else {"output": job_dir.output})}
    for name, pipe in pipes.items():
        stream = node.spool.stream(name)
        journal = PipeJournal(node.paths.memory / name, stream.produced)
        node.pumps[name] = Pump(pipe, stream, node.mask, journal, Dialect(SHELL_NAMES[name]))
        node.pumps[name].start()
    node.disks = Disks(node.paths.home, node.engine.folders())


def claim(node: Node) -> None:
    """Put the `started` mark. Raises Ended if another agent process has put one."""
    node.halt.check(Step.SETUP)
    replace(node.paths.boot, kernel.boot())
    mine = Started(node.process, time.time())
    if node.mailbox.start(mine).process != node.process:
        stand_aside(node)


def execute(node: Node) -> None:
    """Execute the command, and raise Ended with its outcome."""
    begin_command(node, "the command starts")
    _attend(node)


def begin_command(node: Node, words: str) -> None:
    """Let the job's first shell go on after the setup; `words` are logged."""
    assert node.job_dir is not None
    node.halt.check(Step.SETUP)
    node.daemons = tuple(node.engine.left())
    node.begin(Step.COMMAND)
    node.say(words)
    node.job_dir.go()


def _attend(node: Node) -> None:
    """Wait for the command's end, and raise Ended with its outcome."""
    code = wait_for_end(node, Step.COMMAND, "command", node.order.runtime_limit)
    words = f"the command {told(code)}"
    if code and (own := node.engine.last_words()):
        words += f"; {own}"
    assert node.job_dir is not None
    cause = node.signalled or interruption_of(node, "command") or (node.gpu_fault() if code else None)
    raise judge(code, words, cause, done=node.job_dir.done())


def interruption_of(node: Node, word: str) -> Cause | None:
    """Return an interruption if a shutdown or an unhandled notice ended `word`, "setup" or "command"; else None.

    The agent may read a notice NOTICE_INTERVAL seconds late, and a trainer may read it earlier. So a notice counts,
    unless a request that the agent began after the end of `word` found no notice. Running a finished job again is
    safe; losing an unfinished job is not.
    """
    assert node.job_dir is not None
    ended = node.job_dir.said_at if node.job_dir.said(word) is not None else time.time()
    if node.notice is None and node.unnoticed_at < ended:
        with contextlib.suppress(OSError):
            node.look_for_notice()
    if node.notice is not None and node.unnoticed_at < ended:
        return Cause(Outcome.INTERRUPTED, TAKEN, ended)
    # A shutdown by the fuse is not an interruption.
    if time.time() < node.machine.launch_time + node.order.lifetime and shutting_down():
        return Cause(Outcome.INTERRUPTED, "the machine is being shut down", ended, SignalCause.NONE)
    return None


def wait_for_end(node: Node, step: Step, word: str, limit: float) -> int:
    """Wait for `word`, "setup" or "command", and return its exit code; end the job at a limit, a stop or a notice.

    To end the job, each of its processes gets SIGTERM; SIGKILL follows when none is left or the grace period is over.
    """
    assert node.job_dir is not None
    assert node.disks is not None
    end = node.began(step) + limit
    termination: Termination | None = None
    while True:
        # Read `gone` before `code`: the first shell may report the exit code just before it ends.
        gone = node.engine.exit_code()
        code = node.job_dir.said(word)
        now, cause = time.time(), node.halt.cause
        node.disks.look()
        if node.signalled is None:
            if code is not None:
                return code
            if gone is not None:
                return _gone(node, step, gone)
            if cause is not None:
                node.signalled = cause
                node.remember()
                node.say(f"SIGTERM to the job: {cause.reason}")
            elif now >= end:
                reason = limit_of("setup" if step is Step.SETUP else "runtime", limit)
                node.halt.ask(Cause(Outcome.TIMED_OUT, reason, now + node.order.stop_grace))
        elif cause is not None:
            node.signalled = cause
            termination = termination or node.engine.termination(node.daemons, node.reached, node.say)
            left = _terminate(node, termination, cause.kill_at, reported=code is not None)
            over = now >= cause.kill_at
            if gone is not None or over or (code is not None and not left):
                if over and left and gone is None:
                    node.say("SIGKILL to the job: the grace period is over")
                node.engine.kill()
                return next(found for found in (code, gone, 137) if found is not None)
        time.sleep(0.05)


def _terminate(node: Node, termination: Termination, until: float, *, reported: bool) -> bool:
    """Send the signals that are due, store them, and return whether any process of the job may still run."""
    left = termination.turn(until, reported=reported)
    if termination.reached != node.reached:
        node.reached = termination.reached
        node.remember()
    return left


def _gone(node: Node, step: Step, code: int) -> int:
    """Return the exit code of a first shell that has reported none; raise Ended if the container did not start."""
    words = node.engine.last_words()
    if step is Step.SETUP and words:
        raise Ended(outcome_of(words), step, f"the container did not start: {words}", None)
    return code
