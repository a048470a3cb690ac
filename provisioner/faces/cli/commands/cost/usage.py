"""The command usage."""

from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from provisioner.core.cloud.caps.budget import dollars
from provisioner.core.errors import Invalid
from provisioner.core.units import ago
from provisioner.core.views.costs.csv_text import usage_csv
from provisioner.core.views.costs.usage import Amounts, PriceUsed, Usage
from provisioner.faces.cli import session
from provisioner.faces.cli.terminal import screen, streams
from provisioner.ports.control.usage import UsageQuery, dimensions

#: What the table shows for a group without a value.
NONE = {"owner": "unattributed", "job": "unattributed", "use": "unattributed"}


def usage(
    context: typer.Context,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="D,…",
            help="owner, group, user, job, instance_type, market, use, day, month, tag:NAME.  [default: owner]",
        ),
    ] = None,
    since: Annotated[
        str,
        typer.Option("--from", metavar="DAY", help="YYYY-MM-DD or YYYY-MM, in UTC.  [default: the month's first day]"),
    ] = "",
    until: Annotated[str, typer.Option("--to", metavar="DAY", help="The last day.  [default: today]")] = "",
    owner: Annotated[
        list[str] | None, typer.Option(metavar="O", help="Only this owner; may be repeated.  [default: all]")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: session.Json = False,
) -> None:
    """Show machine-hours and dollars of a period, by group.

    An amount is final when its run is done; until then it is an estimate. `--by use` shows what failed attempts,
    interruptions and waiting cost. User is who started a run, and group the first part of an owner `org/identity`.
    """
    if as_csv and as_json:
        raise Invalid("give either --csv or --json")
    service = session.control(context)
    session.catch_up(service)
    found = service.usage.read(UsageQuery(dimensions(by or ["owner"]), since, until, tuple(owner or ())))
    if as_json:
        screen.put_view(found)
    elif as_csv:
        streams.put_bytes(usage_csv(found).encode())
    else:
        _show(found)


def _show(item: Usage) -> None:
    streams.put(f"usage from {item.first} to {item.last}, UTC")
    if not item.rows:
        streams.say("no machine was used in this period; `provision usage --from YYYY-MM-DD` shows an earlier one")
    else:
        heads = [name.upper().replace("_", " ") for name in item.by]
        lines = [
            (*map(_named, item.by, row.group), *_amounts(row.final, row.estimated)) for row in item.rows if item.by
        ]
        words = ("total", *[""] * (len(item.by) - 1))[: len(item.by)]
        streams.table(
            (*heads, "HOURS", "MACHINES", "DISKS", "TOTAL", "AT LEAST", "AT MOST", "OF IT ESTIMATED"),
            [*lines, (*words, *_amounts(item.final, item.estimated))],
        )
    for line in _notes(item):
        streams.put(line)


def _named(dimension: str, value: str) -> str:
    return value or NONE.get(dimension, "-")


def _amounts(final: Amounts, estimated: Amounts) -> Sequence[str]:
    both = (final, estimated)
    return (
        f"{sum(each.hours for each in both):.2f}",
        dollars(sum(each.dollars for each in both)),
        dollars(sum(each.disk_dollars for each in both)),
        dollars(sum(each.total for each in both)),
        dollars(sum(each.dollars_at_least + each.disk_dollars_at_least for each in both)),
        dollars(sum(each.dollars_at_most + each.disk_dollars_at_most for each in both)),
        dollars(estimated.total) if any(vars(estimated).values()) else "-",
    )


def _notes(item: Usage) -> Iterator[str]:
    """Yield what the amounts are made of, and what they lack."""
    both = (item.final, item.estimated)
    if reserved := sum(each.reserved_dollars for each in both):
        yield (
            f"machines in capacity reservations: {dollars(reserved)} at list prices; already paid for, so not in the "
            "amounts above"
        )
    unpriced = sum(each.unpriced_hours for each in both), sum(each.unpriced_disk_hours for each in both)
    if any(unpriced):
        yield f"price unknown: {unpriced[0]:.2f} h of machines, {unpriced[1]:.2f} h of disks, in no amount"
    if item.uncounted:
        yield f"{item.uncounted:,} machines are not counted yet: a daemon counts them, some in each pass"
    for each in item.prices:
        yield f"price: {_price(each, item.at)}"
    yield f"not included: {'; '.join(item.not_included)}"


def _price(item: PriceUsed, now: float) -> str:
    most = f" to {item.dollars_most:g}" if item.dollars_most != item.dollars_least else ""
    unit = "$/h" if item.of == "machine" else "$/month for the disk"
    oldest = f"{ago(item.oldest, now)} to " if item.oldest != item.newest else ""
    kind = f"{item.market} {item.instance_type}"
    return f"{kind}: {item.dollars_least:g}{most} {unit}, {item.source}, of {oldest}{ago(item.newest, now)}"
