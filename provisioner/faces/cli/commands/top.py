"""Live table of unfinished runs for `provision top`, drawn by rich, which is imported only here."""

import contextlib
import os
import select
import signal
import sys
import termios
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from provisioner.core import units
from provisioner.core.cloud.caps.budget import dollars
from provisioner.core.errors import TooMany, Transient
from provisioner.core.plain import plain
from provisioner.core.run.states import State
from provisioner.core.views.overview import Budget, Live, Top
from provisioner.faces.cli import session
from provisioner.faces.cli.terminal import lists, screen, streams
from provisioner.ports.control.control import Control

#: Seconds between two updates of the table.
EVERY = 1.0
#: Maximum number of rows by default if the table is printed once.
ROWS = 50
#: Shows the cursor and leaves the alternate screen (xterm control sequences, DECTCEM and 1049).
RESTORE = b"\x1b[?25h\x1b[?1049l"

#: Columns if standard output is not a terminal.
WIDEST = 200
#: Maximum number of causes of waiting that are shown, those of the most runs first.
QUEUES = 3

#: Each column, its greatest width, and the least width of a terminal that shows it; the job gets the remaining width.
COLUMNS = (
    ("RUN", 12, 0),
    ("JOB", 0, 0),
    ("STATE", 16, 0),
    ("ATTEMPT", 7, 120),
    ("MACHINE", 25, 80),
    ("AGE", 6, 0),
    ("COST $", 7, 60),
    ("HEARD", 6, 100),
    ("LOG", 7, 110),
)
GAP = 2
RIGHT = ("ATTEMPT", "AGE", "COST $", "HEARD", "LOG")


def top(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Print the table once, and exit.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="Maximum rows.  [default: as many as fit; 50 without a terminal]"),
    ] = None,
    as_json: session.Json = False,
) -> None:
    """Show unfinished runs, updated each second.

    q or Ctrl-C quits; the runs continue.

    Runs with a silent machine come first, then runs with a notice of interruption, then other runs with a machine, then
    waiting runs. The last two groups are sorted by age, the oldest run first. While a daemon acts, `top` only shows;
    else it makes passes, as `wait` does. COST is an upper bound, without disks. Under `max_dollars_a_day`, a line has
    what the machines have cost today, and what they may still cost if each lives until the end of its lifetime.
    """
    service = session.control(context)
    live = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    if live and not once and not as_json:
        _watch(service, limit)
        return
    session.catch_up(service)
    found = service.runs.overview(limit or ROWS)
    if as_json:
        screen.put_view(found)
        return
    from rich.console import Console

    # Without a terminal, lines may have WIDEST columns.
    console = Console(width=None if sys.stdout.isatty() else WIDEST, highlight=False)
    with streams.writing():
        console.print(picture(found, console.width))


def _watch(service: Control, limit: int | None) -> None:
    from rich.console import Console
    from rich.live import Live as LiveScreen

    console = Console(highlight=False)
    acts = not service.operator.served()
    met: Sequence[str] = ()
    found: Top | None = None
    mode, away_since = "", None
    due, asked = 0.0, False

    def told(errors: Sequence[str]) -> None:
        nonlocal met
        met = errors

    def look() -> Top:
        nonlocal mode, away_since
        try:
            with service.impatient():
                new = service.runs.overview(limit or console.height)
                mode, away_since = _mode(acts, service.operator.served()), None
                return new
        except (Transient, TooMany) as error:
            if found is None:
                raise
            away_since = away_since or service.operator.now()
            mode = f"no server since {screen.clock(away_since)[:8]}; the table shows its last state: {error}"
            return found

    def left(rest: float) -> bool:
        nonlocal due, asked, found
        if (began := service.operator.now()) >= due:
            found = look()
            live.update(picture(found, console.width, console.height, mode, met), refresh=True)
            # A query of very many runs takes long; most of the time must be left for the passes.
            due = service.operator.now() + max(EVERY, 4 * (service.operator.now() - began))
        # Remember the answer, because `drive` may call this function again after the key was read.
        asked = asked or _asked_to_leave(rest)
        return asked

    with _terminal(), LiveScreen("looking", console=console, screen=True, auto_refresh=False) as live:
        if acts:
            service.operator.drive(lambda: left(0.0), told)
        while not acts and not left(EVERY / 4):
            pass


def _mode(acts: bool, served: bool) -> str:
    if acts:
        return "no daemon acts; `top` makes the passes"
    return "a daemon acts" if served else "the daemon has ended: no process acts (q, then `provision daemon`)"


