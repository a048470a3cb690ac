"""The list of runs, and the stop of several of them."""

from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Query
from starlette.responses import Response

from provisioner.core.errors import NotFound, ProvisionError
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.states import State
from provisioner.core.views.pages import key_in
from provisioner.core.views.run import Runs
from provisioner.faces.page.routing import page_router
from provisioner.faces.page.visitor import Changing, Visiting
from provisioner.ports.store import RunFilter

router = page_router()

#: Number of runs of a page; as many can be stopped at once.
PAGE = 50
UNFINISHED = "unfinished"
#: What the list can be limited to: a state, an outcome, or all unfinished runs.
SHOWN = (UNFINISHED, *(state.value for state in State if state is not State.DONE), *(each.value for each in Outcome))


@dataclass(frozen=True)
class Choice:
    """What the list is limited to; "" limits nothing."""

    job: str = ""
    owner: str = ""
    show: str = ""

    def which(self, cursor: str) -> RunFilter:
        states: tuple[State, ...] = ()
        if self.show == UNFINISHED:
            states = tuple(state for state in State if state is not State.DONE)
        elif self.show in set(State):
            states = (State(self.show),)
        outcomes = (Outcome(self.show),) if self.show in set(Outcome) else ()
        owners = (self.owner,) if self.owner else None
        return RunFilter(
            job=self.job, owners=owners, states=states, outcomes=outcomes, after=key_in(cursor), limit=PAGE
        )

    def query(self) -> str:
        """Return the URL query string for this choice."""
        return urlencode({name: value for name, value in vars(self).items() if value})


Text = Annotated[str, Query(max_length=400)]


def _choice(job: str, owner: str, show: str) -> Choice:
    return Choice(job.strip(), owner.strip(), show if show in SHOWN else "")


@router.get("/runs")
def runs(visit: Visiting, job: Text = "", owner: Text = "", show: Text = "", cursor: Text = "") -> Response:
    return _list(visit, "runs.html", _choice(job, owner, show), cursor)


@router.get("/runs/part")
def runs_part(visit: Visiting, job: Text = "", owner: Text = "", show: Text = "", cursor: Text = "") -> Response:
    """Return the table, for its update."""
    return _list(visit, "", _choice(job, owner, show), cursor)


def _list(visit: Visiting, template: str, choice: Choice, cursor: str) -> Response:
    trouble, found = "", Runs((), None)
    try:
        found = visit.control.runs.page(choice.which(cursor))
    except NotFound as error:
        trouble = str(error)
    owners = {run.owner for run in found.runs} | set(visit.caller.owners)
    values: dict[str, Any] = {
        "choice": choice,
        "cursor": cursor,
        "runs": found.runs,
        "next_key": found.next_key,
        "trouble": trouble,
        "one_owner": len(owners) == 1,
    }
    if not template:
        return visit.part("parts/runs_table.html", **values)
    return visit.page(template, title="Runs", shown=SHOWN, **values)


@router.post("/runs/stop")
def stop_runs(visit: Changing) -> Response:
    chosen = list(dict.fromkeys(value for name, value in visit.fields if name == "run"))[:PAGE]
    stopped, troubles = 0, []
    for id in chosen:
        try:
            visit.control.runs.stop(id[:64])
            stopped += 1
        except ProvisionError as error:
            troubles.append(str(error))
    choice = _choice(*(visit.form.get(name, "")[:400] for name in ("job", "owner", "show")))
    told = f"Stop requested for {stopped} run{'' if stopped == 1 else 's'}." if chosen else "No run was selected."
    return visit.see_other(f"/runs?{choice.query()}", " ".join([told, *troubles[:3]]))
