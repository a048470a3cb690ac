"""Waiting that explains itself: a live line on a terminal, a line for each change elsewhere."""

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence

from provisioner.core.plain import plain
from provisioner.core.run.states import State
from provisioner.core.views.run import Run
from provisioner.faces.cli import exits
from provisioner.faces.cli.terminal import outcomes, screen, streams
from provisioner.ports.control.control import Control
from provisioner.ports.store import RunFilter

#: Of this many seconds a run, each look at several runs is rested from: 200 runs are looked at every second.
REST = 0.005


def wait_for(
    service: Control, ids: Sequence[str], *, as_json: bool = False, exit_code: Callable[[Run], int] = outcomes.of_run
) -> int:
    """Act or stand by until every run has ended for certain; the first exit code that is not 0."""
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
        with streams.going_on("the exit code is right all the same"):
            screen.put_view(found[0] if len(found) == 1 else found)
    for text in outcomes.last_lines(found, exit_code):
        streams.say(text)
    return outcomes.of_runs(found, exit_code)


def _now(service: Control, ids: Sequence[str]) -> list[Run]:
    """The runs as they are, in that order: one question for all, for a server may be far away."""
    known = tuple(dict.fromkeys(ids))
    found = {run.id: run for run in service.runs.find(RunFilter(ids=known, limit=len(known)))} if known else {}
    return [found.get(id) or service.runs.get(id) for id in known]


@contextlib.contextmanager
def detaching(service: Control, ids: Sequence[str]) -> Iterator[None]:
    """Inside, Ctrl-C leaves at once, whatever call is under way: nothing here minds being cut off.

    `ids` may be filled while inside.
    """
    goes_on = (
        "the run goes on"
        if service.operator.served()
        else "what runs goes on, what is queued waits for a daemon or you"
    )

    def leave(*_: object) -> None:
        short = " ".join(id[:12] for id in ids)
        text = plain(f"detached: {goes_on}. Wait: provision wait {short}. Stop: provision stop {short}")
        if not short:
            text = "interrupted; `provision runs` shows whether a run was stored"
        # Print may be what was interrupted, and it does not let itself in twice.
        with contextlib.suppress(OSError):
            os.write(2, f"{streams.ERASE if sys.stderr.isatty() else ''}{text}\n".encode())
        os._exit(exits.DETACHED)

    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class LiveLine:
    """One line that is written over on a terminal; a line for each change where there is none."""

    def __init__(self, service: Control) -> None:
        self._service = service
        self._live = sys.stderr.isatty()
        self._standing = False
        self._shown: dict[str, str] = {}
        self._told: frozenset[str] = frozenset()
        self._since = service.operator.now()

    def show(self, runs: Sequence[Run]) -> None:
        """What these unfinished runs are doing now."""
        now = self._service.operator.now()
        if self._live and runs:
            more = f" (+{len(runs) - 1} more)" if len(runs) > 1 else ""
            text = f"{runs[0].id[:12]} {self._phase(runs[0], now)}{more}, {screen.duration(now - self._since)}"
            width = shutil.get_terminal_size().columns - 1
            streams.draw(f"{streams.ERASE}{plain(text)[:width]}")
            self._standing = True
        elif not self._live:
            for run in runs:
                # Without the countdown: a line for each second would be no line for each change.
                text = self._phase(run, None)
                if self._shown.get(run.id) != text:
                    self._shown[run.id] = text
                    streams.say(f"{run.id[:12]} {text}")

    def _phase(self, run: Run, now: float | None) -> str:
        text = screen.phase(run, now)
        if run.state is not State.PREPARING:
            return text
        attempts = self._service.runs.status(run.id).attempts
        return text + screen.preparing(next((each.step for each in attempts if each.attempt == run.attempt), None))

    def tell(self, errors: Sequence[str]) -> None:
        """Our own errors: each when it is new, and again when it comes back."""
        for error in errors:
            if error not in self._told:
                self.clear()
                streams.complain(error)
        self._told = frozenset(errors)

    def clear(self) -> None:
        """Make room for something else."""
        if self._standing:
            streams.draw(streams.ERASE)
            self._standing = False
