"""The form in which `--json` prints what `provision check` found."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from provisioner.core.check import lines
from provisioner.core.check.lines import Group, Level


@dataclass(frozen=True)
class Found:
    """One thing that was looked at."""

    group: Group
    level: Annotated[
        Level, "`ok`; `warning`: runs work, but something costs more or cannot be read; `wrong`: runs fail."
    ]
    text: str
    fix: Annotated[str, "What to do; empty if the level is ok."]


@dataclass(frozen=True)
class Check:
    """What is right and wrong in the account."""

    wrong: Annotated[int, "Number of lines with the level `wrong`; the exit code is 1 if there are any."]
    warnings: int
    lines: tuple[Found, ...]


def report(found: Iterable[lines.Line]) -> Check:
    shown = tuple(Found(line.group, line.level, line.text, line.fix) for line in found)
    levels = [one.level for one in shown]
    return Check(levels.count(Level.WRONG), levels.count(Level.WARNING), shown)
