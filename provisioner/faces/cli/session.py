"""Settings, use cases and input for every command."""

import contextlib
import gc
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from provisioner.core.errors import Invalid, NotFound, ProvisionError
from provisioner.core.not_found import no_run
from provisioner.core.views.api import DISTRIBUTION
from provisioner.core.views.run import Run
from provisioner.faces.cli.terminal import streams
from provisioner.ports.control.control import Control
from provisioner.ports.journal import Journal
from provisioner.ports.store import RunFilter

Json = Annotated[bool, typer.Option("--json", help="Print JSON (`provision schema --output`).")]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", metavar="NAME=VALUE", help="Set a variable for this run; may be repeated."),
]

#: Length of a complete id.
COMPLETE = 32
#: Maximum number of bytes that are read of a file; far more than a recipe may have, so that its validation reports the
#: excess.
LARGEST = 1 << 20


def control(context: typer.Context) -> Control:
    """Return the use cases of a server or of this control host.

    The server is the one in $PROVISION_URL, unless --settings is given.
    """
    from provisioner import reach

    service = reach.server(streams.complain, settings=context.obj["settings"])
    if service is None:
        return opened(context)
    context.call_on_close(service.close)
    return service


def opened(context: typer.Context, kind: str = "command", journal: Journal | None = None) -> Control:
    """Return the use cases of this control host. Raises Invalid if the environment names a server."""
    # Imported objects are never freed, so the garbage collector must not spend time on them, now or later.
    gc.disable()
    from provisioner import wiring

    gc.freeze()
    gc.enable()
    service: Control = wiring.service(settings(context), kind, journal)
    context.call_on_close(service.close)
    return service


def settings(context: typer.Context) -> Any:
    """Return the loaded settings. Raises Invalid if the environment names a server."""
    from provisioner import reach
    from provisioner.settings import load

    named = context.obj["settings"]
    reach.check_here(named)
    return load(named)


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
    """Context for imports that need an extra of the package. Raises Invalid if a module is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise Invalid(f"{error.name} is not installed: pip install '{DISTRIBUTION}[{name}]'") from error


def journal(context: typer.Context, *, as_json: bool) -> Journal:
    """Return a journal on standard error: lines on a terminal, else JSON. With `as_json`: JSON on standard output."""
    from provisioner import wiring

    seen = sys.stderr.isatty()
    colour = seen and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    made = wiring.journal(sys.stdout if as_json else sys.stderr, as_json=as_json or not seen, colour=colour)
    context.call_on_close(made.close)
    return made


def run_id(service: Control, name: str) -> str:
    """Return the id of the run that `name` selects: an id, the beginning of one, or a job, which means its latest run.

    The beginning of an id must have at least four hexadecimal digits. Raises NotFound, and Invalid if `name` selects
    both a run and a job.
    """
    run = begun_with(service, name)
    whole = len(name) == COMPLETE
    latest = _latest(service, name) if name and not (run and whole) else None
    if run and latest:
        raise Invalid(
            f"{name!r} is the beginning of run {run.id} and the name of a job: give more of the id, or OWNER/{name}"
        )
    if run:
        return run.id
    if latest is None:
        raise no_run(name, (job.name for job in service.jobs.all()))
    streams.say(f"{name}: its latest run, {latest.id[:12]}")
    return latest.id


def begun_with(service: Control, name: str) -> Run | None:
    """Return the run whose id begins with `name`, which has at least four hexadecimal digits; None if there is none."""
    if not re.fullmatch("[0-9a-f]{4,32}", name.lower()):
        return None
    try:
        return service.runs.get(name)
    except NotFound:
        return None


def _latest(service: Control, job: str) -> Run | None:
    try:
        found = service.runs.find(RunFilter(job=job, limit=1))
        if not found:
            # `find` accepts any id, because it may be that of a deleted job.
            service.jobs.get(job)
    except NotFound:
        return None
    if not found:
        raise NotFound(f"job {job!r} has no runs: `provision start {job}` starts one")
    return found[0]


def agreed(question: str) -> bool:
    """Ask on the terminal, and return whether the answer is yes. Raises Invalid without a terminal."""
    if not sys.stdin.isatty():
        raise Invalid(f"{question} There is no terminal to ask on: add --yes")
    return typer.confirm(question, err=True)


def catch_up(service: Control) -> None:
    """Do one pass if no daemon acts, so that the command shows the current state."""
    if service.operator.served() or not service.operator.unfinished():
        return
    try:
        told: Sequence[str] = service.operator.step()
    except ProvisionError as error:
        told = [str(error)]
    for text in told:
        streams.complain(text)


def variables(pairs: Sequence[str] | None) -> Mapping[str, str]:
    """Return `NAME=VALUE` words as a mapping; the last value of a name is used. Raises Invalid."""
    found = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise Invalid(f"--env {pair!r}: write NAME=VALUE")
        if not name:
            raise Invalid(f"the name is missing in --env {pair!r}: write NAME=VALUE")
        found[name] = value
    return found


def pieces(name: str) -> Iterator[bytes]:
    """Yield the bytes of a file of any size, or of standard input for `-`. Raises Invalid."""
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if name == "-" else open(name, "rb") as file:
            while data := file.read(LARGEST):
                yield data
    except OSError as error:
        raise Invalid(f"{name}: {error.strerror}") from error


def read_file(name: str) -> str:
    """Return the text of a file, or of standard input for `-`. Raises Invalid."""
    try:
        if name == "-":
            return sys.stdin.buffer.read(LARGEST).decode()
        with open(name, "rb") as file:
            return file.read(LARGEST).decode()
    except OSError as error:
        raise Invalid(f"{name}: {error.strerror}") from error
    except ValueError as error:
        raise Invalid(f"{name!r}: not UTF-8 text") from error
