"""The sections of a job's page, in order; a section is added here, with its template."""

from dataclasses import dataclass
from functools import cached_property

from provisioner.core.dates import zoned
from provisioner.core.errors import NotFound
from provisioner.core.history.texts import short_yaml
from provisioner.core.recipe.jobs import Catchup, Concurrency
from provisioner.core.views.history.shapes import Past, PastRun, Revisions
from provisioner.core.views.job import Job, Schedule
from provisioner.faces.page.charts.over_time import OverTime, costs, durations
from provisioner.faces.page.charts.scale import kind_of
from provisioner.service.control import OnBehalf

#: Number of runs in the charts and in the table, of revisions and of times of the schedule; characters of the recipe.
CHARTED, LISTED, REVISIONS, TIMES, RECIPE_MOST = 100, 15, 10, 3, 12_000


class JobPage:
    """The values of a job's page. Each is read when a section uses it first."""

    def __init__(self, control: OnBehalf, job: Job, now: float, before: int | None = None) -> None:
        self._control = control
        self.job = job
        self.now = now
        self._before = before

    @property
    def address(self) -> str:
        return f"/job/{self.job.id}"

    @property
    def command(self) -> str:
        """The recipe's command, as a start replaces it."""
        found = (self.job.recipe.get("spec") or {}).get("command")
        return f"a list of {len(found):,} commands" if isinstance(found, list) else str(found or "")

    @property
    def scale(self) -> int:
        return (self.job.recipe.get("spec") or {}).get("scale") or 1

    @property
    def variables(self) -> list[str]:
        """The names of the recipe's variables."""
        return [*((self.job.recipe.get("spec") or {}).get("environment_variables") or {})]

    @cached_property
    def past(self) -> Past:
        return self._control.history.runs(self.job.id, CHARTED)

    @property
    def listed(self) -> tuple[PastRun, ...]:
        return self.past.runs[:LISTED]

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The outcomes and states in the charts, for their legend."""
        return tuple(sorted({kind_of(run) for run in self.past.runs}))

    @cached_property
    def unfinished(self) -> tuple[PastRun, ...]:
        return tuple(run for run in self.past.runs if run.ended_at is None)

    @cached_property
    def durations(self) -> OverTime:
        return durations(self.past.runs, self.past.median_seconds, self.now)

    @cached_property
    def costs(self) -> OverTime:
        return costs(self.past.runs)

    @cached_property
    def schedule(self) -> Schedule | None:
        try:
            return self._control.schedules.get(self.job.id, TIMES)
        except NotFound:
            return None

    @property
    def paused(self) -> bool:
        """Whether the recipe has a schedule that is off."""
        return self.schedule is None and bool((self.job.recipe.get("spec") or {}).get("schedule"))

    def local(self, at: float) -> str:
        """Return a time of the schedule in the schedule's own time zone."""
        zone = (self.schedule.timezone if self.schedule else None) or "UTC"
        return zoned(at, zone)

    concurrencies = tuple(map(str, Concurrency))
    catchups = tuple(map(str, Catchup))

    @cached_property
    def recipe(self) -> str:
        return short_yaml(self.job.recipe)[:RECIPE_MOST]

    @cached_property
    def cut(self) -> bool:
        return len(short_yaml(self.job.recipe)) > RECIPE_MOST

    @cached_property
    def revisions(self) -> Revisions:
        return self._control.history.revisions(self.job.id, self._before, REVISIONS)


@dataclass(frozen=True)
class Section:
    """A section of the page. `name` is its id in the page, and the last part of its own address."""

    name: str
    title: str
    template: str
    #: Seconds between two updates; 0 for a section that does not change by itself.
    every: int = 0
    #: Whether it takes the whole width.
    wide: bool = True


SECTIONS = (
    Section("now", "", "parts/job_now.html", 3),
    Section("history", "Durations and costs", "parts/job_history.html", 10),
    Section("start", "Start a run", "parts/job_start.html", wide=False),
    Section("schedule", "Schedule", "parts/job_schedule.html", wide=False),
    Section("runs", "Runs", "parts/job_runs.html", 5),
    Section("recipe", "Recipe", "parts/job_recipe.html", wide=False),
    Section("revisions", "Revisions", "parts/job_revisions.html", wide=False),
    Section("manage", "Copy or delete", "parts/job_manage.html"),
)
BY_NAME = {section.name: section for section in SECTIONS}
