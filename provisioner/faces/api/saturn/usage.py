"""Usage in the form of Saturn's API (public OpenAPI 2026.02.01).

Dollars are expected amounts of machines and their disks, with estimates of runs that are not done. This installation
does not distinguish users from groups: every owner is shown as a user. Its id is its name.
"""

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Annotated, TypedDict

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from provisioner.core.access.callers import Caller
from provisioner.core.errors import Invalid, NotFound
from provisioner.core.views.costs.usage import UsageRow
from provisioner.faces.api.http.answers import answer
from provisioner.faces.api.http.caller import Acting, Calling
from provisioner.faces.api.http.document import answers
from provisioner.ports.control.control import Control
from provisioner.ports.control.usage import UsageQuery

router = APIRouter(tags=["saturn"])

OrgName = Annotated[str, Path(max_length=100, description="An organisation, as in `GET /api/orgs`.", examples=["lab"])]
MemberName = Annotated[str, Path(max_length=100, description="The second part of an owner's name.", examples=["ann"])]
Start = Annotated[str, Query(max_length=40, description="ISO 8601. Default: the first day of the present month.")]
End = Annotated[str, Query(max_length=40, description="ISO 8601; a date is included, a time is not. Default: now.")]


class Daily(TypedDict):
    """The usage of one instance type on one UTC day."""

    date: str
    hours: float
    dollars: float
    instance_type: str
    resource_type: Annotated[str, "Always `job`."]


class DailyUsage(TypedDict):
    """Usage by day and instance type."""

    usage: list[Daily]


class Aggregated(TypedDict):
    """The usage of a period."""

    hours: float
    dollars: float


class UsageOwner(TypedDict):
    """Who pays."""

    name: str
    identity_type: Annotated[str, "Always `user`."]
    user_id: str


class OwnerUsage(TypedDict):
    """The usage of one owner."""

    hours: float
    dollars: float
    owner: UsageOwner


class OwnersUsage(TypedDict):
    """Usage by owner."""

    usage: list[OwnerUsage]


_DAILY = {
    "usage": [
        {"date": "2026-01-02", "hours": 1.5, "dollars": 1.53, "instance_type": "g5.xlarge", "resource_type": "job"}
    ]
}
_AGGREGATED = {"hours": 1.5, "dollars": 1.53}
_OWNERS = {
    "usage": [
        {
            "hours": 1.5,
            "dollars": 1.53,
            "owner": {"name": "lab/ann", "identity_type": "user", "user_id": "lab/ann"},
        }
    ]
}

#: A function that returns whether to include an owner's usage.
Wanted = Callable[[str], bool]


def of_org(caller: Caller, org: str) -> Wanted:
    """Select the owners of an organisation. An owner without one is listed as an organisation."""
    return _known(caller, lambda owner: owner.partition("/")[0] == org, f"no organisation {org!r}")


def of_member(caller: Caller, org: str, member: str) -> Wanted:
    """Select one owner."""
    return _known(
        caller, lambda owner: owner == f"{org}/{member}" or owner == member == org, f"no member {member!r} of {org!r}"
    )


def of_group(caller: Caller, group: str) -> Wanted:
    """Select the owners with this name, in any organisation."""
    return _known(caller, lambda owner: owner.rpartition("/")[2] == group, f"no group {group!r}")


def _known(caller: Caller, wanted: Wanted, message: str) -> Wanted:
    """Raise NotFound if the caller may see none of these owners."""
    if not caller.admin and not any(map(wanted, caller.owners)):
        raise NotFound(message)
    return wanted


def _rows(control: Control, wanted: Wanted, start: str, end: str, *by: str) -> Iterator[UsageRow]:
    query = UsageQuery((*by, "owner"), _day(start), _day(end, last=True))
    return (row for row in control.usage.read(query).rows if row.group[-1] and wanted(row.group[-1]))


def _day(text: str, *, last: bool = False) -> str:
    """Return the UTC day of an ISO 8601 date or time; for the `last` one, of the moment before a time."""
    if not text:
        return ""
    try:
        if len(text) <= len("2026-01-01"):
            return dt.date.fromisoformat(text).isoformat()
        at = dt.datetime.fromisoformat(text)
        at = at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at.astimezone(dt.UTC)
        return (at - dt.timedelta(microseconds=1) if last else at).date().isoformat()
    except (ValueError, OverflowError) as error:
        raise Invalid(f"not a date {text!r}: write ISO 8601, such as 2026-01-31") from error


