"""The Python API: `provisioner.connect()`, and the client and runs that it returns.

    with provisioner.connect() as client:
        client.apply("train.yaml")
        run = client.start("train", env={"EPOCHS": "3"})
        for data in run.logs(follow=True):
            sys.stdout.buffer.write(data)
        assert run.wait() == "succeeded", run.reason

Nothing runs in the background. While a daemon acts, calls only read and store records. Without a daemon, `start`
launches machines, and `wait` and `logs(follow=True)` make passes until the run has ended. The errors are the classes in
`provisioner.core.errors`. Only one thread at a time may use a client.
"""

import json
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from provisioner import reach
from provisioner.core.errors import Invalid
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.states import State
from provisioner.core.views import run as views
from provisioner.core.views.commands import Command, CommandState, Progress
from provisioner.core.views.costs.usage import Usage
from provisioner.core.views.job import Job
from provisioner.core.views.receipt import Receipt
from provisioner.faces.lists.ended import ended
from provisioner.faces.lists.making import check, from_each, from_texts
from provisioner.ports.control.control import Control
from provisioner.ports.control.lists import PAGE, CommandFilter, every
from provisioner.ports.control.logs import LogGap, LogQuery
from provisioner.ports.control.usage import UsageQuery, dimensions
from provisioner.ports.store import RunFilter
from provisioner.settings import Settings, load

#: Logs the errors of passes. They do not fail the call that made the pass, because later passes try again.
_log = logging.getLogger("provisioner")


#: The value of a variable. Numbers and booleans become text as in a recipe.
Value = str | int | float | bool


class LogIncomplete(UserWarning):
    """Warning about lost bytes of a log; the text has their offset and number."""


def connect(
    settings: str | os.PathLike[str] | Settings | None = None, *, url: str | None = None, token: str | None = None
) -> "Client":
    """Return a client of the server at `url`, or of the installation that `settings` (a path, or Settings) describes.

    Default: the server at $PROVISION_URL; without one, the settings in $PROVISION_SETTINGS, ./provision.toml or
    ~/.config/provision/settings.toml. The default token is $PROVISION_TOKEN. Raises Invalid.
    """
    remote = reach.server(_log.warning, settings=settings, url=url, token=token)
    if remote:
        return Client(remote)
    from provisioner import wiring

    known = settings if isinstance(settings, Settings) else load(os.fspath(settings) if settings else None)
    return Client(wiring.service(known))


