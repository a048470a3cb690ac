"""The contract for the schedules of jobs."""

from collections.abc import Mapping
from typing import Protocol

from provisioner.core.views.job import Schedule


class Schedules(Protocol):
    """The methods accept a job's name as the methods of `Jobs` do, and raise the same errors for it."""

    def set(self, name: str, schedule: Mapping[str, str] | None) -> Schedule:
        """Set the job's schedule, given as a recipe's schedule fields by name, or remove it (None).

        The change lasts until a recipe with a schedule is applied. Raises Invalid for fields that a recipe cannot have.
        """

    def get(self, name: str, count: int) -> Schedule:
        """Return the schedule with its next `count` times. Raises NotFound if the job has none."""

    def all(self) -> tuple[Schedule, ...]:
        """Return all schedules, sorted by owner and name, each with its next time."""
