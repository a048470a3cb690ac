"""The endpoint that shows usage."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from provisioner.core.views.costs.usage import Usage
from provisioner.faces.api.http import examples
from provisioner.faces.api.http.answers import shown
from provisioner.faces.api.http.caller import Acting
from provisioner.faces.api.http.document import answers
from provisioner.ports.control.usage import UsageQuery, dimensions

router = APIRouter(tags=["usage"])


@router.get("/usage", operation_id="get_usage", responses=answers(Usage, example=examples.usage()))
def get_usage(
    control: Acting,
    by: Annotated[
        list[str] | None,
        Query(
            max_length=200,
            description="owner, group, user, job, instance_type, market, use, day, month or tag:NAME; at most four, "
            "repeated or with commas. Default: owner.",
            examples=["owner,day"],
        ),
    ] = None,
    since: Annotated[
        str,
        Query(alias="from", max_length=10, description="YYYY-MM-DD or YYYY-MM, in UTC. Default: the month's first."),
    ] = "",
    until: Annotated[str, Query(alias="to", max_length=10, description="The last day. Default: today.")] = "",
    owner: Annotated[list[str], Query(max_length=100, description="Only these owners.")] = [],  # noqa: B006
) -> Response:
    """Show machine-hours and dollars of a period, by group.

    Each amount has an expected value between two bounds. It is final when its run is done, and an estimate until then.
    """
    return shown(control.usage.read(UsageQuery(dimensions(by or ["owner"]), since, until, tuple(owner))))
