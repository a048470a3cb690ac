"""The page of a job, its live parts, and its actions."""

import json
from typing import Annotated, Any

from fastapi import Path, Query
from starlette.responses import Response

from provisioner.core.errors import NotFound, ProvisionError
from provisioner.core.history.differences import differences
from provisioner.core.history.texts import short_yaml
from provisioner.faces.api.http.answers import refusal
from provisioner.faces.api.http.caller import JobName, OwnerName, named
from provisioner.faces.page.job.forms import inputs_of
from provisioner.faces.page.job.sections import BY_NAME, SECTIONS, JobPage
from provisioner.faces.page.routing import page_router
from provisioner.faces.page.visitor import Changing, Visit, Visiting

router = page_router()

Number = Annotated[int, Path(ge=1, le=2**31)]
Before = Annotated[int | None, Query(ge=1, le=2**31)]
#: Fields of the form of a schedule.
PLAN = ("schedule", "timezone", "concurrency_policy", "schedule_catchup")


@router.get("/job/{job}")
def job_page(visit: Visiting, job: JobName, owner_name: OwnerName = "", before: Before = None) -> Response:
    found = visit.control.jobs.get(named(job, owner_name))
    if found.id != job:
        return visit.see_other(f"/job/{found.id}")
    return _shown(visit, JobPage(visit.control, found, visit.control.operator.now(), before))


def _shown(visit: Visit, page: JobPage, status: int = 200, trouble: str = "") -> Response:
    """Return the page of a job; after a change that was refused, with the reason and the form as it was sent."""
    return visit.page(
        "job.html",
        status,
        title=page.job.name,
        page=page,
        sections=SECTIONS,
        trouble=trouble,
        form=visit.form,
        rows=[pair for pair in _pairs(visit) if any(pair)],
        key=visit.form.get("key") or visit.server.ids.new(),
    )


def _pairs(visit: Visit) -> list[tuple[str, str]]:
    names = [value for name, value in visit.fields if name == "name"]
    return list(zip(names, [value for name, value in visit.fields if name == "value"], strict=False))


@router.get("/job/{job}/parts/{name}")
def job_part(visit: Visiting, job: JobName, name: Annotated[str, Path(max_length=40)]) -> Response:
    """Return a section of the page, for its update."""
    section = BY_NAME.get(name)
    found = visit.control.jobs.get(job)
    if section is None or not section.every:
        raise NotFound(f"job {found.name} has no live section {name!r}")
    return visit.part(section.template, page=JobPage(visit.control, found, visit.control.operator.now()))


@router.post("/job/{job}/start")
def start_run(visit: Changing, job: JobName) -> Response:
    """Start a run; the same form with the same inputs starts one run only."""
    found, now = visit.control.jobs.get(job), visit.control.operator.now()
    try:
        inputs = inputs_of(visit.fields)
        key = inputs.key(f"{visit.csrf} {found.id} {visit.form.get('key', '')[:100]}")
        run = visit.control.runs.start(found.id, inputs.env, inputs.command, key, inputs.scale)
    except ProvisionError as error:
        return _refused(visit, found, error)
    again = "This form had started this run already. Load the job's page again to start another run."
    return visit.see_other(f"/run/{run.id}", again if run.created_at < now - 1 else "")


def _refused(visit: Visit, job: Any, error: ProvisionError) -> Response:
    """Return the job's page with the reason why a change was refused. Raise a fault of the server again."""
    answer = refusal(error)
    if answer is None:
        raise error
    return _shown(visit, JobPage(visit.control, job, visit.control.operator.now()), answer.status_code, str(error))


@router.post("/job/{job}/schedule")
def set_schedule(visit: Changing, job: JobName) -> Response:
    """Set the schedule, or end it if the form's button says so."""
    found = visit.control.jobs.get(job)
    said = {name: visit.form[name].strip() for name in PLAN if visit.form.get(name, "").strip()}
    try:
        visit.control.schedules.set(found.id, None if visit.form.get("off") else said)
    except ProvisionError as error:
        return _refused(visit, found, error)
    message = "The schedule is off." if visit.form.get("off") else "The schedule is set."
    return visit.see_other(f"/job/{found.id}", message)


@router.post("/job/{job}/clone")
def clone_job(visit: Changing, job: JobName) -> Response:
    """Apply the job's recipe under another name. The copy's schedule does not start."""
    found = visit.control.jobs.get(job)
    recipe = {key: value for key, value in found.recipe.items() if key != "state"}
    recipe["spec"] = {
        **recipe["spec"],
        "name": visit.form.get("as", "").strip(),
        "owner": visit.form.get("owner", "").strip() or found.owner,
    }
    try:
        made = visit.control.jobs.create(json.dumps(recipe), "copy")
    except ProvisionError as error:
        return _refused(visit, found, error)
    off = " Its schedule is off until it is set on this page." if recipe["spec"].get("schedule") else ""
    return visit.see_other(f"/job/{made.id}", f"{made.name} is a copy of {found.name}.{off}")


@router.post("/job/{job}/delete")
def delete_job(visit: Changing, job: JobName) -> Response:
    found = visit.control.jobs.get(job)
    try:
        visit.control.jobs.delete(found.id)
    except ProvisionError as error:
        return _refused(visit, found, error)
    return visit.see_other("/jobs", f"{found.name} is deleted; its runs and logs are kept.")


@router.get("/job/{job}/revisions/{number}")
def revision_page(visit: Visiting, job: JobName, number: Number, against: Before = None) -> Response:
    """Show the recipe of a revision, and how it differs from another one: by default, the one before it."""
    found = visit.control.jobs.get(job)
    shown = visit.control.history.revision(found.id, number)
    other = against or number - 1
    try:
        before = visit.control.history.revision(found.id, other) if other else None
    except NotFound:
        before = None
    text = short_yaml(shown.recipe)
    lines = differences(short_yaml(before.recipe), text) if before else None
    return visit.page(
        "revision.html",
        title=f"{found.name}, revision {number}",
        job=found,
        revision=shown,
        before=before,
        other=other,
        lines=lines,
        text=text,
    )
