"""provisioner.ports.control.jobs.Jobs, .history.History and .schedules.Schedules over HTTP.

`apply` and `set` are idempotent, so they are retried after a lost answer. `delete` is not retried, because a second
`delete` would raise NotFound.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from provisioner.adapters.remote.calls import Calls, Query
from provisioner.adapters.remote.names import job_path
from provisioner.core.views.history.shapes import JobLines, Past, RevisionRecipe, Revisions
from provisioner.core.views.job import Job, Jobs, Prices, Schedule, Schedules


@dataclass(frozen=True)
class _State:
    id: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Applied:
    """The fields that are read from the answer to an applied recipe."""

    state: _State


class RemoteJobs:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def apply(self, text: str, source: str) -> Job:
        query = [("source", source)]
        made = self._calls.ask(_Applied, "PUT", "/api/recipes", query, text.encode(), sends="application/yaml")
        return replace(self.get(made.state.id), warnings=made.state.warnings)

    def all(self) -> tuple[Job, ...]:
        return self._calls.ask(Jobs, "GET", "/api/jobs").jobs

    def get(self, name: str) -> Job:
        path, query = job_path(name)
        return self._calls.ask(Job, "GET", path, query)

    def prices(self, name: str) -> Prices:
        path, query = job_path(name)
        return self._calls.ask(Prices, "GET", f"{path}/prices", query)

    def delete(self, name: str) -> Job:
        path, query = job_path(name)
        return self._calls.ask(Job, "DELETE", path, query, again=False)


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


class RemoteSchedules:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def set(self, name: str, schedule: Mapping[str, str] | None) -> Schedule:
        path, query = job_path(name)
        body = json.dumps(schedule and dict(schedule)).encode()
        return self._calls.ask(Schedule, "PUT", f"{path}/schedule", query, body)

    def get(self, name: str, count: int) -> Schedule:
        path, query = job_path(name)
        return self._calls.ask(Schedule, "GET", f"{path}/schedule", [*query, ("count", count)])

    def all(self) -> tuple[Schedule, ...]:
        return self._calls.ask(Schedules, "GET", "/api/schedules").schedules
