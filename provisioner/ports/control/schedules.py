"""The contract for the schedules of jobs."""

from collections.abc import Mapping
from typing import Protocol

from provisioner.core.views.job import Schedule


class Schedules(Protocol):
    """Jobs are named as in `Jobs`, with the same errors."""

    def set(self, name: str, schedule: Mapping[str, str] | None) -> Schedule:
        """Set the schedule: the recipe's fields about schedules, by name. None ends it.

        It stays until a recipe with a schedule is applied. Raises Invalid, as for a recipe.
        """

    def get(self, name: str, count: int) -> Schedule:
        """Return the schedule with its next `count` times. Raises NotFound if the job has none."""

    def all(self) -> tuple[Schedule, ...]:
        """Return all schedules, by owner and name, each with its next time."""
