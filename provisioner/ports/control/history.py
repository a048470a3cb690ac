"""The contract for lists of jobs, and for a job's past runs and revisions."""

from typing import Protocol

from provisioner.core.views.history.shapes import JobLines, Past, RevisionRecipe, Revisions

#: Number of a job's last runs in a list of jobs.
STRIP = 30


class History(Protocol):
    """The methods accept a job's name as the methods of `Jobs` do, and raise the same errors for it."""

    def jobs(self, search: str = "", cursor: str = "", limit: int = 50) -> JobLines:
        """Return the caller's jobs whose `owner/name` contains `search`, in any case, each with its last STRIP runs.

        `cursor` is the `next_key` of the previous page.
        """

    def runs(self, job: str, count: int = 100) -> Past:
        """Return the job's last `count` runs in short, and what they show about it."""

    def revisions(self, job: str, before: int | None = None, limit: int = 20) -> Revisions:
        """Return the job's revisions, the latest first; only those with a number less than `before`, if it is set.

        After the stored ones, those that only runs have are added.
        """

    def revision(self, job: str, number: int) -> RevisionRecipe:
        """Return the recipe of one of the job's revisions. Raises NotFound if neither the store nor a run has it."""