class Client:
    """Client for the jobs and runs of one installation; as a context manager, it closes itself at exit."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the store, or the connections to the server; runs continue."""
        self._control.close()

    def apply(self, recipe: str | os.PathLike[str] | Mapping[str, Any]) -> Job:
        """Store the recipe as a job, or as the job's next revision; raises Invalid with every problem.

        A mapping is the recipe itself, text of several lines is its YAML or JSON, anything else is the path of a file.
        """
        if isinstance(recipe, Mapping):
            return self._control.jobs.apply(json.dumps(recipe), "the recipe")
        if isinstance(recipe, str) and "\n" in recipe:
            return self._control.jobs.apply(recipe, "the recipe")
        return self._control.jobs.apply(Path(recipe).read_text("utf-8"), os.fspath(recipe))

    def jobs(self) -> tuple[Job, ...]:
        """Return all jobs, by owner and name."""
        return self._control.jobs.all()

    def delete(self, job: str) -> None:
        """Delete the job, but not its runs; raises Conflict while one of its runs is not done."""
        self._control.jobs.delete(job)

    def start(
        self,
        job: str,
        env: Mapping[str, Value] | None = None,
        command: str | None = None,
        idempotency_key: str = "",
        scale: int | None = None,
    ) -> "Run":
        """Trigger a run of the job (`name` or `owner/name`) and, if no daemon acts, launch it.

        `env` overrides the recipe's variables, `command` its command, and `scale` its number of machines. Numbers and
        booleans in `env` become text as in a recipe: 3, 0.1, true. A second start with the same `idempotency_key`
        within 24 h returns the same run; with other inputs it raises Conflict.
        """
        return self._begun(self._control.runs.start(job, _variables(env), command, idempotency_key, scale))

    def map(
        self,
        job: str,
        commands: Iterable[str] | None = None,
        *,
        envs: Iterable[Mapping[str, Value]] | None = None,
        template: str | None = None,
        in_order: bool = False,
        env: Mapping[str, Value] | None = None,
        idempotency_key: str = "",
        scale: int | None = None,
    ) -> "Mapped":
        """Trigger a run of a list, and return an iterator over its commands as they end, or in their order.

        With a `template`, or a place `{}` in the job's own command, each of `commands` is a value: it takes the place
        of `{}`, quoted for the shell, and `{#}` is its number from 1. With `envs`, each command is the template, or the
        job's own command, with these variables. Up to `scale` machines work through the list. `env` and
        `idempotency_key` are those of `start`. Raises Invalid if a command cannot be run; then nothing is started.
        """
        found = self._control.jobs.get(job)
        check(found)
        if (commands is None) == (envs is None):
            raise Invalid("give either commands or envs")
        if envs is None:
            made = from_texts(found, commands or (), template)
        else:
            made = from_each(found, map(_variables, envs), template)
        upload = self._control.uploads.add(made.pieces, found.owner, null=made.null)
        run = self._control.runs.start(job, _variables(env), None, idempotency_key, scale, upload.id)
        return Mapped(self._begun(run), ended(self._control, run, _tell, in_order=in_order))

    def _begun(self, run: views.Run) -> "Run":
        """Launch a run that was stored, if no daemon acts."""
        if not self._control.operator.served():
            _tell(self._control.operator.step())
        return Run(self._control, run.id)

    def run(self, id: str) -> "Run":
        """Return the run with this id or beginning of an id. Raises NotFound, and Invalid if several ids begin so."""
        return Run(self._control, self._control.runs.get(id).id)

    def usage(
        self, by: str | Sequence[str] = "owner", first: str = "", last: str = "", owners: Sequence[str] = ()
    ) -> Usage:
        """Return machine-hours and dollars of a period, by group, with bounds.

        `by` has dimensions: owner, group, user, job, instance_type, market, use, day, month, tag:NAME. `first` and
        `last` are UTC days as YYYY-MM-DD, or months as YYYY-MM; default: the present month until today.
        """
        words = (by,) if isinstance(by, str) else by
        return self._control.usage.read(UsageQuery(dimensions(words), first, last, tuple(owners)))

    def runs(self, job: str = "", limit: int = 50) -> list["Run"]:
        """Return at most `limit` runs, the newest first; with `job`, only runs of that job."""
        return [Run(self._control, run.id) for run in self._control.runs.find(RunFilter(job=job, limit=limit))]


