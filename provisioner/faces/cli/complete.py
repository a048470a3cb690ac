"""Complete names of jobs and ids of runs for the shell: `provision completion`."""

import contextlib
from collections.abc import Iterator

import typer

from provisioner.core.errors import ProvisionError
from provisioner.ports.control.control import Control

#: Maximum number of suggestions.
MOST = 50


@contextlib.contextmanager
def _control(context: typer.Context) -> Iterator[Control | None]:
    """Yield the installation that the typed words and the environment name, or None if it cannot be opened.

    A completion must neither print an error nor act on the cloud.
    """
    from provisioner.faces.cli import session

    root = context.find_root()
    root.obj = {"settings": root.params.get("settings") or None}
    context.obj = root.obj
    try:
        yield session.control(context)
    except (ProvisionError, OSError):
        yield None


def job(context: typer.Context, incomplete: str) -> list[str]:
    """Return names of jobs that begin with what was typed."""
    with contextlib.suppress(ProvisionError, OSError), _control(context) as service:
        if service:
            own = service.operator.owners()[:1]
            names = [each.name if each.owner in own else f"{each.owner}/{each.name}" for each in service.jobs.all()]
            return [name for name in names if name.startswith(incomplete)][:MOST]
    return []


def run(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return ids of the newest runs that begin with what was typed, each with its job and state, and names of jobs."""
    found = list[tuple[str, str]]()
    with contextlib.suppress(ProvisionError, OSError), _control(context) as service:
        if service:
            found = [
                (each.id[:12], f"{each.job}, {each.outcome or each.state}")
                for each in service.runs.find()
                if each.id.startswith(incomplete)
            ]
    return [*found, *((name, "its latest run") for name in job(context, incomplete))][:MOST]
