"""Arguments that name a job or a run. The address of its page is accepted in place of its id."""

import re
from typing import Annotated
from urllib.parse import unquote, urlsplit

import typer

from provisioner.core.plain import plain
from provisioner.faces.cli import complete

#: The page of a job or a run, or one of its parts; Saturn Cloud's address of a job ends in the same way.
_PAGE = re.compile(r"/(job|run)/([^/]+)")
_JOB, _RUN = ("job",), ("run", "job")
#: The longest part of a wrong address in a message.
_SHOWN = 100


def is_address(text: str) -> bool:
    """Return whether the text is meant as the address of a page: no name of a job and no id has a colon."""
    return text.lower().startswith(("http://", "https://"))


def _id(text: str, kinds: tuple[str, ...]) -> str:
    if not is_address(text):
        return text
    try:
        found = _PAGE.search(urlsplit(text).path)
    except ValueError:  # An IPv6 address without its second bracket.
        found = None
    if found is None or found[1] not in kinds:
        wanted = " or ".join(f"https://HOST/{kind}/ID" for kind in kinds)
        raise typer.BadParameter(f"{plain(text)[:_SHOWN]} is not the address of a {' or '.join(kinds)}: give {wanted}")
    return unquote(found[2])


def job(text: str) -> str:
    """Return the name, or the id in the address of a job's page. Raises BadParameter for any other address."""
    return _id(text, _JOB)


def run(text: str) -> str:
    """Return the name, or the id in the address of a run's or a job's page. Raises BadParameter for any other."""
    return _id(text, _RUN)


def _job_given(value: str | None) -> str | None:
    return value if value is None else job(value)


def _jobs_given(value: list[str] | None) -> list[str] | None:
    return value and [job(each) for each in value]


def _run_given(value: str | None) -> str | None:
    return value if value is None else run(value)


def _runs_given(value: list[str] | None) -> list[str] | None:
    return value and [run(each) for each in value]


JobName = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="NAME, OWNER/NAME, its id, or its page's address.",
        autocompletion=complete.job,
        callback=_job_given,
    ),
]
MaybeJobName = Annotated[
    str,
    typer.Argument(metavar="[JOB]", help="Only runs of this job.", autocompletion=complete.job, callback=_job_given),
]
JobNames = Annotated[
    list[str] | None,
    typer.Option(
        "--job",
        metavar="JOB",
        help="All unfinished runs of this job.",
        autocompletion=complete.job,
        callback=_jobs_given,
    ),
]
RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run's id, the beginning of its id, its page's address, or a job: its latest run.",
        autocompletion=complete.run,
        callback=_run_given,
    ),
]
RunNames = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...",
        help="Ids of runs, the beginnings of ids, or jobs: their latest runs.",
        autocompletion=complete.run,
        callback=_runs_given,
    ),
]
MaybeRunNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN...]",
        help="Ids of runs, or jobs: their latest runs.",
        autocompletion=complete.run,
        callback=_runs_given,
    ),
]