def _daily(control: Control, wanted: Wanted, start: str, end: str) -> Response:
    found: dict[tuple[str, str], tuple[float, float]] = {}
    for row in _rows(control, wanted, start, end, "day", "instance_type"):
        day, kind, _ = row.group
        hours, dollars = found.get((day, kind), (0.0, 0.0))
        found[day, kind] = hours + row.hours, dollars + row.total
    told = [
        Daily(date=day, hours=hours, dollars=dollars, instance_type=kind, resource_type="job")
        for (day, kind), (hours, dollars) in sorted(found.items())
    ]
    return answer(DailyUsage(usage=told))


def _aggregated(control: Control, wanted: Wanted, start: str, end: str) -> Response:
    rows = list(_rows(control, wanted, start, end))
    return answer(Aggregated(hours=sum(row.hours for row in rows), dollars=sum(row.total for row in rows)))


@router.get(
    "/orgs/{org}/usage/daily", operation_id="org_usage_daily", responses=answers(DailyUsage, 404, example=_DAILY)
)
def org_usage_daily(caller: Calling, control: Acting, org: OrgName, start: Start = "", end: End = "") -> Response:
    """Show an organisation's usage by day and instance type."""
    return _daily(control, of_org(caller, org), start, end)


@router.get(
    "/orgs/{org}/usage/aggregated",
    operation_id="org_usage_aggregated",
    responses=answers(Aggregated, 404, example=_AGGREGATED),
)
def org_usage_aggregated(caller: Calling, control: Acting, org: OrgName, start: Start = "", end: End = "") -> Response:
    """Show the sum of an organisation's usage."""
    return _aggregated(control, of_org(caller, org), start, end)


@router.get(
    "/orgs/{org}/usage/owners", operation_id="org_usage_owners", responses=answers(OwnersUsage, 404, example=_OWNERS)
)
def org_usage_owners(caller: Calling, control: Acting, org: OrgName, start: Start = "", end: End = "") -> Response:
    """Show an organisation's usage by owner, the largest first."""
    told = [
        OwnerUsage(
            hours=row.hours,
            dollars=row.total,
            owner=UsageOwner(name=row.group[-1], identity_type="user", user_id=row.group[-1]),
        )
        for row in _rows(control, of_org(caller, org), start, end)
    ]
    return answer(OwnersUsage(usage=told))


@router.get(
    "/orgs/{org}/members/{member}/usage/daily",
    operation_id="member_usage_daily",
    responses=answers(DailyUsage, 404, example=_DAILY),
)
def member_usage_daily(
    caller: Calling, control: Acting, org: OrgName, member: MemberName, start: Start = "", end: End = ""
) -> Response:
    """Show a member's usage by day and instance type."""
    return _daily(control, of_member(caller, org, member), start, end)


@router.get(
    "/orgs/{org}/members/{member}/usage/aggregated",
    operation_id="member_usage_aggregated",
    responses=answers(Aggregated, 404, example=_AGGREGATED),
)
def member_usage_aggregated(
    caller: Calling, control: Acting, org: OrgName, member: MemberName, start: Start = "", end: End = ""
) -> Response:
    """Show the sum of a member's usage."""
    return _aggregated(control, of_member(caller, org, member), start, end)


@router.get(
    "/groups/{member}/usage/daily",
    operation_id="group_usage_daily",
    responses=answers(DailyUsage, 404, example=_DAILY),
)
def group_usage_daily(
    caller: Calling, control: Acting, member: MemberName, start: Start = "", end: End = ""
) -> Response:
    """Show a group's usage by day and instance type."""
    return _daily(control, of_group(caller, member), start, end)


@router.get(
    "/groups/{member}/usage/aggregated",
    operation_id="group_usage_aggregated",
    responses=answers(Aggregated, 404, example=_AGGREGATED),
)
def group_usage_aggregated(
    caller: Calling, control: Acting, member: MemberName, start: Start = "", end: End = ""
) -> Response:
    """Show the sum of a group's usage."""
    return _aggregated(control, of_group(caller, member), start, end)


@router.get("/user/usage/daily", operation_id="user_usage_daily", responses=answers(DailyUsage, 404, example=_DAILY))
def user_usage_daily(caller: Calling, control: Acting, start: Start = "", end: End = "") -> Response:
    """Show the usage of the caller's owners by day and instance type."""
    return _daily(control, caller.owners.__contains__, start, end)


@router.get(
    "/user/usage/aggregated",
    operation_id="user_usage_aggregated",
    responses=answers(Aggregated, 404, example=_AGGREGATED),
)
def user_usage_aggregated(caller: Calling, control: Acting, start: Start = "", end: End = "") -> Response:
    """Show the sum of the usage of the caller's owners."""
    return _aggregated(control, caller.owners.__contains__, start, end)
