"""Commands for jobs and recipes: apply, jobs, show, revisions, delete, schema."""

from typing import Annotated

import typer

from provisioner.core.dates import zoned
from provisioner.core.errors import NotFound
from provisioner.core.views.job import Job
from provisioner.faces.cli import session
from provisioner.faces.cli.names import JobName
from provisioner.faces.cli.terminal import screen, streams
from provisioner.ports.control.control import Control

#: Maximum number of changed fields that `apply` names, and of revisions that are listed.
NAMED, SHOWN = 6, 100


def apply(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Recipe in YAML or JSON; - reads standard input.")],
    start: Annotated[bool, typer.Option("--start", help="Start a run of the job, too.")] = False,
    as_json: session.Json = False,
) -> int:
    """Store a recipe as a job.

    A recipe with the name of an existing job becomes the job's next revision.
    """
    from provisioner.faces.cli.commands.runs import started

    service, text = session.control(context), session.read_file(file)
    before = _known(service, text)
    job = service.jobs.apply(text, file)
    for warning in job.warnings:
        streams.complain(f"warning: {warning}")
    name, put = f"{job.owner}/{job.name}", streams.say if start else streams.put
    if not as_json:
        put(f"{name}: {_change(before, job)}")
        if (scale := job.recipe["spec"]["scale"]) > 1:
            price = f"at most {job.hourly_dollars:.2f} $" if job.hourly_dollars is not None else "an unknown price"
            put(f"the {scale} machines of a run cost {price} an hour (on-demand list price)")
            if job.machine_lifetime is not None:
                put(f"each machine exists for at most {job.machine_lifetime / 3600:.1f} h")
        if job.recipe["spec"].get("schedule"):
            plan = service.schedules.get(name, 1)
            following = zoned(plan.next[0], plan.timezone or "UTC") if plan.next else "never"
            put(f"next start by its schedule: {following}")
    if start:
        return started(service, lambda: service.runs.start(name, {}), as_json=as_json)
    if as_json:
        screen.put_view(job)
    else:
        streams.say(f"start it: provision start {job.name}")
    return 0


def _known(service: Control, text: str) -> Job | None:
    """Return the job that the recipe's text names, or None; the text is not checked yet."""
    import yaml

    try:
        spec = yaml.safe_load(text)["spec"]
        owner = spec.get("owner") or service.operator.owners()[0]
        return service.jobs.get(f"{owner}/{spec['name']}")
    except (yaml.YAMLError, LookupError, TypeError, AttributeError, NotFound):
        return None


def _change(before: Job | None, after: Job) -> str:
    """Return what `apply` changed: names of fields only, because values may be private."""
    if before is None or before.id != after.id:
        return f"new job, revision {after.revision}"
    if before.revision == after.revision:
        return f"unchanged, revision {after.revision}"
    from provisioner.core.history.differences import changed_fields

    changed = changed_fields(before.recipe["spec"], after.recipe["spec"])
    more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
    return f"revision {after.revision}, changed: {', '.join(changed[:NAMED])}{more}"


def jobs(context: typer.Context, as_json: session.Json = False) -> None:
    """List the jobs."""
    found = session.control(context).jobs.all()
    if as_json:
        screen.put_view(found)
    else:
        screen.jobs(found)


def show(context: typer.Context, job: JobName, as_json: session.Json = False) -> None:
    """Print a job's recipe with every default."""
    import yaml

    found = session.control(context).jobs.get(job)
    if as_json:
        screen.put_view(found)
    else:
        streams.put_text(yaml.safe_dump(dict(found.recipe), sort_keys=False, allow_unicode=True).rstrip("\n"))


def revisions(
    context: typer.Context,
    job: JobName,
    number: Annotated[
        int | None, typer.Argument(metavar="[NUMBER]", min=1, help="Print the recipe of this revision.")
    ] = None,
    as_json: session.Json = False,
) -> None:
    """List the revisions of a job, or print the recipe of one.

    `provision revisions JOB NUMBER | provision apply -` applies an earlier revision again.
    """
    history = session.control(context).history
    if number is not None:
        recipe = history.revision(job, number)
        if as_json:
            screen.put_view(recipe)
            return
        from provisioner.core.history.texts import short_yaml

        if recipe.run:
            streams.complain(f"revision {number} is not stored: this recipe is of run {recipe.run[:12]}")
        streams.put_text(short_yaml(recipe.recipe).rstrip("\n"))
        return
    found = history.revisions(job, limit=SHOWN).revisions
    if as_json:
        screen.put_view(found)
    else:
        screen.revisions(found)


def delete(context: typer.Context, job: JobName, as_json: session.Json = False) -> None:
    """Delete a job; its runs stay.

    A job with unfinished runs cannot be deleted.
    """
    service = session.control(context)
    session.catch_up(service)
    gone = service.jobs.delete(job)
    if as_json:
        screen.put_view(gone)
    else:
        streams.put(f"deleted {gone.owner}/{gone.name}; its runs and logs are kept")


def schema(
    output: Annotated[
        str, typer.Option(metavar="COMMAND", help='Of what COMMAND prints with --json, such as runs or "token list".')
    ] = "",
) -> None:
    """Print the JSON Schema of recipes."""
    from provisioner.core.recipe.recipe import json_schema
    from provisioner.faces.cli.outputs import OUTPUTS, output_schema

    if output and output not in OUTPUTS:
        raise typer.BadParameter(f"{output!r} has no schema; {', '.join(OUTPUTS)} have one", param_hint="--output")
    streams.put_json(output_schema(output) if output else json_schema())
