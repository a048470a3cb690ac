"""Set and show the schedules of jobs, within the rights of one caller."""

from collections.abc import Mapping
from dataclasses import replace

from provisioner.core.errors import Invalid, NotFound
from provisioner.core.recipe import recipe as recipes
from provisioner.core.recipe.jobs import Job
from provisioner.core.recipe.schedules.schedule import upcoming
from provisioner.core.views import from_records
from provisioner.core.views.job import Schedule
from provisioner.ports.clock import Clock
from provisioner.ports.store import Store
from provisioner.service.jobs import Jobs


class Schedules:
    """The implementation of provisioner.ports.control.schedules.Schedules."""

    def __init__(self, store: Store, clock: Clock, jobs: Jobs) -> None:
        self._store = store
        self._clock = clock
        self._jobs = jobs

    def set(self, name: str, schedule: Mapping[str, str] | None) -> Schedule:
        def said(job: Job) -> Job:
            if schedule is None:
                return replace(job, schedule=None, schedule_of_recipe=False)
            plan = recipes.planned(recipes.Recipe.load(job.recipe), schedule)
            if plan is None:
                raise Invalid("schedule: no schedule given; use --disable to remove the schedule")
            if plan == job.schedule:
                return replace(job, schedule_of_recipe=False)
            return replace(job, schedule=plan, schedule_of_recipe=False, scheduled_at=self._clock.now())

        job = self._jobs.amend(name, said, "unschedule" if schedule is None else "schedule")
        self._clock.wake()
        return self._shown(job, 1)

    def get(self, name: str, count: int) -> Schedule:
        job = self._jobs.record(name)
        if job.schedule is None:
            raise NotFound(f"{name} has no schedule; set one with `provision schedule {job.name} '0 2 * * *'`")
        return self._shown(job, count)

    def all(self) -> tuple[Schedule, ...]:
        return tuple(self._shown(job, 1) for job in self._jobs.scheduled())

    def _shown(self, job: Job, count: int) -> Schedule:
        run = self._store.run(job.tick_run) if job.tick_run else None
        coming = upcoming(job, self._clock.now(), count) if job.schedule else ()
        return from_records.schedule(job, coming, run)
