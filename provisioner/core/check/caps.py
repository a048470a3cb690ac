"""Judge the installation's cap on the cost of a day."""

from collections.abc import Iterator

from provisioner.core.check.lines import Group, Line, ok, warning
from provisioner.core.cloud.caps.budget import SETTING, Budget, day_of, dollars


def caps(budget: Budget | None) -> Iterator[Line]:
    """Yield the line for the cap; `budget` is None without a cap: `never`, or a rehearsal that sets none."""
    if budget is None:
        text = f"{SETTING} is never: nothing limits what machines cost in a day"
        yield warning(Group.CAPS, text, f"set {SETTING} in the settings: see `provision docs caps`")
        return
    committed = budget.committed.get(day_of(budget.now), 0.0)
    left = budget.most - budget.spent - committed
    amounts = f"{dollars(budget.spent)} spent today (UTC), {dollars(committed)} committed of {dollars(budget.most)}"
    if left > 0:
        yield ok(Group.CAPS, f"{SETTING}: {amounts}")
    else:
        yield warning(Group.CAPS, f"{SETTING}: {amounts}: launches wait", f"raise {SETTING}, or wait until tomorrow")