class Run:
    """A run. Each use of a property reads its current value."""

    def __init__(self, control: Control, id: str) -> None:
        self._control = control
        self.id = id

    def __repr__(self) -> str:
        return f"<Run {self.id[:12]} {self.state}>"

    def _now(self) -> views.Run:
        return self._control.runs.get(self.id)

    @property
    def job(self) -> str:
        """The job, as `owner/name`."""
        run = self._now()
        return f"{run.owner}/{run.job}"

    @property
    def state(self) -> State:
        """The run's current state, from `queued` to `done`."""
        return self._now().state

    @property
    def outcome(self) -> Outcome | None:
        """Why the run ended; None until it has ended."""
        return self._now().outcome

    @property
    def reason(self) -> str:
        """The outcome in one line; before the end, why a queued run waits."""
        run = self._now()
        return run.reason or (run.waiting.text if run.waiting else "")

    @property
    def exit_code(self) -> int | None:
        """The exit code of the process (128 + s if signal s ended it).

        None until the run has ended, if no process ended, and if the run was interrupted.
        """
        return self._now().exit_code

    @property
    def process_exit_code(self) -> int | None:
        """The exit code of the process for every outcome; None until the run has ended, or if no process ended."""
        return self._now().process_exit_code

    @property
    def receipt(self) -> Receipt:
        """Time and money as far as they are known; `provisional` until the run is done."""
        return self._control.runs.receipt(self.id)

    def wait(self, timeout: float | None = None) -> Outcome:
        """Wait until the outcome is known and the machine's end is certain, and return the outcome.

        Raises TimeoutError after `timeout` seconds; the run continues.
        """
        end = None if timeout is None else self._control.operator.now() + timeout

        def over() -> bool:
            return self._now().certain_at is not None or (end is not None and self._control.operator.now() >= end)

        self._control.operator.drive(over, _tell)
        run = self._now()
        if run.certain_at is None or run.outcome is None:
            raise TimeoutError(f"run {self.id[:12]} is {run.state} after {timeout} s")
        return run.outcome

    def logs(
        self,
        follow: bool = False,
        stream: str | Sequence[str] = ("setup", "output"),
        attempt: int | None = None,
        rank: int | None = None,
    ) -> Iterator[bytes]:
        """Yield the bytes of these streams (system, setup, output) as they were written, in pieces.

        `follow` continues until the run ends. Without `rank`, pieces of several ranks come in any order. Lost bytes are
        reported as a LogIncomplete warning.
        """
        streams = (stream,) if isinstance(stream, str) else tuple(stream)
        logs, query = self._control.logs, LogQuery(streams, attempt, rank=rank)
        pieces = logs.follow(self.id, query, _tell) if follow else logs.read(self.id, query)
        for piece in pieces:
            if isinstance(piece, LogGap):
                size = "an unknown number" if piece.at_least is None else f"at least {piece.at_least}"
                where = f"attempt {piece.attempt}, {piece.stream}, from byte {piece.offset}"
                warnings.warn(LogIncomplete(f"run {self.id[:12]}: {where}: {size} missing"), stacklevel=2)
            else:
                yield piece.data

    @property
    def progress(self) -> Progress | None:
        """How far the run's list of commands is; None for a run with one command."""
        return self._control.runs.status(self.id).run.commands

    def commands(self, state: str | Sequence[str] = ()) -> Iterator[Command]:
        """Yield the commands of the run's list, in order; with `state`, only those in this state or these states.

        Raises Invalid for a run with one command.
        """
        chosen = tuple(CommandState(each) for each in ((state,) if isinstance(state, str) else state))
        yield from every(self._control.commands, self.id, CommandFilter(chosen, limit=PAGE))

    def output(self, index: int) -> bytes:
        """Return the output of one command of the run's list, exactly as it was written, except for masked secrets.

        Raises Conflict until the command has ended, and NotFound if the list does not have this index.
        """
        return b"".join(self._control.commands.output(self.id, index))

    def stop_command(self, index: int) -> None:
        """Stop one command of the run's list, with SIGTERM and SIGKILL after its stop_grace; the run goes on.

        No error if the command has ended already. Raises NotFound if the list does not have this index.
        """
        self._control.commands.stop(self.id, index)
        self._act()

    def rerun(self, *, unfinished: bool = False, idempotency_key: str = "") -> "Run":
        """Start a run with the commands of the run's list that failed or were lost; return the new run.

        With `unfinished`, also with those that were cancelled or did not run. Raises Conflict if this run has not
        ended, and Invalid if there is no such command.
        """
        found = self._control.commands.rerun(self.id, idempotency_key, unfinished=unfinished)
        return Run(self._control, found.id)

    def stop(self) -> None:
        """Request the run's end: SIGTERM, and SIGKILL after its stop_grace. No error if the run has ended already."""
        self._control.runs.stop(self.id)
        self._act()

    def _act(self) -> None:
        """Make one pass, if no daemon acts."""
        if not self._control.operator.served() and self._control.operator.unfinished():
            _tell(self._control.operator.step())


class Mapped(Iterator[Command]):
    """The commands of a list, each when it has its final state; `run` is the list's run.

    The iterator ends when all commands have ended. `next` waits; without a daemon, it also makes passes.
    """

    def __init__(self, run: Run, commands: Iterator[Command]) -> None:
        self.run = run
        self._commands = commands

    def __next__(self) -> Command:
        return next(self._commands)


def _variables(env: Mapping[str, Value] | None) -> dict[str, str]:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in (env or {}).items()}


def _tell(errors: Sequence[str]) -> None:
    for error in errors:
        _log.warning("%s", error)
