"""What machines have cost and may still cost: for the cap of the installation, and for `limits.cost` of a run."""

from collections.abc import Sequence
from dataclasses import replace

from provisioner.core.cloud.caps.affording import Terms
from provisioner.core.cloud.caps.budget import DAY, Budget, Use, budget, dollars
from provisioner.core.protocol.messages import Stop
from provisioner.core.protocol.words import Outcome
from provisioner.core.recipe.parts import LOGS_TIME, Limits
from provisioner.core.recipe.recipe import Recipe, Spec
from provisioner.core.run.machines.messages import LONGEST_LIFE
from provisioner.core.run.records import Assignment, KnownMachine, Live, Run
from provisioner.core.run.states import State

#: EC2 bills at least this many seconds of a machine (EC2 User Guide, "On-Demand Instances", billing).
MINIMUM = 60.0
#: Seconds from the end of the command to the end of the machine: to ship the rest of the log, and to shut down.
CLOSING = 60.0
#: Seconds for which a machine of unknown lifetime counts.
UNKNOWN_LIFETIME = 2 * DAY


def use_of(machine: KnownMachine, now: float) -> Use:
    """Return for what a machine counts: the time that it was used, or, while it is alive, its whole lifetime."""
    begins = machine.launch_time or machine.bound_at
    ends = machine.ending_at or machine.ended_at
    if ends is None:
        lifetime = UNKNOWN_LIFETIME + now - begins if machine.lifetime is None else machine.lifetime
        # The lifetime is read from a tag, which others may write.
        ends = max(now, begins + min(lifetime, LONGEST_LIFE))
    hourly = machine.price.dollars if machine.price else machine.hourly_at_most
    # The account pays for a reservation whether a machine uses it or not.
    return Use(begins, max(ends, begins + MINIMUM), 0.0 if machine.reservation else hourly or 0.0)


def budget_of(live: Live, ended: float, most: float, now: float) -> Budget:
    """Return what the cap of `most` dollars a day leaves; `ended` is what machines that have ended cost today."""
    launches = [
        # The machines may be launched as late as now.
        Use(
            each.created_at,
            now + (each.request.lifetime or UNKNOWN_LIFETIME),
            (each.hourly_at_most or 0.0) * each.request.count,
        )
        for each in live.launches
    ]
    return budget(most, now, ended, [*launches, *(use_of(machine, now) for machine in live.machines)])


def terms_of(spec: Spec, machines: int) -> Terms:
    """Return what this number of machines, which are launched at once for a run, may cost."""
    return Terms(machines, spec.machine_lifetime, spec.placement.max_price, spec.limits.cost, least(spec.limits))


def least(limits: Limits) -> float:
    """Return the seconds for which `limits.cost` must pay: otherwise the run is stopped as soon as it is billed."""
    return MINIMUM + reserve(limits)


def reserve(limits: Limits) -> float:
    """Return the seconds between the order to stop a run and the end of its machines."""
    return limits.stop_grace + CLOSING


def paid_for(held: Sequence[Assignment], machine: KnownMachine, recipe: Recipe, now: float) -> float | None:
    """Return the seconds, from its launch, for which a machine may exist under `limits.cost`; None without a limit.

    The machine ends itself then, if the control plane is away and cannot stop the run. `held` are the run's nodes of
    all attempts. The time to ship the log is added, so that the order to stop comes first.
    """
    machines = {each.machine.id: each.machine for each in held}.values()
    hourly = sum(use_of(each, now).hourly for each in machines if each.ending_at is None and each.ended_at is None)
    if recipe.spec.limits.cost is None or not hourly:
        return None
    used = sum(use_of(each, now).until(now).dollars for each in machines)
    left = max(0.0, recipe.spec.limits.cost - used) / hourly * 3600
    return now + left + LOGS_TIME - (machine.launch_time or machine.bound_at)


def limited(run: Run, held: Sequence[Assignment], recipe: Recipe | None, now: float) -> Run:
    """Return the run, with an order to stop if its machines have used up `limits.cost`.

    `held` are its nodes of all attempts. What the machines cost until they have ended is included, so that the whole
    cost stays below the limit. A machine of unknown price counts as free.
    """
    limits = recipe.spec.limits if recipe else Limits()
    if limits.cost is None or run.stop or run.ended_at is not None or not held:
        return run
    machines = {each.machine.id: each.machine for each in held}.values()
    used = sum(use_of(each, now).until(now).dollars for each in machines)
    if run.state in (State.BOOTING, State.PREPARING, State.RUNNING):
        next_seconds = reserve(limits)
        billed = [each for each in machines if each.ending_at is None and each.ended_at is None]
    else:
        # The machines of the next attempt cost about as much as those of the last one.
        next_seconds = least(limits)
        billed = [each.machine for each in held if each.node.attempt == run.attempt]
    if used + sum(use_of(each, now).hourly for each in billed) * next_seconds / 3600 < limits.cost:
        return run
    reason = f"limits.cost of {dollars(limits.cost)} is used up: its machines cost {dollars(used)} until now"
    return replace(run, stop=Stop(Outcome.TIMED_OUT, reason, now))
