"""provisioner.ports.control.jobs.Jobs and .schedules.Schedules over HTTP.

A second `apply` or `schedule` changes nothing, so a lost answer is requested again. A second `delete` would raise
NotFound, so it is not repeated.
"""

import json
from collections.abc import Mapping

from provisioner.adapters.remote.calls import Calls
from provisioner.adapters.remote.names import job_path
from provisioner.core.recipe.jobs import Job
from provisioner.ports.control.jobs import Size
from provisioner.ports.control.schedules import Scheduled


class RemoteJobs:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def apply(self, text: str, source: str) -> Job:
        query = [("source", source)]
        return self._calls.ask(Job, "PUT", "/api/recipes", query, text.encode(), sends="application/yaml")

    def all(self) -> tuple[Job, ...]:
        return self._calls.ask(tuple[Job, ...], "GET", "/api/jobs")

    def get(self, name: str) -> Job:
        path, query = job_path(name)
        return self._calls.ask(Job, "GET", path, query)

    def delete(self, name: str) -> Job:
        path, query = job_path(name)
        return self._calls.ask(Job, "DELETE", path, query, again=False)

    def sizes(self) -> tuple[Size, ...]:
        return self._calls.ask(tuple[Size, ...], "GET", "/api/info/servers")


class RemoteSchedules:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def set(self, name: str, schedule: Mapping[str, str] | None) -> Job:
        path, query = job_path(name)
        body = json.dumps(schedule and dict(schedule)).encode()
        return self._calls.ask(Scheduled, "PUT", f"{path}/schedule", query, body).job

    def get(self, name: str, count: int) -> Scheduled:
        path, query = job_path(name)
        return self._calls.ask(Scheduled, "GET", f"{path}/schedule", [*query, ("count", count)])

    def all(self) -> tuple[Scheduled, ...]:
        return self._calls.ask(tuple[Scheduled, ...], "GET", "/api/schedules")
