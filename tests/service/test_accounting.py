"""Usage of older runs, of machines without a run, and of runs that are not done; and who may see it."""

from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.access.callers import Caller
from provisioner.core.errors import Invalid
from provisioner.core.run.records import Record
from provisioner.core.views.costs.usage import Usage, UsageRow
from provisioner.ports.control.usage import UsageQuery
from provisioner.rehearsal.ec2.conditions import Conditions, PriceRule
from provisioner.rehearsal.ec2.instance import FleetAnswer, FleetRequest
from provisioner.service.control import OnBehalf
from provisioner.service.usage import reading
from provisioner.service.usage.accounting import STEP, Accounting
from tests.service.agents import Script
from tests.service.world import World

CONDITIONS = Conditions(boot_delay=5.0, prices=(PriceRule(3600.0),), disk=(0.08, 0.0, 0.0))


def world(**script: Any) -> World:
    return World(CONDITIONS, lambda _: Script(**script), busy=1.0)


def read(world: World, *by: str, caller: Caller | None = None, **more: Any) -> Usage:
    control = OnBehalf(world.users._parts, caller) if caller else world.users  # noqa: SLF001
    return control.usage.read(UsageQuery(by, **more))


def groups(found: Usage) -> dict[tuple[str, ...], UsageRow]:
    return {row.group: row for row in found.rows}


def caller(*owners: str, admin: bool = False) -> Caller:
    return Caller("t1", owners, admin, "192.0.2.1")


def forget(world: World) -> None:
    """Make the machines look as if an earlier version had ended them: no usage is saved."""
    store: Any = world.store
    store._records = {kind: table for kind, table in store._records.items() if kind.__name__ != "MachineUsage"}  # noqa: SLF001
    store._accounted.clear()  # noqa: SLF001


def passes(world: World, count: int) -> None:
    _, service = world.incarnate()
    for _ in range(count):
        service.operator.step()
        world.advance(61.0)


def test_usage_of_runs_of_earlier_versions_is_saved_in_steps() -> None:
    made = world(command=30.0)
    for number in range(STEP + 5):
        made.plan(float(number), lambda: made.start())
    made.run()
    whole = read(made, "owner")
    forget(made)
    empty = read(made, "owner")
    assert (empty.rows, empty.uncounted) == ((), STEP + 5)
    passes(made, 1)
    assert 0 < read(made, "owner").uncounted <= 5
    passes(made, 2)
    again = read(made, "owner")
    assert (again.rows, again.final, again.uncounted) == (whole.rows, whole.final, 0)


def test_a_spare_machine_is_unattributed_with_the_price_of_its_launch() -> None:
    made = world(command=100.0)
    made.plan(0.0, lambda: made.start())
    create = made.model.create_fleet

    def generous(request: FleetRequest, now: float) -> FleetAnswer:
        answer = create(replace(request, count=request.count + 1), now)
        # The answer names one machine only.
        return replace(answer, machines=answer.machines[:1])

    made.model.create_fleet = generous  # type: ignore[method-assign]
    made.run()
    passes(made, 3)
    found = groups(read(made, "use", "owner", "job"))
    assert found.keys() == {("unattributed", "", ""), ("succeeded", "tester", "tester/job")}
    assert found["unattributed", "", ""].final.dollars_at_most > 0
    assert read(made, "owner", caller=caller("tester")).rows == (groups(read(made, "owner"))[("tester",)],)


def test_a_run_that_is_not_done_is_an_estimate() -> None:
    made = world(command=1000.0)
    made.start(tags={"team": "x"})
    _, service = made.incarnate()
    for _ in range(100):
        service.operator.step()
        made.advance(1.0)
    (row,) = read(made, "tag:team").rows
    assert row.group == ("x",)
    assert row.final.total == 0
    assert 90 <= row.estimated.dollars <= 100
    assert row.estimated.dollars_at_least <= row.estimated.dollars <= row.estimated.dollars_at_most
    assert groups(read(made, "use")).keys() == {("unfinished",)}
    assert groups(read(made, "owner", caller=caller("other"))) == {}


