"""The sections of a run's page, in order; a section is added here, with its template.

A section that changes while the run lives is fetched again by the browser, alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from provisioner.core.errors import CloudError, NotFound
from provisioner.core.protocol.words import Outcome
from provisioner.core.views.commands import CommandPage, CommandState
from provisioner.core.views.receipt import Receipt
from provisioner.core.views.run import Attempt, Machine, Run, RunRecipe, Status
from provisioner.faces.page.charts.waterfall import Waterfall, waterfall
from provisioner.faces.page.run import now as present
from provisioner.faces.page.run.inputs import Inputs, inputs_of
from provisioner.faces.page.run.story import Chapter, chapters
from provisioner.ports.control.lists import CommandFilter
from provisioner.service.control import OnBehalf

#: Maximum number of failed commands that the run's page shows, and of ranks in a page of them.
FAILED_MOST, RANKS_MOST = 5, 50
#: The states of commands that `rerun` repeats.
FAILED = (CommandState.FAILED, CommandState.LOST)


class RunPage:
    """The values of a run's page. Each is read when a section uses it first."""

    def __init__(self, control: OnBehalf, status: Status, now: float, first_rank: int = 0) -> None:
        self._control = control
        self.status = status
        self.now = now
        self.first_rank = first_rank

    @property
    def run(self) -> Run:
        return self.status.run

    def every(self, section: "Section") -> int:
        """Return the seconds between two updates of a section; 0 if it does not change. Many ranks take longer."""
        return 0 if self.over else section.every * (1 + len(self.status.attempts) // RANKS_MOST)

    @property
    def over(self) -> bool:
        """Whether nothing of the run will change any more."""
        return self.run.done_at is not None

    @cached_property
    def receipt(self) -> Receipt:
        return self._control.runs.receipt(self.run.id)

    @cached_property
    def recipe(self) -> RunRecipe:
        return self._control.runs.recipe(self.run.id)

    @cached_property
    def inputs(self) -> Inputs:
        return inputs_of(self.recipe, self._revision())

    def _revision(self) -> Mapping[str, Any] | None:
        """Return the recipe of the run's revision; None if the job is deleted, or only runs have that revision."""
        try:
            found = self._control.history.revision(self.run.job_id, self.run.job_revision)
        except NotFound:
            return None
        return None if found.run else found.recipe

    @cached_property
    def waterfall(self) -> Waterfall:
        return waterfall(self.receipt, self.status.attempts, self.now)

    @cached_property
    def chapters(self) -> tuple[Chapter, ...]:
        return chapters(self.status.events)

    @cached_property
    def doing(self) -> present.Doing:
        return present.doing(self.status, self.receipt)

    @cached_property
    def warnings(self) -> tuple[present.Warning, ...]:
        return present.warnings(self.status)

    @property
    def stop_ends_at(self) -> float | None:
        return present.stop_ends_at(self.status.attempts)

    @cached_property
    def machines(self) -> dict[str, Machine]:
        return {machine.id: machine for machine in self.status.machines}

    @cached_property
    def failed(self) -> CommandPage | str:
        """The first failed commands, or why they cannot be read now: the rest of the page is shown all the same."""
        try:
            return self._control.commands.page(self.run.id, CommandFilter(states=FAILED, limit=FAILED_MOST))
        except CloudError as error:
            return str(error)

    @property
    def can_rerun(self) -> bool:
        """Whether commands of the run's list failed, and can run again."""
        commands = self.run.commands
        return self.run.ended_at is not None and commands is not None and commands.failed + commands.lost > 0

    @property
    def gang(self) -> bool:
        """Whether each attempt has several ranks."""
        return self.run.scale > 1

    @cached_property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts of the present page, the newest first; those of a gang by rank."""
        newest = sorted(self.status.attempts, key=lambda each: (-each.attempt, each.rank))
        return tuple(newest[self.first_rank : self.first_rank + RANKS_MOST])

    @property
    def next_rank(self) -> int:
        """Where the next page of attempts begins; 0 if there is none."""
        after = self.first_rank + RANKS_MOST
        return after if after < len(self.status.attempts) else 0

    @property
    def stoppable(self) -> bool:
        return self.run.ended_at is None and self.run.stop is None

    @property
    def interrupted(self) -> int:
        """Number of attempts that a spot interruption ended."""
        ended = {each.attempt for each in self.status.attempts if each.outcome is Outcome.INTERRUPTED}
        return len(ended)


@dataclass(frozen=True)
class Section:
    """A section of the page. `name` is its id in the page, and the last part of its own address."""

    name: str
    title: str
    template: str
    #: Seconds between two updates while the run lives; 0 for a section that never changes.
    every: int
    applies: Callable[[RunPage], bool] = lambda _: True
    #: Whether it takes the whole width.
    wide: bool = True


SECTIONS = (
    Section("now", "", "parts/run_now.html", 2),
    Section("list", "Commands", "parts/run_list.html", 3, lambda page: page.run.commands is not None),
    Section("waterfall", "Where the time went", "parts/run_waterfall.html", 3),
    Section("log", "Log", "parts/run_log.html", 0),
    Section("machines", "Attempts and machines", "parts/run_machines.html", 6),
    Section("story", "Story", "parts/run_story.html", 6, wide=False),
    Section("inputs", "Inputs", "parts/run_inputs.html", 0, wide=False),
    Section("receipt", "Receipt", "parts/run_receipt.html", 12),
)
BY_NAME = {section.name: section for section in SECTIONS}
