"""Read lists of jobs and the past of jobs, within the rights of one caller."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby, zip_longest

from provisioner.core.access.callers import Caller
from provisioner.core.errors import NotFound
from provisioner.core.history.runs import PastRun
from provisioner.core.recipe.jobs import revision_of
from provisioner.core.recipe.schedules.schedule import upcoming
from provisioner.core.views.codec import moment
from provisioner.core.views.history import shaped
from provisioner.core.views.history.shapes import JobLines, Past, RevisionRecipe, Revisions
from provisioner.ports.clock import Clock
from provisioner.ports.control.history import STRIP
from provisioner.ports.store import JobFilter, Store
from provisioner.service.jobs import Jobs

#: Number of a job's last runs among which revisions are looked for that are not stored.
RUNS = 500


class History:
    """The implementation of provisioner.ports.control.history.History."""

    def __init__(self, store: Store, clock: Clock, jobs: Jobs, caller: Caller) -> None:
        self._store = store
        self._clock = clock
        self._jobs = jobs
        self._caller = caller

    def jobs(self, search: str = "", cursor: str = "", limit: int = 50) -> JobLines:
        store, now = self._store, self._clock.now()
        owner, slash, name = cursor.rpartition("/")
        which = JobFilter(self._caller.sees, search, (owner, name) if slash else None, limit)
        found = store.jobs_page(which)
        unfinished = Counter((run.job_id, str(run.state)) for run in store.live().runs)
        states: dict[str, dict[str, int]] = {}
        for (job_id, state), count in unfinished.items():
            states.setdefault(job_id, {})[state] = count
        every = store.past_runs([job.id for job in found], STRIP)
        past: dict[str, Sequence[PastRun]] = {id: list(runs) for id, runs in groupby(every, key=lambda run: run.job_id)}
        lines = []
        for job in found:
            coming = upcoming(job, now, 1) if job.schedule else ()
            next_at = coming[0] if coming else None
            lines.append(shaped.job_line(job, next_at, states.get(job.id, {}), past.get(job.id, ())))
        last = lines[-1] if len(lines) == limit else None
        return JobLines(moment(now), tuple(lines), f"{last.owner}/{last.name}" if last else None)

    def runs(self, job: str, count: int = 100) -> Past:
        return shaped.past(self._store.past_runs([self._jobs.record(job).id], count))

    def revisions(self, job: str, before: int | None = None, limit: int = 20) -> Revisions:
        found = self._jobs.record(job)
        # One more than are shown: the last one's changes are those from the one before it.
        stored = self._store.revisions(found.id, before, limit + 1)
        if before is None and (not stored or stored[0].number != found.revision):
            stored = (revision_of(found, ""), *stored)[: limit + 1]
        views = [shaped.revision(each, earlier) for each, earlier in zip_longest(stored, stored[1:])][:limit]
        if len(stored) > limit:
            return Revisions(tuple(views), views[-1].number)
        oldest = views[-1].number if views else before
        seen: dict[int, PastRun] = {}
        for run in self._store.past_runs([found.id], RUNS):
            if oldest is None or run.job_revision < oldest:
                seen.setdefault(run.job_revision, run)
        views += [shaped.revision_of_run(seen[number]) for number in sorted(seen, reverse=True)]
        return Revisions(tuple(views), None)

    def revision(self, job: str, number: int) -> RevisionRecipe:
        found = self._jobs.record(job)
        if number == found.revision:
            return shaped.revision_recipe(number, found.recipe)
        if stored := self._store.revision(found.id, number):
            return shaped.revision_recipe(number, stored.recipe)
        runs = self._store.past_runs([found.id], RUNS)
        for id in (run.id for run in runs if run.job_revision == number):
            if run := self._store.run(id):
                return shaped.revision_recipe(number, run.recipe, id)
        raise NotFound(f"revision {number} of job {found.name} is not stored, and none of its last {RUNS} runs used it")