def test_callers_see_the_usage_of_their_owners_only() -> None:
    made = world()
    made.plan(0.0, lambda: made.start(owner="lab/ann"))
    made.plan(1.0, lambda: made.start(owner="bob"))
    made.run()
    assert groups(read(made, "owner")).keys() == {("lab/ann",), ("bob",)}
    assert groups(read(made, "owner", caller=caller("bob"))).keys() == {("bob",)}
    assert groups(read(made, "owner", caller=caller("bob"), owners=("lab/ann",))) == {}
    assert read(made, "owner", caller=caller("bob"), owners=("lab/ann",)).prices == ()
    assert groups(read(made, "group", "user")).keys() == {("lab", "local:tester"), ("", "local:tester")}


def test_the_prices_that_were_used_have_a_source_and_a_time() -> None:
    made = world()
    made.plan(0.0, lambda: made.start())
    made.run()
    disk, machine = sorted(read(made, "owner").prices, key=lambda price: price.of)
    assert (disk.of, disk.dollars_most, disk.source) == ("disk", 8.0, "fake")
    assert (machine.of, machine.dollars_least, machine.market) == ("machine", 3600.0, "on-demand")
    assert machine.newest <= made.now()


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (UsageQuery(("colour",)), "unknown dimension 'colour'"),
        (UsageQuery(("tag:",)), "unknown dimension 'tag:'"),
        (UsageQuery(("owner",) * 5), "5 dimensions"),
        (UsageQuery(first="yesterday"), "not a day 'yesterday'"),
        (UsageQuery(first="2026-02-30"), "not a day '2026-02-30'"),
        (UsageQuery(first="1969-12-31"), "not a day"),
        (UsageQuery(first="2026-02-02", last="2026-02-01"), "ends before it begins"),
        (UsageQuery(first="1980-01"), "days; give at most"),
    ],
)
def test_a_wrong_query_is_refused(query: UsageQuery, text: str) -> None:
    with pytest.raises(Invalid, match=text):
        world().users.usage.read(query)


def test_months_are_periods_and_groups() -> None:
    made = world()
    made.plan(0.0, lambda: made.start())
    made.run()
    found = read(made, "month", first="2026-12", last="2027-02")
    assert (found.first, found.last) == ("2026-12-01", "2027-02-28")
    assert [row.group for row in found.rows] == [("2027-01",)]
    assert read(made, "day", first="2027-02", last="2027-02").rows == ()


def test_more_groups_than_a_reader_wants_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise one request could take minutes, or silently leave groups out."""
    made = world()
    for owner in ("ann", "bob", "cat"):
        made.start(owner=owner)
    made.run()
    monkeypatch.setattr(reading, "GROUPS", 3)
    assert len(read(made, "owner").rows) == 3
    monkeypatch.setattr(reading, "GROUPS", 2)
    with pytest.raises(Invalid, match="more than 2 groups: give fewer dimensions"):
        read(made, "owner")


def test_older_machines_are_counted_while_those_of_an_unfinished_run_wait() -> None:
    """The machines of earlier attempts have ended, but belong to a run that is not done."""
    made = world(command=30.0)
    made.plan(0.0, lambda: made.start())
    made.run()
    forget(made)
    (run,) = made.store.runs()
    (node,) = made.store.nodes(run.id)
    (machine,) = made.store.machines([node.instance_id])
    live = replace(run, id="f" * 32, done_at=None, ended_at=None, certain_at=None, version=0)
    mine = [
        replace(node, id=f"n{number}", run=live.id, attempt=number, instance_id=f"i-{number}", version=0)
        for number in range(1, STEP + 2)
    ]
    ended = [replace(machine, id=each.instance_id, version=0) for each in mine]
    records: list[Record] = [live, *mine, *ended]
    made.store.save(records)
    accounting = Accounting(made.installation)
    lease = made.store.acquire("test", "daemon", made.now(), 60.0)
    assert lease
    accounting.proceed(made.store.live(), lease.epoch)
    assert [each.id for each in made.store.usages([machine.id, *(each.instance_id for each in mine)])] == [machine.id]
