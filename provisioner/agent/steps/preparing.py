"""The steps before the command: secrets, image, repositories and the start script."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from provisioner.agent.fetch.git import check_out
from provisioner.agent.fetch.git_credentials import access
from provisioner.agent.fetch.pull import registry_of
from provisioner.agent.fetch.secrets import Secrets, login
from provisioner.agent.job.environment import CUDA, job_environment, launcher_variables, slot_variables
from provisioner.agent.job.job_dir import JobDir
from provisioner.agent.job.setup import PARTS, setup_files
from provisioner.agent.machine import kernel
from provisioner.agent.machine.files import replace
from provisioner.agent.machine.tools import Tools
from provisioner.agent.node import Node
from provisioner.agent.outcomes import Ended, told
from provisioner.agent.slots.gpu_shares import gpu_places, shares
from provisioner.agent.steps.executing import interruption_of, listen, wait_for_end
from provisioner.core.errors import Invalid
from provisioner.core.protocol.keys import rank_name
from provisioner.core.protocol.messages import limit_of
from provisioner.core.protocol.words import Engine, Outcome, Step

#: Seconds after `limits.pull` at which the machine counts as lost if pull and clone have still not ended.
MARGIN = 60.0


def swap_fuse(node: Node) -> None:
    """Set the fuse to the end of the run's lifetime, counted from the machine's launch."""
    end = int(node.machine.launch_time + node.order.lifetime)
    replace(node.paths.fuse, f"{end}\n".encode())
    node.say(f"this machine powers off at {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(end))} at the latest")


def wait_for_engine(node: Node) -> None:
    """Wait for the container engine, which the next steps need; raise Ended (LOST) if it does not answer."""
    node.engine.wait(_tools(node, Step.BOOT, "the container engine"))


def look_for_image(node: Node) -> None:
    """Find out whether the AMI has the image, which then needs no pull and no registry credential."""
    image = node.order.image
    node.preloaded = node.engine.has_image(_tools(node, Step.PULL, "the container engine"))
    if node.preloaded:
        node.say(f"preloaded: {image} is on this machine already")


def _tools(node: Node, step: Step, what: str) -> Tools:
    """Return tools with `limits.pull` as their limit; `what` names the work in the message for an exceeded limit."""
    limit = node.order.pull_limit
    words = f"{what} took longer than {limit_of('pull', limit)}"
    return Tools(step, node.halt, time.time() + limit, words, node.say)


def fetch_secrets(node: Node) -> None:
    """Read the values of secrets and credentials with the machine's own role, and mask them."""
    order = node.order
    shutil.rmtree(node.paths.credentials, ignore_errors=True)
    secrets = Secrets(node.machine.region, _tools(node, Step.PULL, "secrets"))
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
        # The password of `user:password` is masked on its own, too.
        if value is not None and b":" in value:
            node.mask.add([value, value.partition(b":")[2]])
    if wanted and node.preloaded:
        # The image is not pulled, so the step is over.
        node.end(Step.PULL)


def pull_and_clone(node: Node) -> None:
    """Pull the image, unless it is preloaded, and clone the repositories at the same time; raise the first Ended."""
    first: list[Ended | None] = []
    done = threading.Condition()

    def run(step: Step, work: Callable[[Tools], None]) -> None:
        trouble = None
        try:
            node.begin(step)
            work(_tools(node, step, step))
            node.end(step)
        except Ended as ended:
            trouble = ended
        except Exception as error:  # noqa: BLE001 - a bug here must end the run, not leave it waiting for this thread
            trouble = Ended(Outcome.LOST, step, repr(error))
        with done:
            first.append(trouble)
            done.notify()

    def clone(tools: Tools) -> None:
        for repository in node.order.repositories:
            credential = node.secrets.get(repository.credential)
            with access(repository, credential, node.order.known_hosts, node.paths.credentials / "git") as granted:
                check_out(repository, node.engine.folder(repository.path), granted, tools)

    works = [
        *([] if node.preloaded else [(Step.PULL, lambda tools: node.engine.pull(tools, node.login))]),
        *([(Step.CLONE, clone)] if node.order.repositories else []),
    ]
    for step, work in works:
        threading.Thread(target=run, args=(step, work), name=str(step), daemon=True).start()
    with done:
        # Each thread ends by its own tools' limit, unless the machine itself stands still.
        limit = node.order.pull_limit + MARGIN
        if not done.wait_for(lambda: any(first) or len(first) == len(works), limit):
            raise Ended(Outcome.LOST, node.step, f"{node.step} did not end by itself within {limit:.0f} s")
    for trouble in first:
        if trouble is not None:
            raise trouble


def set_up(node: Node) -> None:
    """Start the job's first shell; wait until it has placed files, installed packages and run the start script."""
    order = node.order
    node.begin(Step.SETUP)
    try:
        folder = node.engine.folder(order.working_directory)
        hosts = {rank_name(order.run, rank): address for rank, address in enumerate(node.peers)}
        # The only rank of a run is its own leader.
        leader = node.engine.host(*next(iter(hosts.items()))) if hosts else node.machine.address
        variables = job_environment(order, node.machine, os.environ, node.secrets, leader)
        files = setup_files(order, node.secrets, node.engine.seen)
        launcher = launcher_variables(order, leader, node.engine.port(leader))
        slots = slot_variables(_gpus_of_slots(node, variables))
        node.job_dir = job_dir = JobDir.make(node.paths.job_dir, variables, files, order.command, launcher, slots)
    except Invalid as error:
        raise Ended(Outcome.REFUSED, Step.SETUP, str(error)) from error
    os.makedirs(folder, exist_ok=True)
    node.engine.create(hosts)
    listen(node, job_dir)
    node.halt.check(Step.SETUP)
    node.kernel_mark = kernel.latest()
    node.remember()
    node.engine.start()
    code = wait_for_end(node, Step.SETUP, "setup", order.setup_limit)
    cause = node.signalled or ((interruption_of(node, "setup") or node.gpu_fault()) if code else None)
    if cause is not None:
        reason = f"{cause.reason}; {_part(job_dir)} {told(code)}"
        raise Ended(cause.outcome, Step.SETUP, reason, code, cause.signal_cause)
    if code:
        raise Ended(Outcome.FAILED, Step.SETUP, f"{_part(job_dir)} {told(code)}", code)
    node.end(Step.SETUP)


def _gpus_of_slots(node: Node, variables: Mapping[str, str]) -> Sequence[Sequence[str]]:
    """Return the GPUs of each slot of a list of commands, by UUID; if the job itself chooses its GPUs, none."""
    order = node.order
    if order.commands is None:
        return ()
    if not order.gpus or CUDA in variables:
        return [()] * order.commands.slots
    places = gpu_places()
    found = shares(list(places), order.commands.slots)
    node.gpu_places = frozenset(places.values())
    node.slot_gpus = tuple(frozenset(places[uuid] for uuid in each) for each in found)
    return found


def _part(job_dir: JobDir) -> str:
    """Return the name, as in messages, of the part that ended the setup."""
    return next((words for part, words in PARTS.items() if job_dir.said(part)), PARTS["start_script"])
