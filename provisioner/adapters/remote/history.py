"""provisioner.ports.control.history.History over HTTP. All requests only read, so they are retried."""

from provisioner.adapters.remote.calls import Calls, Query
from provisioner.adapters.remote.names import job_path
from provisioner.core.views.history.shapes import JobLines, Past, RevisionRecipe, Revisions


class RemoteHistory:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def jobs(self, search: str = "", cursor: str = "", limit: int = 50) -> JobLines:
        query: Query = [("search", search), ("cursor", cursor), ("limit", limit)]
        return self._calls.ask(JobLines, "GET", "/api/job-lines", query)

    def runs(self, job: str, count: int = 100) -> Past:
        path, query = job_path(job)
        return self._calls.ask(Past, "GET", f"{path}/past", [*query, ("count", count)])

    def revisions(self, job: str, before: int | None = None, limit: int = 20) -> Revisions:
        path, query = job_path(job)
        more: Query = [("limit", limit), *([] if before is None else [("before", before)])]
        return self._calls.ask(Revisions, "GET", f"{path}/revisions", [*query, *more])

    def revision(self, job: str, number: int) -> RevisionRecipe:
        path, query = job_path(job)
        return self._calls.ask(RevisionRecipe, "GET", f"{path}/revisions/{number}", query)
