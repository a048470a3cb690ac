"""What a run does now, and what its visitor should know: the first part of its page."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from provisioner.core.protocol.words import Step
from provisioner.core.run.states import State
from provisioner.core.views.receipt import Phase, Receipt
from provisioner.core.views.run import Attempt, Machine, Status

#: What happens in each phase of a receipt.
HAPPENS: Mapping[str, str] = {
    "queued": "waits for a machine",
    "launching": "EC2 is asked for a machine",
    "pending": "EC2 starts the machine",
    "boot": "the machine boots",
    "pull": "the image is pulled",
    "clone": "the git repositories are cloned",
    "setup": "packages are installed and the start script runs",
    "barrier": "ready, and waiting for the other ranks",
    "command": "the command executes",
    "logs": "the rest of the log is uploaded",
    "ending": "the machine has reported its result, and is terminated",
    "kept": "the machine waits for the next attempt",
    "silent": "the machine no longer reports",
    "gone": "the machine shuts down, and is no longer billed",
    "closing": "the run is closed",
}
#: Maximum number of warnings that are shown.
WARNINGS = 6


@dataclass(frozen=True)
class Warning:
    """Something unusual about a machine; `at` is when it began, or when it will happen."""

    text: str
    at: float


@dataclass(frozen=True)
class Doing:
    """What the run does; `since` is when that began."""

    text: str
    since: float | None = None


def doing(item: Status, bill: Receipt) -> Doing:
    """Return what an unfinished run does now."""
    run = item.run
    open = [phase for phase in bill.phases if phase.ended is None and not phase.beside]
    if run.state is State.RUNNING:
        # Another machine of a list may be booting: the list runs on the others.
        open = [phase for phase in open if phase.name == Step.COMMAND] or open
    if run.outcome is not None:
        return Doing("its machines are being terminated", run.ended_at)
    if not open:
        return Doing(str(run.state))
    if steps := _steps(item, open[-1]):
        return Doing(steps, open[-1].began)
    text = HAPPENS.get(open[-1].name, open[-1].name)
    if run.commands and open[-1].name == Step.COMMAND:
        text = f"{run.commands.total - run.commands.open:,} of {run.commands.total:,} commands have ended"
    if open[-1].name == "queued" and run.attempt:
        text = "waits for a machine again"
    return Doing(text, open[-1].began)


def _steps(item: Status, phase: Phase) -> str:
    """Return how many ranks are in which step, while several prepare; otherwise ""."""
    current = [each for each in item.attempts if each.attempt == item.run.attempt and each.outcome is None]
    if len(current) < 2 or phase.name == Step.COMMAND or item.run.commands:
        return ""
    counts = Counter(each.step or str(Step.BOOT) for each in current)
    if ready := counts.pop(Step.BARRIER.value, 0):
        rest = ", ".join(f"{count} in {step}" for step, count in counts.items())
        return f"{ready} of {len(current)} ranks are ready{f'; {rest}' if rest else ''}"
    return f"{len(current)} ranks prepare: {', '.join(f'{count} in {step}' for step, count in counts.items())}"


def warnings(item: Status) -> tuple[Warning, ...]:
    """Return at most WARNINGS warnings about the machines that work now."""
    machines = {machine.id: machine for machine in item.machines}
    found: list[Warning] = []
    for attempt in item.attempts:
        if attempt.outcome is None:
            rank = f"rank {attempt.rank}: " if item.run.scale > 1 else ""
            found += [Warning(rank + text, at) for text, at in _unusual(attempt, machines[attempt.instance_id])]
    return tuple(found[:WARNINGS])


def _unusual(attempt: Attempt, machine: Machine) -> Iterator[tuple[str, float]]:
    if attempt.notice_at is not None:
        yield "spot interruption notice: EC2 takes the machine back", attempt.notice_at
    elif attempt.rebalance_at is not None:
        yield "rebalance recommendation: the spot machine has a higher risk of interruption", attempt.rebalance_at
    if attempt.silent_since is not None:
        checks = "EC2's status checks fail" if machine.impaired_at else "EC2 reports no fault, so only a limit ends it"
        yield f"silent machine: the last report came ({checks})", attempt.silent_since
    if attempt.report_due_at is not None and attempt.heard_at is None and machine.launch_time is not None:
        yield "no report of the machine yet; without one the attempt is lost", attempt.report_due_at


def stop_ends_at(attempts: Sequence[Attempt]) -> float | None:
    """Return when the machines are terminated if they do not react to the order to stop; None without such an order."""
    ends = [each.stop_ends_at for each in attempts if each.outcome is None and each.stop_ends_at is not None]
    return max(ends, default=None)
