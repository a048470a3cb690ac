"""Usage: dollars and machine-hours of a period, as charts, tables and CSV."""

import datetime as dt
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Depends, Query
from starlette.responses import Response

from provisioner.core.cloud.caps.budget import date, day_of
from provisioner.core.views.costs.csv_text import usage_csv
from provisioner.faces.page.charts.usage import KINDS, columns, lines
from provisioner.faces.page.render import HEADERS
from provisioner.faces.page.routing import page_router
from provisioner.faces.page.visitor import Visit, Visiting
from provisioner.ports.control.usage import DIMENSIONS, TAG, UsageQuery

router = page_router()

#: The groups that the table can show, with their words.
BY = {
    "owner": "owner",
    "group": "group (org of org/identity)",
    "user": "who started it",
    "job": "job",
    "instance_type": "instance type",
    "market": "market",
    "use": "use",
    "day": "day",
    "month": "month",
    "tag": "tag",
}
#: Maximum number of days that are drawn as days, and of lines of the table; CSV has all lines.
DAYS, LINES = 62, 200

Text = Annotated[str, Query(max_length=400)]
From = Annotated[str, Query(alias="from", max_length=10)]
Until = Annotated[str, Query(alias="to", max_length=10)]


@dataclass(frozen=True)
class Choice:
    """What the page shows."""

    by: str
    tag: str
    owner: str
    first: str
    last: str

    @property
    def dimension(self) -> str:
        return f"{TAG}{self.tag}" if self.by == "tag" else self.by

    def query(self, *by: str) -> UsageQuery:
        return UsageQuery(by, self.first, self.last, (self.owner,) if self.owner else ())

    def address(self, **changes: str) -> str:
        """Return the URL query string for this choice, with `changes` applied."""
        told = {"by": self.by, "tag": self.tag, "owner": self.owner, "from": self.first, "to": self.last, **changes}
        return urlencode({name: value for name, value in told.items() if value})


async def _choice(by: Text = "owner", tag: Text = "", owner: Text = "", first: From = "", last: Until = "") -> Choice:
    """Return the choice in the request's query; a group that is not known counts as `owner`."""
    known = by if by in DIMENSIONS or (by == "tag" and tag.strip()) else "owner"
    return Choice(known, tag.strip(), owner.strip(), first.strip(), last.strip())


Chosen = Annotated[Choice, Depends(_choice)]


@router.get("/usage")
def usage(visit: Visiting, choice: Chosen) -> Response:
    found = visit.control.usage.read(choice.query(choice.dimension))
    long = (dt.date.fromisoformat(found.last) - dt.date.fromisoformat(found.first)).days >= DAYS
    by_time = visit.control.usage.read(choice.query("month" if long else "day", "use"))
    return visit.page(
        "usage.html",
        title="Usage",
        choice=choice,
        names=BY,
        usage=found,
        chart=columns(by_time),
        kinds=KINDS,
        monthly=long,
        lines=lines(found.rows[:LINES]),
        more=max(0, len(found.rows) - LINES),
        periods=_periods(visit),
        several=visit.caller.admin or len(visit.caller.owners) > 1 or bool(choice.owner),
    )


@router.get("/usage.csv")
def usage_file(visit: Visiting, choice: Chosen) -> Response:
    found = visit.control.usage.read(choice.query(choice.dimension))
    name = f"usage-{found.first}-{found.last}.csv"
    headers = {**HEADERS, "content-disposition": f'attachment; filename="{name}"'}
    return Response(usage_csv(found), headers=headers, media_type="text/csv")


def _periods(visit: Visit) -> tuple[tuple[str, str, str], ...]:
    """Return periods to choose from: a name, the first and the last day."""
    now = visit.control.operator.now()
    today = date(day_of(now))
    before = dt.date.fromisoformat(today).replace(day=1) - dt.timedelta(days=1)
    return (
        ("this month", today[:7], today),
        ("last month", before.isoformat()[:7], before.isoformat()[:7]),
        ("30 days", date(day_of(now) - 29), today),
        ("this year", f"{today[:4]}-01", today),
    )