@contextlib.contextmanager
def _terminal() -> Iterator[None]:
    """Context without echo, in which each key is read at once; the end, also by a signal, restores the terminal."""
    before = termios.tcgetattr(sys.stdin)
    quiet = termios.tcgetattr(sys.stdin)
    quiet[3] &= ~(termios.ICANON | termios.ECHO)

    def leave(*_: object) -> None:
        # End at once, also during a call: nothing here needs a cleanup (see `waiting.detaching`).
        os.write(1, RESTORE)
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        os._exit(0)

    handlers = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _asked_to_leave(rest: float) -> bool:
    """Return whether q was typed, or the input ended, within `rest` seconds."""
    if not select.select([sys.stdin], [], [], rest)[0]:
        return False
    typed = os.read(sys.stdin.fileno(), 100)
    return not typed or b"q" in typed.lower()


def picture(
    found: Top,
    width: int,
    height: int | None = None,
    mode: str = "",
    errors: Sequence[str] = (),
) -> Any:
    """Return the overview as rich draws it, in at most `height` lines."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    def line(text: str, style: str = "") -> Text:
        return Text(plain(text), style=style, no_wrap=True, overflow="ellipsis")

    head = [line(text) for text in heading(found, mode)]
    tail = [line(error, "red") for error in errors[:2]]
    # The blank line, the table's head, and "more".
    rows = found.runs if height is None else found.runs[: max(1, height - len(head) - len(tail) - 3)]
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    shown = [index for index, (_, _, least) in enumerate(COLUMNS) if width >= least]
    left = max(6, width - sum(COLUMNS[index][1] + GAP for index in shown))
    for index in shown:
        name, most, _ = COLUMNS[index]
        table.add_column(name, no_wrap=True, max_width=most or left, justify="right" if name in RIGHT else "left")
    for each in rows:
        cells = row(each, found.at, short_id=width < 100)
        table.add_row(*(line(cells[index]) for index in shown), style=_style(each))
    if more := found.more + len(found.runs) - len(rows):
        tail.insert(0, line(f"+{more:,} more", "dim"))
    return Group(*head, Text(), table if rows else line("no unfinished runs"), *tail)


def heading(found: Top, mode: str) -> Iterator[str]:
    """Yield lines with the numbers of runs and machines, the price per hour, and the causes of waiting."""
    states = ", ".join(f"{found.states[state]:,} {state}" for state in State if found.states.get(state))
    total = sum(found.states.values())
    yield f"{screen.clock(found.at)[:8]}  {_count(total, 'run')}{f': {states}' if states else ''}"
    text = f"{_count(found.machines, 'machine')}, {found.dollars_an_hour:.2f} $/h"
    yield f"{text} and {found.unpriced:,} of unknown price" if found.unpriced else text
    if found.budget:
        yield spending(found.budget)
    if mode:
        yield mode
    if found.hindrance:
        yield found.hindrance
    for queue in found.waiting[:QUEUES]:
        left = queue.next_try_at - found.at
        when = f"next try in {units.duration(left)}" if left > 0 else "trying now"
        yield f"{_count(queue.runs, 'run')} waiting: {queue.cause}, {when}"
        if queue.text and queue.text != found.hindrance:
            yield f"  {queue.text}"
    if found.foreign:
        yield f"machines that this store did not launch; they end at their lifetime: {' '.join(found.foreign)}"


def spending(day: Budget) -> str:
    """Return the cost of the present day beside the cap, in one line."""
    room = day.most - day.spent - day.committed
    left = f"{dollars(room)} left" if room > 0 else "nothing left: launches wait"
    amounts = f"{dollars(day.spent)} spent, {dollars(day.committed)} committed of {dollars(day.most)}"
    return f"{day.date} UTC: {amounts}; {left}"


def row(each: Live, now: float, *, short_id: bool = False) -> Sequence[str]:
    """Return the run's cell for each column."""
    run, machine = each.run, each.machine
    return (
        run.id[: 8 if short_id else 12],
        run.job,
        _state(each, now),
        str(run.attempt or ""),
        f"{'reserved' if machine.reservation else machine.market} {machine.type} {_zone(machine.zone)}"
        if machine
        else "",
        units.short(now - run.created_at),
        _dollars(each.dollars_at_most),
        units.short(now - each.heard_at) if each.heard_at is not None else "",
        units.size(sum(each.bytes_produced.values())) if each.step else "",
    )


def _state(each: Live, now: float) -> str:
    run = each.run
    if each.silent_since is not None:
        return f"silent {units.short(now - each.silent_since)}"
    if run.state is State.PREPARING:
        return f"{run.state}{screen.preparing(each.step)}"
    if run.state is State.QUEUED and run.waiting:
        return f"queued: {run.waiting.cause}"
    if run.state is State.RUNNING and run.commands:
        return lists.cell(run.commands)
    return str(run.state)


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _dollars(most: float | None) -> str:
    if most is None:
        return "?"
    return f"{most:.4f}" if most < 10 else f"{most:.2f}"


def _zone(name: str) -> str:
    """Return the zone's name without the region, because an installation has only one region."""
    return name.rpartition("-")[2]


def _style(each: Live) -> str:
    if each.machine is None:
        return "dim"
    if each.silent_since is not None:
        return "red"
    return "yellow" if each.notice_at is not None else ""
