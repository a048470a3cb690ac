"""Command that looks for faults of the account and the settings: check."""

from collections.abc import Iterator
from typing import Annotated

import typer

from provisioner.core.check.lines import Group, Level, Line, failed
from provisioner.core.check.report import report
from provisioner.core.plain import plain
from provisioner.faces.cli import session
from provisioner.faces.cli.commands.account import trial
from provisioner.faces.cli.terminal import colours, screen, streams

_COLOURS = {Level.OK: colours.GREEN, Level.WARNING: colours.YELLOW, Level.WRONG: colours.RED}
#: Columns of the longest level.
_WIDEST = max(map(len, Level))


def check(
    context: typer.Context,
    machine: Annotated[
        bool, typer.Option("--machine", help="Also run a job on one t3.micro, which costs about one cent.")
    ] = False,
    as_json: session.Json = False,
) -> int:
    """Look for faults of the account and the settings.

    Each line is ok, a warning, or wrong with its fix. Looks at the login, the clock, the bucket, roles, network, AMI,
    quotas and the role for spot launches, and lists objects that the control plane may not delete. Nothing is changed:
    only one empty object is written to the bucket, and deleted. The exit code is 1 if something is wrong. `provision
    docs check` explains every line.

    Run it with the control plane's login: a look that is denied is a line that names the right.
    """
    found: list[Line] = []
    for line in _lines(context, machine=machine):
        if not as_json:
            _print(line, new=not found or found[-1].group is not line.group)
        found.append(line)
    made = report(found)
    if as_json:
        screen.put_view(made)
    else:
        warnings = f"{made.warnings} warning{'' if made.warnings == 1 else 's'}"
        streams.say(f"{f'{made.wrong}' if made.wrong else 'nothing is'} wrong, {warnings}")
    return int(failed(found))


def _lines(context: typer.Context, *, machine: bool) -> Iterator[Line]:
    from provisioner import wiring

    found: list[Line] = []
    for line in wiring.check(session.settings(context)):
        found.append(line)
        yield line
    if machine and failed(found):
        yield Line(Group.MACHINE, Level.WARNING, "no machine is launched", "correct what is wrong, and check again")
    elif machine:
        yield from trial.lines(session.opened(context))


def _print(line: Line, *, new: bool) -> None:
    if new:
        streams.put(line.group)
    level = colours.paint(f"{line.level:<{_WIDEST}}", _COLOURS[line.level])
    with streams.writing():
        print(f"  {level}  {plain(line.text)}", flush=True)
    if line.fix:
        streams.put(f"  {'':<{_WIDEST}}  fix: {line.fix}")
