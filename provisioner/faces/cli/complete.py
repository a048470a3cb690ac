"""Complete names of jobs and ids of runs for the shell: `provision completion`."""

from collections.abc import Callable
from typing import TypeVar

import typer

from provisioner.core.errors import ProvisionError
from provisioner.ports.control.control import Control

T = TypeVar("T")

#: Maximum number of suggestions.
MOST = 50


def _read(context: typer.Context, reader: Callable[[Control], list[T]]) -> list[T]:
    """Return what `reader` reads from the installation that the typed words and the environment name.

    Returns an empty list after an error: a completion must neither print an error, nor wait for a server that does not
    answer.
    """
    from provisioner.faces.cli import session

    root = context.find_root()
    context.obj = root.obj = {"settings": root.params.get("settings") or None}
    try:
        service = session.control(context)
        with service.impatient():
            return reader(service)
    except (ProvisionError, OSError):
        return []


def job(context: typer.Context, incomplete: str) -> list[str]:
    """Return names of jobs that begin with what was typed."""

    def names(service: Control) -> list[str]:
        own = service.operator.owners()[:1]
        known = [each.name if each.owner in own else f"{each.owner}/{each.name}" for each in service.jobs.all()]
        return [name for name in known if name.startswith(incomplete)][:MOST]

    return _read(context, names)


def run(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return ids of the newest runs that begin with what was typed, each with its job and state, and names of jobs."""

    def ids(service: Control) -> list[tuple[str, str]]:
        newest = [each for each in service.runs.find() if each.id.startswith(incomplete)]
        return [(each.id[:12], f"{each.job}, {each.outcome or each.state}") for each in newest]

    jobs = [(name, "its latest run") for name in job(context, incomplete)]
    return [*_read(context, ids), *jobs][:MOST]
