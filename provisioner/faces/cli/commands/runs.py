"""Commands for runs: start, runs, status, wait, logs, stop, receipt."""

from collections.abc import Callable
from typing import Annotated

import typer

from provisioner.core.protocol.words import STREAMS, Outcome
from provisioner.core.run.states import State
from provisioner.core.views.run import Run
from provisioner.faces.cli import exits, session
from provisioner.faces.cli.terminal import log, screen, streams
from provisioner.faces.cli.terminal.waiting import detaching, wait_for
from provisioner.ports.control.control import Control
from provisioner.ports.control.logs import LogQuery
from provisioner.ports.store import RunFilter

RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or the beginning of it.")]
RunNames = Annotated[list[str], typer.Argument(metavar="RUN...", help="Ids of runs, or the beginnings of them.")]


def start(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help="NAME or OWNER/NAME.")],
    env: session.Env = None,
    command: Annotated[str | None, typer.Option(metavar="LINE", help="Another command for this run.")] = None,
    idempotency_key: Annotated[
        str, typer.Option(metavar="KEY", help="The same key within 24 h gives the same run.")
    ] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end, daemon or not.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print the log as it comes, and wait.")] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return at once, daemon or not.")] = False,
    as_json: session.Json = False,
) -> int:
    """Start a run: a fresh machine for the job.

    With a daemon it returns at once; without one it waits. The exit code is the job's where it succeeded or failed.
    """
    if detach and (wait or follow):
        raise typer.BadParameter("it does not go with --wait or --follow", param_hint="--detach")
    service, variables = session.control(context), session.variables(env)

    def go() -> Run:
        return service.runs.start(job, variables, command, idempotency_key)

    return started(service, go, wait=wait, follow=follow, detach=detach, as_json=as_json)


def started(
    service: Control,
    start: Callable[[], Run],
    *,
    wait: bool = False,
    follow: bool = False,
    detach: bool = False,
    as_json: bool = False,
) -> int:
    """Store the run; then return, follow its log or wait for its end, as requested. Return the exit code."""
    ids: list[str] = []
    with detaching(service, ids):
        run = start()
        ids.append(run.id)
        printed = True
        if not as_json:
            printed = _printed(run.id, lambda: streams.put(run.id))
        served = service.operator.served()
        if detach and not served:
            session.catch_up(service)
            streams.say(f"no daemon is acting: provision wait {run.id[:12]} sees the run through")
        if detach or (served and not (wait or follow)):
            if as_json:
                printed = _printed(run.id, lambda: screen.put_view(service.runs.get(run.id)))
            return 0 if printed else exits.RETRY
        if not served and not (wait or follow):
            streams.say("no daemon is acting (`provision daemon`), so this waits for the run; --detach does not")
        if follow:
            with streams.going_on(f"`provision logs {run.id[:12]}` prints the log again"):
                log.follow(service, run.id, aside=as_json)
        return wait_for(service, ids, as_json=as_json)


def _printed(id: str, put: Callable[[], None]) -> bool:
    """Print a stored run with `put`; if that fails, print the id on standard error, because it must not be lost."""
    try:
        put()
    except streams.OutputLost as error:
        streams.discard_output()
        streams.complain(f"standard output cannot be written: {error}; the run is {id}")
        return False
    except BrokenPipeError:
        streams.complain(f"nobody reads standard output; the run is {id}")
        raise
    return True


def runs(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="[JOB]", help="Only this job's.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 50,
    state: Annotated[list[State] | None, typer.Option(help="Only those; may be repeated.")] = None,
    outcome: Annotated[list[Outcome] | None, typer.Option(help="Only those; may be repeated.")] = None,
    owner: Annotated[list[str] | None, typer.Option(metavar="O", help="Only theirs; may be repeated.")] = None,
    as_json: session.Json = False,
) -> None:
    """List runs, newest first."""
    service = session.control(context)
    session.catch_up(service)
    owners = None if owner is None else tuple(owner)
    which = RunFilter(job=job, owners=owners, states=tuple(state or ()), outcomes=tuple(outcome or ()), limit=limit)
    found = service.runs.find(which)
    if as_json:
        screen.put_view(found)
    else:
        screen.runs(found, service.operator.now())
    for machine in service.operator.foreign():
        streams.say(f"{machine} is this installation's, but not of a launch of this store: left to its lifetime")


