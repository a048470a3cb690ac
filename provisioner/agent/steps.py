"""The steps of a node's work, in order, each one small and harmless to repeat.

Preparing stops at the first step that raises Ended; cleaning up runs every one of its steps.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable

from provisioner.agent.evidence import find_evidence
from provisioner.agent.fetch.git import check_out
from provisioner.agent.fetch.git_credentials import access
from provisioner.agent.fetch.pull import registry_of
from provisioner.agent.fetch.secrets import Secrets, login
from provisioner.agent.gpus import wait_for_gpus
from provisioner.agent.instance_store import use_instance_store
from provisioner.agent.job.engine import Termination
from provisioner.agent.job.environment import job_environment
from provisioner.agent.job.job_dir import Exchange
from provisioner.agent.job.processes import Reached
from provisioner.agent.job.setup import PARTS, setup_files
from provisioner.agent.job.shell_dialect import Dialect
from provisioner.agent.logs.pipe_journal import Tape
from provisioner.agent.logs.pump import Pump
from provisioner.agent.machine import kernel
from provisioner.agent.machine.disk import Disks
from provisioner.agent.machine.files import replace
from provisioner.agent.machine.shutdown import shutting_down
from provisioner.agent.machine.tools import Outside
from provisioner.agent.node import Node
from provisioner.agent.outcomes import TAKEN, Cause, Ended, judge, outcome_of, told
from provisioner.core.errors import Invalid
from provisioner.core.protocol.messages import Engine, Outcome, Result, SignalCause, Started, Step, limit_of

#: An interruption in a spot machine's first hour is free, if AWS does it (EC2 User Guide, "Billing
#: for interrupted Spot Instances"); this long after its time we do not wait for AWS any more.
FREE, OVERDUE = 3600.0, 180.0

#: Seconds from SIGTERM to SIGKILL for processes that a command leaves behind when it exits by itself.
LEFT_BEHIND = 5.0

#: The `$0` in the error messages of the shell that runs a script without a `#!` line, by stream.
SHELL_NAMES = {"setup": b"start_script", "output": b"sh"}


def swap_fuse(node: Node) -> None:
    """From now on the machine lives as long as its run may, no longer."""
    end = int(node.machine.launch_time + node.order.lifetime)
    replace(node.place.fuse, f"{end}\n".encode())
    node.say(f"this machine ends at {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(end))} at the latest")


def look_for_predecessor(node: Node) -> None:
    """Never execute what has been started, be it before a restart of the machine."""
    standing = node.mailbox.started()
    if standing is not None:
        _stand_aside(node)


def _stand_aside(node: Node) -> None:
    node.say("an earlier agent process has started the command")
    if node.place.boot.exists() and node.place.boot.read_bytes() != kernel.boot():
        # Whatever the container ended with, it was not of its own accord.
        raise Ended(Outcome.LOST, Step.COMMAND, "the machine was restarted while the command ran")
    raise Ended(Outcome.LOST, Step.COMMAND, "started, no process found")


def salvage(node: Node) -> None:
    """Wait for the job of an agent process that died on this boot; what it has not begun never begins."""
    died = f"the agent died at {node.step}"
    node.say(f"{died}; its successor waits for the job")
    try:
        node.exchange = exchange = Exchange(node.place.exchange)
    except FileNotFoundError as error:
        raise Ended(Outcome.LOST, node.step, f"{died}, before the job began") from error
    found = node.engine.adopt()
    _listen(node, exchange)
    if exchange.said("begun") is None:
        exchange.call_off()
        node.engine.kill()
        late = exchange.said("begun") is not None
        raise Ended(Outcome.LOST, node.step, f"{died}, {'as' if late else 'before'} the command began")
    if not found and exchange.said("command") is None:
        raise Ended(Outcome.LOST, Step.COMMAND, f"{died}, and no process of the command is left")
    node.begin(Step.COMMAND)
    _attend(node)


def look_for_image(node: Node) -> None:
    """One that was baked into the machine's image needs no pull and no registry's credential."""
    image = node.order.image
    node.preloaded = node.engine.has_image(_outside(node, Step.PULL, "the container engine"))
    if node.preloaded:
        node.say(f"preloaded: {image} is on this machine already")


def _outside(node: Node, step: Step, what: str) -> Outside:
    """Tools that `limits.pull` bounds; `what` takes so long, if anything does."""
    limit = node.order.pull_limit
    words = f"{what} took longer than {limit_of('pull', limit)}"
    return Outside(step, node.halt, time.time() + limit, words, node.say)


def fetch_secrets(node: Node) -> None:
    """The values of secrets and credentials, read by the machine's own role."""
    order = node.order
    shutil.rmtree(node.place.credentials, ignore_errors=True)
    secrets = Secrets(node.machine.region, _outside(node, Step.PULL, "secrets"))
    names = [secret.name for secret in order.secrets] + [one.credential for one in order.repositories]
    registry_credential = "" if node.preloaded else order.registry_credential
    wanted = list(filter(None, dict.fromkeys([*names, registry_credential])))
    for name in wanted:
        node.begin(Step.PULL)
        node.secrets[name] = secrets.read(name)
        node.mask.add(secrets.hidden(name))
    if registry_credential:
        node.login = login(registry_credential, node.secrets[registry_credential])
    elif order.engine is Engine.CONTAINER and not node.preloaded:
        node.login = secrets.registry_login(registry_of(order.image))
    for value in (node.login, *map(node.secrets.get, (one.credential for one in order.repositories))):
        # Of `user:password` the second half alone is secret enough.
        if value is not None and b":" in value:
            node.mask.add([value, value.partition(b":")[2]])
    if wanted and node.preloaded:
        # Nothing more of this step follows.
        node.end(Step.PULL)


