"""provisioner.ports.control.runs.Runs and provisioner.ports.control.usage.Usage over HTTP.

`start` is retried after a lost answer: it always has an idempotency key, which the client makes if the caller has
none. `stop` is idempotent.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace

from provisioner.adapters.remote.calls import Calls, Query
from provisioner.adapters.remote.names import is_possible_job, job_path, run_path
from provisioner.core.not_found import no_job
from provisioner.core.views.costs.usage import Usage
from provisioner.core.views.job import Started
from provisioner.core.views.overview import Machines, Top
from provisioner.core.views.pages import key_of
from provisioner.core.views.receipt import Receipt
from provisioner.core.views.run import Run, RunRecipe, Runs, Status
from provisioner.ports.control.usage import UsageQuery
from provisioner.ports.ids import Ids
from provisioner.ports.store import NEWEST, RunFilter

#: Maximum number of runs of a page, and maximum number of ids of one request.
PAGE, IDS = 1000, 100


class RemoteRuns:
    def __init__(self, calls: Calls, ids: Ids) -> None:
        self._calls = calls
        self._ids = ids

    def start(
        self,
        job: str,
        env: Mapping[str, str],
        command: str | None = None,
        idempotency_key: str = "",
        scale: int | None = None,
        upload: str = "",
    ) -> Run:
        path, query = job_path(job)
        body: dict[str, object] = {
            "env": dict(env),
            "command": command,
            "idempotency_key": idempotency_key or self._ids.new(),
        }
        # Older servers reject unknown fields.
        if scale is not None:
            body["scale"] = scale
        if upload:
            body["upload"] = upload
        return self._calls.ask(Started, "POST", f"{path}/start", query, json.dumps(body).encode()).run

    def find(self, which: RunFilter = NEWEST) -> tuple[Run, ...]:
        return self.page(which).runs

    def page(self, which: RunFilter) -> Runs:
        if len(which.ids) > IDS:
            parts = [which.ids[at : at + IDS] for at in range(0, len(which.ids), IDS)]
            several = [run for part in parts for run in self.find(replace(which, ids=part))]
            newest = sorted(several, key=lambda run: (run.created_at, run.id), reverse=True)
            return Runs(tuple(newest[: which.limit]), None)
        if which.job and not is_possible_job(which.job):
            raise no_job(which.job)
        found, cursor = list[Run](), key_of(*which.after) if which.after else None
        while (wanted := min(which.limit - len(found), PAGE)) > 0:
            query: Query = [("limit", wanted), *which.query(), *([("cursor", cursor)] if cursor else [])]
            page = self._calls.ask(Runs, "GET", "/api/runs", query)
            found += page.runs
            cursor = page.next_key
            if cursor is None:
                break
        return Runs(tuple(found), cursor)

    def get(self, name: str) -> Run:
        # A list of one run is smaller than the run's status, but the list's filter accepts only complete ids.
        whole = re.fullmatch("[0-9a-f]{32}", name.lower())
        found = self.find(RunFilter(ids=(name.lower(),), limit=1)) if whole else ()
        return found[0] if found else self.status(name).run

    def status(self, name: str) -> Status:
        return self._calls.ask(Status, "GET", run_path(name))

    def overview(self, limit: int) -> Top:
        return self._calls.ask(Top, "GET", "/api/top", [("limit", min(limit, PAGE))])

    def machines(self, limit: int) -> Machines:
        return self._calls.ask(Machines, "GET", "/api/machines", [("limit", min(limit, PAGE))])

    def stop(self, name: str) -> Run:
        return self._calls.ask(Run, "POST", f"{run_path(name)}/stop")

    def recipe(self, name: str) -> RunRecipe:
        return self._calls.ask(RunRecipe, "GET", f"{run_path(name)}/recipe")

    def receipt(self, name: str) -> Receipt:
        return self._calls.ask(Receipt, "GET", f"{run_path(name)}/receipt")


class RemoteUsage:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def read(self, query: UsageQuery) -> Usage:
        return self._calls.ask(Usage, "GET", "/api/usage", query.query())
