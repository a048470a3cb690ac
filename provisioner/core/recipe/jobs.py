"""Jobs and their schedules as the store keeps them.

Times are Unix seconds.
"""

from dataclasses import dataclass
from enum import StrEnum


class Concurrency(StrEnum):
    """What a schedule does while its earlier run is not over; the words are Saturn's, and Kubernetes'."""

    ALLOW = "Allow"
    FORBID = "Forbid"
    REPLACE = "Replace"


class Catchup(StrEnum):
    """Which of the starts that were due while no control plane ran are made later."""

    NONE = "none"
    LAST = "last"
    ALL = "all"


@dataclass(frozen=True)
class Schedule:
    """When a job starts by itself."""

    #: Five fields, `@daily` and the like, or `@every 4h`.
    cron: str
    timezone: str = "UTC"
    concurrency: Concurrency = Concurrency.ALLOW
    catchup: Catchup = Catchup.LAST


@dataclass(frozen=True)
class Job:
    """The stored recipe of an owner; applying it again makes the next `revision`."""

    id: str
    owner: str
    name: str
    #: The recipe as `Recipe.dump` wrote it.
    recipe: str
    revision: int
    created_at: float
    applied_at: float
    deleted_at: float | None = None
    schedule: Schedule | None = None
    #: Its recipe said it, so that a recipe without one takes it back.
    schedule_of_recipe: bool = False
    #: When it was said: its times count from there.
    scheduled_at: float = 0.0
    #: The last time of it that was decided, the run it started, and else why it started none.
    tick: float | None = None
    tick_run: str = ""
    tick_without: str = ""
    version: int = 0