def pull_and_clone(node: Node) -> None:
    """Image and repositories, where there are any to be had, at the same time; the first trouble ends it."""
    first: list[Ended | None] = []
    done = threading.Condition()

    def run(step: Step, work: Callable[[Outside], None]) -> None:
        trouble = None
        try:
            node.begin(step)
            work(_outside(node, step, step))
            node.end(step)
        except Ended as ended:
            trouble = ended
        except Exception as error:  # noqa: BLE001 - a bug here must end the run, not leave it waiting for this thread
            trouble = Ended(Outcome.LOST, step, repr(error))
        with done:
            first.append(trouble)
            done.notify()

    def clone(outside: Outside) -> None:
        for repository in node.order.repositories:
            credential = node.secrets.get(repository.credential)
            with access(repository, credential, node.order.known_hosts, node.place.credentials / "git") as granted:
                check_out(repository, node.engine.folder(repository.path), granted, outside)

    works = [
        *([] if node.preloaded else [(Step.PULL, lambda outside: node.engine.pull(outside, node.login))]),
        *([(Step.CLONE, clone)] if node.order.repositories else []),
    ]
    for step, work in works:
        threading.Thread(target=run, args=(step, work), name=str(step), daemon=True).start()
    with done:
        done.wait_for(lambda: any(first) or len(first) == len(works))
    for trouble in first:
        if trouble is not None:
            raise trouble


def set_up(node: Node) -> None:
    """Start the job's first shell and have it place the files, install the packages and run the start script."""
    order = node.order
    node.begin(Step.SETUP)
    try:
        folder = node.engine.folder(order.working_directory)
        variables = job_environment(order, node.machine, os.environ, node.secrets)
        files = setup_files(order, node.secrets, node.engine.seen)
        node.exchange = exchange = Exchange.make(node.place.exchange, variables, files, order.command)
    except Invalid as error:
        raise Ended(Outcome.REFUSED, Step.SETUP, str(error)) from error
    os.makedirs(folder, exist_ok=True)
    node.engine.create()
    _listen(node, exchange)
    node.halt.check(Step.SETUP)
    node.kernel_mark = kernel.latest()
    node.remember()
    node.engine.start()
    code = _wait(node, Step.SETUP, "setup", order.setup_limit)
    cause = node.signalled or (_cut_off(node, "setup") if code else None)
    if cause is not None:
        reason = f"{cause.reason}; {_part(exchange)} {told(code)}"
        raise Ended(cause.outcome, Step.SETUP, reason, code, cause.signal_cause)
    if code:
        raise Ended(Outcome.FAILED, Step.SETUP, f"{_part(exchange)} {told(code)}", code)
    node.end(Step.SETUP)


def _listen(node: Node, exchange: Exchange) -> None:
    """Take what the job writes, and watch the disks that it writes to."""
    for name, pipe in (("setup", exchange.setup), ("output", exchange.output)):
        stream = node.spool.stream(name)
        tape = Tape(node.place.memory / name, stream.produced)
        node.pumps[name] = Pump(pipe, stream, node.mask, tape, Dialect(SHELL_NAMES[name]))
        node.pumps[name].start()
    node.disks = Disks(node.place.home, node.engine.folders())


def _part(exchange: Exchange) -> str:
    """What the setup ended with, in words."""
    return next((words for part, words in PARTS.items() if exchange.said(part)), PARTS["start_script"])


def claim(node: Node) -> None:
    """Put `started`, or find that somebody else has."""
    node.halt.check(Step.SETUP)
    replace(node.place.boot, kernel.boot())
    mine = Started(node.process, time.time())
    if node.mailbox.start(mine).process != node.process:
        _stand_aside(node)


def execute(node: Node) -> None:
    """Let the command run to its end, and say what became of it."""
    assert node.exchange is not None
    node.halt.check(Step.SETUP)
    node.daemons = tuple(node.engine.left())
    node.begin(Step.COMMAND)
    node.say("the command executes")
    node.exchange.go()
    _attend(node)


