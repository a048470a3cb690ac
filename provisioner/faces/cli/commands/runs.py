"""Commands for runs: start, runs, status, wait, logs, stop, receipt."""

from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from provisioner.core.errors import NotFound
from provisioner.core.protocol.words import STREAMS, Outcome
from provisioner.core.run.states import State
from provisioner.core.views.commands import OPEN, CommandState
from provisioner.core.views.run import Run
from provisioner.faces.cli import exits, session
from provisioner.faces.cli.names import JobName, JobNames, MaybeJobName, MaybeRunNames, RunName, RunNames
from provisioner.faces.cli.terminal import log, screen, streams
from provisioner.faces.cli.terminal.excerpt import STREAMS as SHOWN
from provisioner.faces.cli.terminal.excerpt import excerpt
from provisioner.faces.cli.terminal.waiting import detaching, wait_for
from provisioner.ports.control.control import Control
from provisioner.ports.control.logs import LogQuery
from provisioner.ports.store import RunFilter

#: Maximum number of runs that one `stop --job` or `stop --all` stops.
MOST = 100_000

#: Options of commands that start a run.
Scale = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, max=1000, help="Number of machines of this run, in place of the recipe's."),
]
Key = Annotated[str | None, typer.Option(metavar="KEY", help="The same key within 24 h returns the same run.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the run's end, even if a daemon acts.")]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Print the log while it is written, and wait for the run's end.")
]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Return at once, even if no daemon acts.")]


def start(
    context: typer.Context,
    job: JobName,
    env: session.Env = None,
    command: Annotated[
        str | None,
        typer.Option(metavar="LINE", help="Command for this run, in place of the recipe's; a JSON array is a list."),
    ] = None,
    scale: Scale = None,
    idempotency_key: Key = None,
    wait: Wait = False,
    follow: Follow = False,
    detach: Detach = False,
    as_json: session.Json = False,
) -> int:
    """Start a run of a job on a fresh machine.

    While a daemon acts, this returns at once; else it waits for the run to end. After a wait, the exit code is the
    job's own if the run succeeded or failed.
    """
    check_start(idempotency_key, wait=wait, follow=follow, detach=detach)
    service, variables = session.control(context), session.variables(env)

    def go() -> Run:
        return service.runs.start(job, variables, command, idempotency_key or "", scale)

    return started(service, go, wait=wait, follow=follow, detach=detach, as_json=as_json)


def check_start(key: str | None, *, wait: bool, follow: bool, detach: bool) -> None:
    """Check the options that are common to commands which start a run; raises BadParameter."""
    if detach and (wait or follow):
        raise typer.BadParameter("cannot be combined with --wait or --follow", param_hint="--detach")
    if key is not None and not key.strip():
        raise typer.BadParameter(
            "the key is empty: give a key, or leave the option out", param_hint="--idempotency-key"
        )


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
            streams.say(f"no daemon acts: `provision wait {run.id[:12]}` continues the run")
        if detach or (served and not (wait or follow)):
            if as_json:
                printed = _printed(run.id, lambda: screen.put_view(service.runs.get(run.id)))
            return 0 if printed else exits.RETRY
        if not served and not (wait or follow):
            streams.say("no daemon acts, so this command drives the run until its end; --detach returns at once")
        if follow:
            with streams.going_on(f"`provision logs {run.id[:12]}` prints the log again"):
                log.follow(service, run.id, aside=as_json)
        return wait_for(service, ids, as_json=as_json, followed=follow)


def _printed(id: str, put: Callable[[], None]) -> bool:
    """Print a stored run with `put`; if that fails, print the id on standard error, because it must not be lost."""
    try:
        put()
    except streams.OutputLost as error:
        streams.discard_output()
        streams.complain(f"standard output cannot be written: {error}; the run is {id}")
        return False
    except BrokenPipeError:
        streams.complain(f"standard output has no reader; the run is {id}")
        raise
    return True


