"""The lines of `provision check`: each has a finding, its level, and the fix."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    OK = "ok"
    #: The stored jobs can run, but something is a risk, costs too much, will stop other jobs, or could not be read.
    WARNING = "warning"
    #: Some runs cannot work.
    WRONG = "wrong"


class Group(StrEnum):
    """What lines are about, in the order in which they are printed."""

    LOGIN = "login"
    CLOCK = "clock"
    BUCKET = "bucket"
    ROLES = "roles"
    NETWORK = "network"
    AMI = "AMI"
    QUOTAS = "quotas"
    SPOT = "spot"
    CAPS = "caps"
    OBJECTS = "objects"
    #: Only with `--machine`.
    MACHINE = "machine"


@dataclass(frozen=True)
class Line:
    group: Group
    level: Level
    text: str
    #: What to do; empty if the level is ok.
    fix: str = ""


@dataclass(frozen=True)
class Unseen:
    """A fact that could not be read."""

    #: What was to be read, such as `the route tables`.
    what: str
    reason: str
    #: The right whose lack is the reason, or "".
    right: str = ""
    #: Whether runs need the same right or the same answer.
    needed: bool = False


def ok(group: Group, text: str) -> Line:
    return Line(group, Level.OK, text)


def warning(group: Group, text: str, fix: str) -> Line:
    return Line(group, Level.WARNING, text, fix)


def wrong(group: Group, text: str, fix: str) -> Line:
    return Line(group, Level.WRONG, text, fix)


def unseen(group: Group, fact: Unseen) -> Line:
    """Return the line for a fact that could not be read: wrong if runs fail for the same reason."""
    make = wrong if fact.needed else warning
    if fact.right:
        fix = f"allow {fact.right} to this login: `provision iam control` prints all rights of the control plane"
        return make(group, f"{fact.what} cannot be read: {fact.right} is denied", fix)
    return make(group, f"{fact.what} cannot be read: {fact.reason}", "correct it as the message says, and check again")


def failed(lines: Iterable[Line]) -> bool:
    """Return whether a line is wrong."""
    return any(line.level is Level.WRONG for line in lines)


def named(names: Iterable[str], most: int = 5) -> str:
    """Return the names as text, with the number of those beyond `most`."""
    found = list(names)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return f"{', '.join(found[:most])}{more}"
