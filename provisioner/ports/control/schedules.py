"""The contract for the schedules of jobs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from provisioner.core.recipe.jobs import Job
from provisioner.core.run.records import Run


@dataclass(frozen=True)
class Scheduled:
    """A job's schedule, its next times, and the run of its last time, if that started one."""

    job: Job
    upcoming: tuple[float, ...]
    run: Run | None


class Schedules(Protocol):
    """Jobs are named as in `Jobs`, with the same errors."""

    def set(self, name: str, schedule: Mapping[str, str] | None) -> Job:
        """Set the schedule: the recipe's fields about schedules, by name. None ends it.

        It stays until a recipe with a schedule is applied. Raises Invalid, as for a recipe.
        """

    def get(self, name: str, count: int) -> Scheduled:
        """Return the schedule with its next `count` times. Raises NotFound if the job has none."""

    def all(self) -> tuple[Scheduled, ...]:
        """Return all schedules, by owner and name, each with its next time."""