def runs(
    context: typer.Context,
    job: MaybeJobName = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Maximum number of runs.")] = 50,
    state: Annotated[list[State] | None, typer.Option(help="Only runs in this state; may be repeated.")] = None,
    outcome: Annotated[list[Outcome] | None, typer.Option(help="Only runs with this outcome; may be repeated.")] = None,
    owner: Annotated[
        list[str] | None, typer.Option(metavar="O", help="Only runs of this owner; may be repeated.")
    ] = None,
    as_json: session.Json = False,
) -> None:
    """List runs, the newest first."""
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
        streams.say(
            f"{machine} belongs to this installation, but this store did not launch it; it ends at its lifetime"
        )


def status(context: typer.Context, run: RunName, as_json: session.Json = False) -> None:
    """Show what a run does, why, and what happened."""
    from provisioner.faces.cli.terminal.story import story

    service = session.control(context)
    session.catch_up(service)
    found = service.runs.status(session.run_id(service, run))
    if hindrance := service.operator.hindrance():
        streams.complain(hindrance)
    if as_json:
        screen.put_view(found)
    else:
        for line in story(found, service.runs.receipt(found.run.id), service.operator.now(), streams.width()):
            streams.put(line)
        if ended := list(excerpt(service, found.run)):
            streams.put()
        for line in ended:
            streams.put(line)


def wait(context: typer.Context, run: RunNames, as_json: session.Json = False) -> int:
    """Wait for the end of runs.

    The exit code is the job's own if the run succeeded or failed; 80 to 85 stand for a failure without an exit code and
    for the other outcomes. For several runs it is the first exit code other than 0, in the order given.
    """
    service = session.control(context)
    ids = [session.run_id(service, name) for name in run]
    with detaching(service, ids):
        return wait_for(service, ids, as_json=as_json)


def logs(
    context: typer.Context,
    run: RunName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue until the run ends.")] = False,
    stream: Annotated[
        list[str] | None,
        typer.Option(metavar="STREAM", help="system, setup or output; may be repeated.  [default: setup and output]"),
    ] = None,
    attempt: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the log of attempt N.")] = None,
    rank: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Only the log of rank N.  [default: all]")
    ] = None,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, metavar="N", help="Only the last N lines of each stream.")
    ] = None,
    command: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Only the output of command N of a list.")
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only the outputs of failed commands of a list, each after its number.")
    ] = False,
    direct: Annotated[
        bool, typer.Option("--direct", help="With --follow: from the machine over SSH, before the bucket has it.")
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Print every byte; escape sequences then control the terminal.")
    ] = False,
    as_json: session.Json = False,
) -> None:
    """Print a run's log.

    A terminal gets only text and colours, without other escape sequences. Pipes, and a terminal with --raw, get every
    byte.
    """
    if direct and not follow:
        raise typer.BadParameter("requires --follow", param_hint="--direct")
    if raw and as_json:
        raise typer.BadParameter("cannot be combined with --json, which has every byte", param_hint="--raw")
    if command is not None or failed:
        for name, given in (
            ("--failed", failed and command is not None),
            ("--follow", follow),
            ("--stream", stream),
            ("--attempt", attempt),
            ("--rank", rank is not None),
            ("--tail", tail is not None),
            ("--json", as_json),
        ):
            if given:
                other = "--failed" if command is None else "--command"
                raise typer.BadParameter(f"cannot be combined with {other}", param_hint=name)
        service = session.control(context)
        id = session.run_id(service, run)
        session.catch_up(service)
        if command is None:
            log.show_failed(service, id, raw=raw)
        else:
            log.show_command(service, id, command, raw=raw)
        return
    streams = tuple(dict.fromkeys(stream or SHOWN))
    for name in streams:
        if name not in STREAMS:
            raise typer.BadParameter(f"{name!r} is not a stream: use {', '.join(STREAMS)}", param_hint="--stream")
    service, query = session.control(context), LogQuery(streams, attempt, tail, rank)
    found = service.runs.get(session.run_id(service, run))
    id = found.id
    if attempt is not None and attempt > max(found.attempt, 1):
        raise NotFound(f"run {id[:12]} has no attempt {attempt}: its latest is {found.attempt}")
    if follow:
        with detaching(service, [id]):
            log.follow(service, id, query, as_json=as_json, direct=direct, raw=raw)
    else:
        session.catch_up(service)
        log.show(service, id, query, as_json=as_json, raw=raw)


