"""The texts of a list's commands."""

from collections.abc import Iterable, Sequence

from provisioner.core.protocol.batches import Range
from provisioner.core.run.records import Run
from provisioner.core.run.work_order import loaded


def commands_of(run: Run) -> Sequence[str]:
    """Return the texts of the run's commands, by index. Raises Invalid if the run's recipe cannot be read."""
    return loaded(run.recipe).spec.commands


def texts_of(run: Run, ranges: Iterable[Range]) -> bytes:
    """Return the texts of these commands in the form that batch objects have; the same bytes at each call."""
    commands = commands_of(run)
    several = (command for first, count, _ in ranges for command in commands[first : first + count])
    return b"".join(command.encode() + b"\0" for command in several)
