"""Choose the machines of an attempt that wait for the run's next attempt, after another machine of the run was lost.

The next attempt then needs fewer new machines, and those that wait have the image already. A machine waits only after
its result is in the mailbox: no process of the old attempt executes any more.
"""

from collections.abc import Sequence

from provisioner.core.cloud.machines import ENDING
from provisioner.core.protocol.words import ENDED_BY_OTHERS, Outcome, Step
from provisioner.core.recipe.recipe import MACHINE_LIFETIMES, Recipe
from provisioner.core.run.records import Assignment, Node, Run
from provisioner.core.run.states import State

#: Longest and shortest time in seconds for which machines wait for a launch of the missing ones. In between, it is the
#: time that the attempt took to prepare: a longer wait would cost more than it saves. The control plane needs the
#: shortest time even for jobs that prepare in a moment.
LONGEST, SHORTEST = 600.0, 60.0


def may_wait(run: Run, each: Assignment, recipe: Recipe | None, now: float) -> bool:
    """Return whether a rank's machine is kept: it waits for the next attempt, or for the decision whether one follows.

    False if the recipe cannot be read (None).
    """
    node = each.node
    if recipe is None or run.stop or run.ended_at is not None or node.attempt != run.attempt:
        return False
    if not _is_usable(each, recipe, now):
        return False
    match run.state:
        case State.QUEUED | State.LAUNCHING:
            return run.kept_until is not None
        case State.STOPPING if run.verdict and run.verdict.outcome not in (Outcome.LOST, Outcome.INTERRUPTED):
            return False
        case State.BOOTING | State.PREPARING | State.RUNNING if run.ranks_stop is None:
            # The other ranks go on, because this rank's end is ignored.
            return False
        case _:
            return node.verdict is None or now < node.verdict.at + LONGEST


def kept(run: Run, held: Sequence[Assignment], recipe: Recipe | None, now: float) -> list[Assignment]:
    """Return the nodes whose machines the run's next attempt uses again; `held` are the nodes of all its attempts."""
    return [each for each in held if may_wait(run, each, recipe, now)]


def kept_until(last: Sequence[Assignment], recipe: Recipe | None, now: float) -> float | None:
    """Return until when machines of the last attempt wait for the next one; None if none can wait."""
    if recipe is None:
        return None
    usable = [each for each in last if _is_usable(each, recipe, now)]
    if not usable:
        return None
    return now + min(LONGEST, max(SHORTEST, *(_preparation(each.node) for each in usable)))


def _is_usable(each: Assignment, recipe: Recipe, now: float) -> bool:
    """Return whether the machine waits for another attempt, is in order, and can live for a whole one."""
    node, machine = each.node, each.machine
    if node.result is None or node.report is None or not node.report.waits or machine.launch_time is None:
        return False
    noticed = node.result.notice or node.report.notice
    if node.result.outcome not in ENDED_BY_OTHERS or noticed or machine.end_wanted_at is not None:
        return False
    last_begin = machine.launch_time + (MACHINE_LIFETIMES - 1) * recipe.spec.lifetime
    return machine.state not in ENDING and machine.ended_at is None and now <= last_begin


def _preparation(node: Node) -> float:
    """Return the seconds from the boot to the barrier, by the machine's clock; 0 if it never reached the barrier."""
    spans = node.result.spans if node.result else {}
    boot, ready = spans.get(Step.BOOT), spans.get(Step.BARRIER)
    return ready.began - boot.began if boot and ready else 0.0
