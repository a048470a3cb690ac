"""Wait for runs, and show what they are doing: a live line on a terminal, else a line for each change."""

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence

from provisioner.core import units
from provisioner.core.plain import plain
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.states import State
from provisioner.core.views.run import Run
from provisioner.faces.cli import exits
from provisioner.faces.cli.terminal import colours, outcomes, ranks, screen, streams
from provisioner.faces.cli.terminal.excerpt import excerpt
from provisioner.ports.control.control import Control
from provisioner.ports.store import RunFilter

#: Seconds to rest for each run after a query of all runs: 200 runs are queried once a second.
REST = 0.005
#: Maximum number of failed runs whose last lines of log are shown.
EXCERPTS = 3


def wait_for(
    service: Control,
    ids: Sequence[str],
    *,
    as_json: bool = False,
    followed: bool = False,
    exit_code: Callable[[Run], int] = outcomes.of_run,
) -> int:
    """Make passes if no daemon does, until all runs' ends are certain; return the first exit code other than 0, else 0.

    Shows the last lines of failed runs' logs, unless the logs were `followed`.
    """
    line = LiveLine(service)
    ended: dict[str, Run] = {}
    rested_at = 0.0

    def over() -> bool:
        nonlocal rested_at
        if service.operator.now() >= rested_at:
            left = _now(service, [id for id in ids if id not in ended])
            ended.update({run.id: run for run in left if run.certain_at is not None})
            line.show([run for run in left if run.ended_at is None])
            rested_at = service.operator.now() + REST * len(left)
        return len(ended) == len(set(ids))

    service.operator.drive(over, line.tell)
    line.clear()
    found = [ended[id] for id in ids]
    if as_json:
        with streams.going_on("the exit code is correct"):
            screen.put_view(found[0] if len(found) == 1 else found)
    for run in [] if followed else [run for run in found if run.outcome is Outcome.FAILED][:EXCERPTS]:
        for text in excerpt(service, run):
            streams.say(text)
    for text in outcomes.last_lines(found, exit_code):
        streams.say(text)
    return outcomes.of_runs(found, exit_code)


def _now(service: Control, ids: Sequence[str]) -> list[Run]:
    """Return the runs as they are now, in the order of `ids`, with one query: the server may be far away."""
    known = tuple(dict.fromkeys(ids))
    found = {run.id: run for run in service.runs.find(RunFilter(ids=known, limit=len(known)))} if known else {}
    return [found.get(id) or service.runs.get(id) for id in known]


@contextlib.contextmanager
def detaching(service: Control, ids: Sequence[str]) -> Iterator[None]:
    """Context in which Ctrl-C ends this process at once, also during a call: nothing here needs a cleanup.

    `ids` may be filled inside the context.
    """
    goes_on = (
        "the run continues"
        if service.operator.served()
        else "running machines continue, queued runs wait for a daemon or for `provision wait`"
    )

    def leave(*_: object) -> None:
        short = " ".join(id[:12] for id in ids)
        text = plain(f"detached: {goes_on}. Wait: provision wait {short}. Stop: provision stop {short}")
        if not short:
            text = "interrupted; `provision runs` shows whether a run was stored"
        # The signal may have interrupted `print`, which is not reentrant.
        with contextlib.suppress(OSError):
            os.write(2, f"{streams.ERASE if sys.stderr.isatty() else ''}{text}\n".encode())
        os._exit(exits.DETACHED)

    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class LiveLine:
    """A line that is overwritten on a terminal; without a terminal, a new line for each change."""

    def __init__(self, service: Control) -> None:
        self._service = service
        self._live = sys.stderr.isatty()
        self._standing = False
        self._shown: dict[str, str] = {}
        self._told: frozenset[str] = frozenset()
        self._since = service.operator.now()

    def show(self, runs: Sequence[Run]) -> None:
        """Show what these unfinished runs are doing now."""
        now = self._service.operator.now()
        if self._live and runs:
            more = f" (+{len(runs) - 1} more)" if len(runs) > 1 else ""
            text = f"{runs[0].id[:12]} {self._phase(runs[0], now)}{more}, {units.duration(now - self._since)}"
            width = shutil.get_terminal_size().columns - 1
            state = runs[0].state
            coloured = colours.paint(state, colours.OF_WORDS.get(state, ""), sys.stderr)
            streams.draw(f"{streams.ERASE}{plain(text)[:width].replace(state, coloured, 1)}")
            self._standing = True
        elif not self._live:
            for run in runs:
                # Leave out the countdown, which would print a line each second.
                text = self._phase(run, None)
                if self._shown.get(run.id) != text:
                    self._shown[run.id] = text
                    streams.say(f"{run.id[:12]} {text}")

    def _phase(self, run: Run, now: float | None) -> str:
        text = screen.phase(run, now)
        again = run.state is State.QUEUED and run.attempt and not run.waiting and not run.stop
        if again and run.last_attempt:
            return f"{run.state} again after attempt {run.attempt}, {run.last_attempt}"
        if run.state is not State.PREPARING:
            return text
        return text + ranks.preparing(self._service.runs.status(run.id).attempts, run.attempt)

    def tell(self, errors: Sequence[str]) -> None:
        """Print the control plane's errors that were not in the previous call."""
        for error in errors:
            if error not in self._told:
                self.clear()
                streams.complain(error)
        self._told = frozenset(errors)

    def clear(self) -> None:
        """Erase the live line, before other text is printed."""
        if self._standing:
            streams.draw(streams.ERASE)
            self._standing = False
