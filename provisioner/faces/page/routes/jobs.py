"""The list of jobs, and the form that applies a recipe."""

from pathlib import Path
from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response

from provisioner.core.errors import Invalid
from provisioner.core.history.texts import short_yaml
from provisioner.faces.page.charts.strip import strip
from provisioner.faces.page.job.forms import SOURCE, problems_of, unix_lines
from provisioner.faces.page.routing import page_router
from provisioner.faces.page.visitor import Changing, Visit, Visiting

router = page_router()

#: Number of jobs of a page of the list.
JOBS = 50

Search = Annotated[str, Query(max_length=200)]
Cursor = Annotated[str, Query(max_length=400)]


@router.get("/jobs")
def jobs_page(visit: Visiting, q: Search = "", cursor: Cursor = "") -> Response:
    return visit.page("jobs.html", title="Jobs", **_listed(visit, q, cursor))


@router.get("/jobs/parts/list")
def jobs_part(visit: Visiting, q: Search = "", cursor: Cursor = "") -> Response:
    return visit.part("parts/jobs_list.html", **_listed(visit, q, cursor))


def _listed(visit: Visit, q: str, cursor: str) -> dict[str, Any]:
    found = visit.control.history.jobs(q, cursor, JOBS)
    strips = {job.id: strip(job.past.runs, found.at) for job in found.jobs}
    return {"found": found, "strips": strips, "q": q, "cursor": cursor}


@router.get("/apply")
def apply_page(visit: Visiting) -> Response:
    """Show the form for a new job, with a first recipe in it."""
    return _form(visit, STARTER)


@router.get("/job/{job}/edit")
def edit_page(visit: Visiting, job: str, revision: Annotated[int | None, Query(ge=1, le=2**31)] = None) -> Response:
    """Show the form with the job's recipe, or with that of an earlier revision."""
    found = visit.control.jobs.get(job)
    recipe = visit.control.history.revision(found.id, revision).recipe if revision else found.recipe
    return _form(visit, short_yaml(recipe), job=found.id, revision=str(found.revision))


@router.post("/apply")
def apply(visit: Changing) -> Response:
    text = unix_lines(visit.form.get("recipe", ""))
    job, revision = visit.form.get("job", ""), visit.form.get("revision", "")
    if job and (present := visit.control.jobs.get(job)).revision != int(revision if revision.isdecimal() else 0):
        trouble = (
            f"The job was changed meanwhile: it has revision {present.revision} now, and this form was made from "
            f"revision {revision}. Apply again to replace that revision."
        )
        return _form(visit, text, 409, job=job, revision=str(present.revision), trouble=trouble)
    try:
        applied = visit.control.jobs.apply(text, SOURCE)
    except Invalid as error:
        return _form(visit, text, 400, job=job, revision=revision, problems=problems_of(error))
    message = f"{applied.name}: revision {applied.revision} is applied."
    return visit.see_other(f"/job/{applied.id}", " Note: ".join((message, *applied.warnings)))


def _form(
    visit: Visit,
    text: str,
    status: int = 200,
    *,
    job: str = "",
    revision: str = "",
    trouble: str = "",
    problems: Any = (),
) -> Response:
    return visit.page(
        "apply.html",
        status,
        title="Edit the recipe" if job else "New job",
        text=text,
        job=job,
        revision=revision,
        trouble=trouble,
        problems=problems,
        wrong={problem.line for problem in problems if problem.line},
    )


def _starter() -> str:
    """Return the recipe that `provision init recipe` writes: in an installed wheel, or else in a checkout."""
    here = Path(__file__).parents[3]
    return (here / ("starters" if (here / "starters").is_dir() else "../config") / "jobs" / "starter.yaml").read_text()


STARTER = _starter()
