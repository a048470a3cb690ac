"""The contract for runs."""

from collections.abc import Mapping
from typing import Protocol

from provisioner.core.views.overview import Top
from provisioner.core.views.receipt import Receipt
from provisioner.core.views.run import Run, Status
from provisioner.core.views.run import Runs as Page
from provisioner.ports.store import NEWEST, RunFilter


class Runs(Protocol):
    """A run's name is its id or an unambiguous beginning of it.

    Every method raises NotFound for an unknown name, and Invalid for an ambiguous one. Runs that the caller may not
    touch do not exist for the caller: they are in no list, sum or count.
    """

    def start(self, job: str, env: Mapping[str, str], command: str | None = None, idempotency_key: str = "") -> Run:
        """Trigger a run of the job. `env` and `command` replace parts of its recipe.

        The same key within 24 h returns the same run; with other inputs, raises Conflict.
        """

    def find(self, which: RunFilter = NEWEST) -> tuple[Run, ...]:
        """Return the runs, the newest first. `which.job` is a job's name, or the name of a deleted job."""

    def page(self, which: RunFilter) -> Page:
        """Return the runs of `find`, and the key of the next page; None if this page is not full.

        A remote installation returns no key for more ids than one request takes.
        """

    def get(self, name: str) -> Run:
        """Return the run."""

    def status(self, name: str) -> Status:
        """Return the run with its attempts, machines and story."""

    def overview(self, limit: int) -> Top:
        """Return everything that is not over, with at most `limit` runs shown."""

    def stop(self, name: str) -> Run:
        """Request the end of a run; no error if it has ended."""

    def receipt(self, name: str) -> Receipt:
        """Return time and cost, as far as they are known."""
