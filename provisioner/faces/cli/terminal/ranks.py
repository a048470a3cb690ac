"""A short text about the present steps of an attempt's ranks."""

from collections.abc import Sequence

from provisioner.core.protocol.words import Step
from provisioner.core.views.run import Attempt
from provisioner.faces.cli.terminal import screen

#: Maximum number of ranks that a line names.
NAMED = 4


def preparing(attempts: Sequence[Attempt], number: int) -> str:
    """Return what the ranks of the attempt with this number do while it prepares, after `: `; or "".

    If some ranks are ready, the text names the ranks that they wait for.
    """
    current = [each for each in attempts if each.attempt == number and each.outcome is None]
    if len(current) < 2:
        return screen.preparing(current[0].step if current else None)
    if all(each.step == Step.BARRIER for each in current):
        return ": all ranks are ready"
    late = [each for each in current if each.step != Step.BARRIER]
    by_step = dict[str, list[int]]()
    for each in late:
        by_step.setdefault(each.step or Step.BOOT, []).append(each.rank)
    said = "; ".join(f"{_named(ranks)}: {step}" for step, ranks in by_step.items())
    return f": {said}" if len(late) == len(current) else f": waiting for {said}"


def _named(ranks: Sequence[int]) -> str:
    more = f" and {len(ranks) - NAMED} more" if len(ranks) > NAMED else ""
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks[:NAMED]))}{more}"
