"""Command that shows the address of a page: open."""

import os
import sys
import webbrowser
from typing import Annotated

import typer

from provisioner.core.errors import Invalid, NotFound
from provisioner.core.suggestions import did_you_mean
from provisioner.faces.cli import complete, names, session
from provisioner.faces.cli.terminal import streams
from provisioner.ports.control.control import Control


def open_page(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="[JOB|RUN]",
            help="A job, or a run's id or its beginning.  [default: the page itself]",
            autocompletion=complete.run,
        ),
    ] = "",
    only_print: Annotated[bool, typer.Option("--print", help="Print the address, and open no browser.")] = False,
    as_json: session.Json = False,
) -> None:
    """Open the page of a job or a run.

    Prints the address. On a terminal of a desktop this also opens a browser. The address begins with $PROVISION_URL or,
    on the control host, with `page_url` of the settings.
    """
    # Before the name is looked up: without an address the rest is in vain.
    base = _base(context)
    url = base + (_path(session.control(context), names.run(name)) if name else "/")
    if as_json:
        streams.put_json({"url": url})
        return
    streams.put(url)
    if not only_print and sys.stdout.isatty() and _has_browser():
        webbrowser.open(url)


def _base(context: typer.Context) -> str:
    """Return the address of the page, without a slash at its end. Raises Invalid."""
    if not context.obj["settings"] and (server := os.environ.get("PROVISION_URL")):
        return server.rstrip("/")
    found: str = session.settings(context).page_url
    if not found:
        raise Invalid(
            "the page's address is not known: set `page_url` in the settings, for example to the"
            " http://127.0.0.1:8080 of `provision serve`, or PROVISION_URL for a server"
        )
    return found.rstrip("/")


def _path(service: Control, name: str) -> str:
    run = session.begun_with(service, name)
    try:
        job = service.jobs.get(name)
    except NotFound:
        job = None
    if run and job:
        raise Invalid(
            f"{name!r} is the beginning of run {run.id} and the name of a job: give more of the id, or OWNER/{name}"
        )
    if run:
        return f"/run/{run.id}"
    if job:
        return f"/job/{job.id}"
    meant = did_you_mean(name, (each.name for each in service.jobs.all()))
    raise NotFound(f"no job or run {name!r}{meant or '; `provision jobs` and `provision runs` list them'}")


def _has_browser() -> bool:
    """Return whether a browser can open a window; else Python would start a text browser in this terminal."""
    return sys.platform == "darwin" or any(os.environ.get(each) for each in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