def _attend(node: Node) -> None:
    """Wait for the command's end, and raise what became of it."""
    code = _wait(node, Step.COMMAND, "command", node.order.runtime_limit)
    words = f"the command {told(code)}"
    if code and (own := node.engine.last_words()):
        words += f"; {own}"
    assert node.exchange is not None
    raise judge(code, words, node.signalled or _cut_off(node, "command"), done=node.exchange.done())


def _cut_off(node: Node, word: str) -> Cause | None:
    """Return an interruption if `word` ended because of a shutdown or a notice that the agent had not acted on.

    The agent may see a notice NOTICE_INTERVAL seconds late, and a trainer may read it earlier. So a notice counts
    unless a request that began after the end found none: running a finished job again is safe, losing an unfinished
    one is not.
    """
    assert node.exchange is not None
    ended = node.exchange.said_at if node.exchange.said(word) is not None else time.time()
    if node.notice is None and node.unnoticed_at < ended:
        with contextlib.suppress(OSError):
            node.look_for_notice()
    if node.notice is not None and node.unnoticed_at < ended:
        return Cause(Outcome.INTERRUPTED, TAKEN, ended)
    # A shutdown by the fuse is not an interruption.
    if time.time() < node.machine.launch_time + node.order.lifetime and shutting_down():
        return Cause(Outcome.INTERRUPTED, "the machine is being shut down", ended, SignalCause.NONE)
    return None


def _wait(node: Node, step: Step, word: str, limit: float) -> int:
    """Return the exit code of `word`, "setup" or "command"; end the job at a limit, a stop or a notice.

    To end the job, each of its processes gets SIGTERM; SIGKILL follows when none is left or the grace period is over.
    """
    assert node.exchange is not None
    assert node.disks is not None
    end = node.began(step) + limit
    termination: Termination | None = None
    while True:
        # The order matters: the first shell may report the exit code just before it ends, and the code must be read.
        gone = node.engine.exit_code()
        code = node.exchange.said(word)
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
                    node.say("SIGKILL to the job: the grace is over")
                node.engine.kill()
                return next(found for found in (code, gone, 137) if found is not None)
        time.sleep(0.05)


def _terminate(node: Node, termination: Termination, until: float, *, reported: bool) -> bool:
    """Send the signals that are due, remember them, and return whether any process of the job may still run."""
    left = termination.turn(until, reported=reported)
    if termination.reached != node.reached:
        node.reached = termination.reached
        node.remember()
    return left


def _gone(node: Node, step: Step, code: int) -> int:
    """The job's shell ended without a word: the engine, or the kernel, knows why."""
    words = node.engine.last_words()
    if step is Step.SETUP and words:
        raise Ended(outcome_of(words), step, f"the container did not start: {words}", None)
    return code


def end_job(node: Node) -> None:
    """End the processes that the command left running; then read the last output.

    They get SIGTERM, and SIGKILL after at most LEFT_BEHIND seconds.
    """
    if node.exchange is not None and node.signalled is None:
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
            node.ended.reason += f"; {message!r} in its log: sh is not bash, make #!/bin/bash the first line of {field}"


def ship_logs(node: Node) -> None:
    """The bucket has every byte; from here on nothing is written to any stream."""
    ended = node.ended
    node.end_all()
    node.begin(Step.LOGS)
    node.say(f"{ended.outcome}: {ended.reason}")
    node.log.close()
    node.shipper.finish()
    node.end(Step.LOGS)


def settle_result(node: Node) -> None:
    """From here on it stands: an agent process that has to take over puts this one."""
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
        streams={name: stream.end() for name, stream in node.spool.streams.items()},
        notice=node.notice,
        unresolved_host=node.mask.text(ended.unresolved_host),
        signal_cause=ended.signal_cause,
    )
    node.remember()


def put_result(node: Node) -> None:
    if node.result is not None:
        node.mailbox.result(node.result)


def last_report(node: Node) -> None:
    """Say that there is a result; without this the control plane finds it a little later."""
    node.finished = True
    for pause in (1, 2, 0):
        if node.report():
            return
        time.sleep(pause)


def hold_for_notice(node: Node) -> None:
    """Leave the end to AWS while that makes the machine free."""
    notice = node.notice
    if notice is not None and notice.at < node.machine.launch_time + FREE:
        while time.time() < notice.at + OVERDUE:
            time.sleep(1)


PREPARING: tuple[Callable[[Node], None], ...] = (
    swap_fuse,
    look_for_predecessor,
    wait_for_gpus,
    use_instance_store,
    look_for_image,
    fetch_secrets,
    pull_and_clone,
    set_up,
    claim,
    execute,
)

#: Instead of preparing, where an earlier agent process of this boot died.
SALVAGING: tuple[Callable[[Node], None], ...] = (
    swap_fuse,
    salvage,
)

#: All that is left to do once the result is settled.
ENDING: tuple[Callable[[Node], None], ...] = (
    put_result,
    last_report,
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
