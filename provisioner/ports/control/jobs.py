"""The contract for jobs."""

from typing import Protocol

from provisioner.core.views.job import Job, Prices


class Jobs(Protocol):
    """Methods accept a job's name as `name`, `owner/name` or the job's id.

    Every method raises NotFound for an unknown name. A job that the caller has no right to counts as unknown.
    """

    def apply(self, text: str, source: str) -> Job:
        """Store the recipe as its owner's job of that name, or as the job's next revision.

        `source` names the recipe in messages. Raises Invalid, and Forbidden if the caller may not act for the owner.
        """

    def all(self) -> tuple[Job, ...]:
        """Return all jobs of the caller, sorted by owner and name."""

    def get(self, name: str) -> Job:
        """Return the job as it is stored."""

    def prices(self, name: str) -> Prices:
        """Return the price of an hour of one machine of the job, as far as the cloud lists it."""

    def delete(self, name: str) -> Job:
        """Delete the job, but not its runs. Raises Conflict if a run of the job is not done."""
