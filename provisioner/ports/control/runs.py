"""The contract for runs."""

from collections.abc import Mapping
from typing import Protocol

from provisioner.core.views.overview import Machines, Top
from provisioner.core.views.receipt import Receipt
from provisioner.core.views.run import Run, RunRecipe, Status
from provisioner.core.views.run import Runs as Page
from provisioner.ports.store import NEWEST, RunFilter


class Runs(Protocol):
    """Methods accept a run's id, or an unambiguous beginning of it, as its name.

    Every method raises NotFound for an unknown name, and Invalid for an ambiguous one. A run that the caller has no
    right to counts as unknown: it is in no list, sum or count.
    """

    def start(
        self,
        job: str,
        env: Mapping[str, str],
        command: str | None = None,
        idempotency_key: str = "",
        scale: int | None = None,
        upload: str = "",
    ) -> Run:
        """Trigger a run of the job. `env`, `command` and `scale` (the number of machines) replace parts of its recipe.

        `upload` is the id of an upload of the job's owner (`Uploads.add`): the run executes its commands instead of the
        recipe's. Raises NotFound for an unknown id, and Invalid together with `command`.
        A second call with the same key within 24 h returns the same run, or raises Conflict if its inputs differ.
        """

    def find(self, which: RunFilter = NEWEST) -> tuple[Run, ...]:
        """Return the selected runs, the newest first. `which.job` is the name of a job, which may be deleted."""

    def page(self, which: RunFilter) -> Page:
        """Return the runs of `find`, and the key of the next page, which is None if this page is not full.

        A remote installation returns no key if `which` has more ids than fit into one request.
        """

    def get(self, name: str) -> Run:
        """Return the run."""

    def status(self, name: str) -> Status:
        """Return the run with its attempts, machines and story."""

    def overview(self, limit: int) -> Top:
        """Return how many runs are unfinished and how many machines they have, and the `limit` most urgent runs."""

    def machines(self, limit: int) -> Machines:
        """Return at most `limit` machines that are not terminated, those first that need attention.

        An admin also gets machines that no unfinished run has, such as those from which AMIs are made.
        """

    def stop(self, name: str) -> Run:
        """Request the end of a run. It is no error if the run has ended."""

    def recipe(self, name: str) -> RunRecipe:
        """Return what the run executes. A client raises Invalid if its server is older and does not have this."""

    def receipt(self, name: str) -> Receipt:
        """Return the run's time and cost, as far as they are known."""
