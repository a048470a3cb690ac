"""The contract for the commands of lists."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from provisioner.core.views.commands import Command, CommandPage, CommandState
from provisioner.core.views.pages import index_in
from provisioner.core.views.run import Run

#: Maximum number of commands of a page.
PAGE = 1000


@dataclass(frozen=True)
class CommandFilter:
    """Conditions that select the commands of a page, in their order."""

    #: Empty: any state.
    states: tuple[CommandState, ...] = ()
    #: Index of the last command of the previous page.
    after: int = -1
    #: 1 to PAGE.
    limit: int = 50


ALL = CommandFilter()


class Commands(Protocol):
    """The methods accept a run's name as the methods of `Runs` do, and raise the same errors for it.

    They raise Invalid for a run that has no list, and NotFound for an index that the list does not have.
    """

    def page(self, run: str, which: CommandFilter = ALL) -> CommandPage:
        """Return at most `which.limit` commands. A page may have fewer and still not be the last: see `next_key`."""

    def get(self, run: str, index: int) -> Command:
        """Return the command with its whole text."""

    def output(self, run: str, index: int) -> Iterator[bytes]:
        """Yield the output of the command's newest recorded try, exactly as it was written, except for masked secrets.

        Raises Conflict if no try has ended yet.
        """

    def csv(self, run: str) -> Iterator[bytes]:
        """Yield the job log: a line with the names of its columns, and one for each ended command, by index.

        The columns are those of `parallel --joblog`, separated by commas.
        """

    def stop(self, run: str, index: int) -> Command:
        """Stop one command with SIGTERM, then SIGKILL, and return it; the run goes on.

        It is no error if the command has ended, or if the run has. Raises Conflict if too many commands are being
        stopped.
        """

    def rerun(self, run: str, idempotency_key: str = "", *, unfinished: bool = False) -> Run:
        """Start a run of the same job and revision with the commands of an ended run that failed or were lost.

        With `unfinished`, also with those that were cancelled or did not run. Their indices begin at 0. For the key,
        see `Runs.start`. Raises Conflict if the run has not ended, and Invalid if there is no such command.
        """


def every(commands: Commands, run: str, which: CommandFilter = ALL) -> Iterator[Command]:
    """Yield all commands of the run that match, in their order; one page at a time is read."""
    while True:
        page = commands.page(run, which)
        yield from page.commands
        if page.next_key is None:
            return
        which = replace(which, after=index_in(page.next_key))