def status(context: typer.Context, run: RunName, as_json: session.Json = False) -> None:
    """Show what a run is doing and why, its attempts, and its story."""
    from provisioner.faces.cli.terminal.story import story

    service = session.control(context)
    session.catch_up(service)
    found = service.runs.status(run)
    if hindrance := service.operator.hindrance():
        streams.complain(hindrance)
    if as_json:
        screen.put_view(found)
    else:
        for line in story(found, service.runs.receipt(found.run.id), service.operator.now(), streams.width()):
            streams.put(line)


def wait(context: typer.Context, run: RunNames, as_json: session.Json = False) -> int:
    """Wait for runs to end.

    The exit code is the job's where it succeeded or failed; 81 to 85 stand for the other outcomes. With several runs it
    is the first that is not 0, in the order given.
    """
    service = session.control(context)
    ids = [service.runs.get(name).id for name in run]
    with detaching(service, ids):
        return wait_for(service, ids, as_json=as_json)


def logs(
    context: typer.Context,
    run: RunName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print what comes, until the run ends.")] = False,
    stream: Annotated[
        list[str] | None,
        typer.Option(metavar="STREAM", help="system, setup or output; may be repeated.  [default: setup and output]"),
    ] = None,
    attempt: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only this attempt's.")] = None,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, metavar="N", help="Only the last lines of each stream.")
    ] = None,
    direct: Annotated[
        bool, typer.Option("--direct", help="With --follow: from the machine itself, before the bucket has it.")
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="On a terminal, too, every byte: the job can then steer the terminal.")
    ] = False,
    as_json: session.Json = False,
) -> None:
    """Print a run's log: its bytes as they were written.

    On a terminal only text and colours are shown; other escape sequences are left out. --raw and pipes get every byte.
    """
    if direct and not follow:
        raise typer.BadParameter("it goes with --follow", param_hint="--direct")
    if raw and as_json:
        raise typer.BadParameter("it does not go with --json, which has every byte anyway", param_hint="--raw")
    streams = tuple(dict.fromkeys(stream or log.STREAMS))
    for name in streams:
        if name not in STREAMS:
            raise typer.BadParameter(f"{name!r} is no stream; they are {', '.join(STREAMS)}", param_hint="--stream")
    service, query = session.control(context), LogQuery(streams, attempt, tail)
    id = service.runs.get(run).id
    if follow:
        with detaching(service, [id]):
            log.follow(service, id, query, as_json=as_json, direct=direct, raw=raw)
    else:
        session.catch_up(service)
        log.show(service, id, query, as_json=as_json, raw=raw)


def stop(context: typer.Context, run: RunNames, as_json: session.Json = False) -> None:
    """Stop runs: SIGTERM, and SIGKILL after their stop_grace."""
    service = session.control(context)
    before = [service.runs.get(name) for name in run]
    for each in before:
        service.runs.stop(each.id)
    session.catch_up(service)
    if as_json:
        screen.put_view([service.runs.get(each.id) for each in before])
        return
    for each in before:
        short = each.id[:12]
        ended = each.ended_at is not None
        streams.put(f"{short} {'had ended already' if ended else f'is being stopped; its end: provision wait {short}'}")


def receipt(
    context: typer.Context,
    run: RunName,
    waterfall: Annotated[bool, typer.Option("--waterfall", help="Draw its phases to scale.")] = False,
    as_json: session.Json = False,
) -> None:
    """Show where a run's time and money went."""
    from provisioner.faces.cli.terminal import waterfall as drawing

    if waterfall and as_json:
        raise typer.BadParameter("it does not go with --json, which has the phases anyway", param_hint="--waterfall")
    service = session.control(context)
    session.catch_up(service)
    found = service.runs.receipt(run)
    if as_json:
        screen.put_view(found)
    elif waterfall:
        for line in drawing.waterfall(found, service.operator.now(), streams.width(), drawing.marks()):
            streams.put(line)
    else:
        screen.receipt(found)