def stop(
    context: typer.Context,
    run: MaybeRunNames = None,
    job: JobNames = None,
    command: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Only command N of a list; the run goes on.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All your unfinished runs.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: session.Json = False,
) -> None:
    """Stop runs: SIGTERM, then SIGKILL.

    SIGKILL follows after the recipe's `limits.stop_grace`. With --job or --all this asks first.
    """
    if bool(run) + bool(job) + every != 1:
        raise typer.BadParameter("give one of RUN..., --job and --all", param_hint="RUN...")
    service = session.control(context)
    if command is not None:
        if not run or len(run) > 1:
            raise typer.BadParameter("requires exactly one RUN", param_hint="--command")
        _stop_command(service, session.run_id(service, run[0]), command, as_json=as_json)
        return
    if run:
        before = [service.runs.get(session.run_id(service, name)) for name in run]
    else:
        before = _unfinished(service, job)
        if not before:
            streams.say("no unfinished runs")
        elif not yes and not session.agreed(f"stop {len(before)} run{'s' if len(before) > 1 else ''}?"):
            return
    for each in before:
        service.runs.stop(each.id)
    session.catch_up(service)
    if as_json:
        screen.put_view([service.runs.get(each.id) for each in before])
        return
    for each in before:
        short = each.id[:12]
        ended = each.ended_at is not None
        streams.put(
            f"{short} {'has ended before' if ended else f'is stopping; wait for its end: provision wait {short}'}"
        )


def _stop_command(service: Control, id: str, index: int, *, as_json: bool) -> None:
    ended = {each for each in CommandState if each not in OPEN}
    session.catch_up(service)
    before = service.commands.get(id, index)
    found = service.commands.stop(id, index)
    session.catch_up(service)
    if as_json:
        screen.put_view(service.commands.get(id, index))
    elif before.state in ended:
        streams.put(f"command {index} has ended before: {before.state}")
    elif found.state in ended:
        streams.put(f"command {index} is {found.state}; it did not begin")
    else:
        streams.put(f"command {index} is stopping; see its end: provision commands {id[:12]} --state cancelled")


def _unfinished(service: Control, jobs: Sequence[str] | None) -> list[Run]:
    """Return the unfinished runs of these jobs; without jobs, only those of the caller's owners, even for an admin."""
    states = tuple(state for state in State if state is not State.DONE)
    owners = service.operator.owners()
    names = jobs or [""]
    found = [
        service.runs.find(RunFilter(job=name, owners=None if name else owners, states=states, limit=MOST))
        for name in names
    ]
    return [run for runs in found for run in runs if run.ended_at is None]


def receipt(
    context: typer.Context,
    run: RunName,
    waterfall: Annotated[bool, typer.Option("--waterfall", help="Draw the phases to scale.")] = False,
    as_json: session.Json = False,
) -> None:
    """Show where a run's time and money went."""
    from provisioner.faces.cli.terminal import waterfall as drawing

    if waterfall and as_json:
        raise typer.BadParameter("cannot be combined with --json, which has the phases", param_hint="--waterfall")
    service = session.control(context)
    session.catch_up(service)
    found = service.runs.receipt(session.run_id(service, run))
    if as_json:
        screen.put_view(found)
    elif waterfall:
        for line in drawing.waterfall(found, service.operator.now(), streams.width(), drawing.marks()):
            streams.put(line)
    else:
        screen.receipt(found)
