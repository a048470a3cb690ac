"""Commands for jobs and recipes: apply, jobs, show, delete, schema."""

from typing import Annotated

import typer

from provisioner.faces.cli import session
from provisioner.faces.cli.terminal import screen, streams

JobName = Annotated[str, typer.Argument(metavar="JOB", help="NAME or OWNER/NAME.")]


def apply(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The recipe, YAML or JSON; - reads standard input.")],
    start: Annotated[bool, typer.Option("--start", help="Start a run of it.")] = False,
    as_json: session.Json = False,
) -> int:
    """Store a recipe as a job, or as its next revision."""
    from provisioner.faces.cli.commands.runs import started

    service = session.control(context)
    job = service.jobs.apply(session.read_file(file), file)
    name = f"{job.owner}/{job.name}"
    if start:
        streams.say(f"{name} is at revision {job.revision}")
        return started(service, lambda: service.runs.start(name, {}), as_json=as_json)
    if as_json:
        screen.put_view(job)
    else:
        streams.put(f"{name} is at revision {job.revision}; start it: provision start {job.name}")
    return 0


def jobs(context: typer.Context, as_json: session.Json = False) -> None:
    """List the jobs."""
    found = session.control(context).jobs.all()
    if as_json:
        screen.put_view(found)
    else:
        screen.jobs(found)


def show(context: typer.Context, job: JobName, as_json: session.Json = False) -> None:
    """Print a job's recipe, with every default filled in."""
    import yaml

    found = session.control(context).jobs.get(job)
    if as_json:
        screen.put_view(found)
    else:
        streams.put_text(yaml.safe_dump(dict(found.recipe), sort_keys=False, allow_unicode=True).rstrip("\n"))


def delete(context: typer.Context, job: JobName, as_json: session.Json = False) -> None:
    """Forget a job that has no unfinished runs; its runs stay."""
    service = session.control(context)
    session.catch_up(service)
    gone = service.jobs.delete(job)
    if as_json:
        screen.put_view(gone)
    else:
        streams.put(f"deleted {gone.owner}/{gone.name}; its runs and their logs stay")


def schema() -> None:
    """Print the JSON Schema of recipes."""
    from provisioner.core.recipe.recipe import json_schema

    streams.put_json(json_schema())
