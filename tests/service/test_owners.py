"""Two owners on one installation: neither can see, start, stop or read the other's jobs and runs."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from provisioner.core.access.callers import Caller
from provisioner.core.errors import Forbidden, Invalid, NotFound
from provisioner.core.run.states import State
from provisioner.core.views.job import Job as JobView
from provisioner.core.views.run import Run
from provisioner.faces.cli import session
from provisioner.ports.control.control import Control
from provisioner.ports.control.history import History
from provisioner.ports.control.jobs import Jobs
from provisioner.ports.control.lists import Commands
from provisioner.ports.control.logs import LineQuery, LogQuery, Logs, Place, Search
from provisioner.ports.control.operator import Operator
from provisioner.ports.control.runs import Runs
from provisioner.ports.control.schedules import Schedules
from provisioner.ports.control.tokens import Tokens
from provisioner.ports.control.uploads import Uploads
from provisioner.ports.control.usage import Usage, UsageQuery
from provisioner.ports.store import RunFilter
from provisioner.service.control import OnBehalf, Service
from tests.service.agents import Script
from tests.service.world import World

ANN = Caller("token-ann", ("ann", "team/ann"), admin=False, source="192.0.2.1")
BOB = Caller("token-bob", ("bob",), admin=False, source="192.0.2.2")
ROOT = Caller("token-root", ("root",), admin=True, source="192.0.2.3")
STREAMS = ("system", "setup", "output")

Deed = Callable[[OnBehalf, str], object]
#: Operations on a job, and on a run, by its name.
TO_JOBS: Mapping[str, Deed] = {
    "jobs.get": lambda control, name: control.jobs.get(name),
    "jobs.delete": lambda control, name: control.jobs.delete(name),
    "jobs.prices": lambda control, name: control.jobs.prices(name),
    "runs.start": lambda control, name: control.runs.start(name, {}, idempotency_key="k"),
    "schedules.set": lambda control, name: control.schedules.set(name, {"schedule": "@daily"}),
    "schedules.get": lambda control, name: control.schedules.get(name, 1),
    "history.runs": lambda control, name: control.history.runs(name),
    "history.revisions": lambda control, name: control.history.revisions(name),
    "history.revision": lambda control, name: control.history.revision(name, 1),
    "runs.find of a job": lambda control, name: control.runs.find(
        RunFilter(job=name if "/" in name else f"bob/{name}")
    ),
}
TO_RUNS: Mapping[str, Deed] = {
    "runs.get": lambda control, name: control.runs.get(name),
    "runs.status": lambda control, name: control.runs.status(name),
    "runs.stop": lambda control, name: control.runs.stop(name),
    "runs.receipt": lambda control, name: control.runs.receipt(name),
    "runs.recipe": lambda control, name: control.runs.recipe(name),
    "logs.lines": lambda control, name: control.logs.lines(name, Place(), LineQuery()),
    "logs.search": lambda control, name: control.logs.search(name, Place(), Search("x")),
    "logs.read": lambda control, name: control.logs.read(name, LogQuery(STREAMS)),
    "logs.page": lambda control, name: control.logs.page(name, LogQuery(STREAMS)),
    "logs.follow": lambda control, name: control.logs.follow(name, LogQuery(STREAMS)),
    "commands.page": lambda control, name: control.commands.page(name),
    "commands.get": lambda control, name: control.commands.get(name, 0),
    "commands.output": lambda control, name: control.commands.output(name, 0),
    "commands.csv": lambda control, name: control.commands.csv(name),
    "commands.stop": lambda control, name: control.commands.stop(name, 0),
    "commands.rerun": lambda control, name: control.commands.rerun(name),
    "operator.enter": lambda control, name: control.operator.enter(name, host=True),
}
#: Operations that list several records, with all their filters.
LISTS: Mapping[str, Callable[[OnBehalf], object]] = {
    "jobs.all": lambda control: control.jobs.all(),
    "schedules.all": lambda control: control.schedules.all(),
    "history.jobs": lambda control: [control.history.jobs(), control.history.jobs("job")],
    "runs.find": lambda control: [
        control.runs.find(),
        *(control.runs.find(RunFilter(job=job)) for job in ("job", bobs_job(control))),
        *(control.runs.find(RunFilter(owners=owners)) for owners in (("bob",), ("ann", "bob"))),
        *(control.runs.find(RunFilter(states=(state,))) for state in State),
    ],
    "runs.page": lambda control: control.runs.page(RunFilter()),
    "runs.overview": lambda control: control.runs.overview(100),
    "runs.machines": lambda control: control.runs.machines(100),
    "usage.read": lambda control: [
        control.usage.read(UsageQuery((by,), owners=owners))
        for by in ("owner", "job", "use", "user")
        for owners in ((), ("bob",), ("ann", "bob"))
    ],
    "operator.foreign": lambda control: control.operator.foreign(),
}
#: Operations for the control host only.
HOST: Mapping[str, Callable[[OnBehalf], object]] = {
    "operator.drive": lambda control: control.operator.drive(lambda: True),
    "operator.ring": lambda control: control.operator.ring(lambda: True),
    "operator.step": lambda control: control.operator.step(),
    "operator.takeover": lambda control: control.operator.takeover(),
    "operator.other_store": lambda control: control.operator.other_store(),
}
#: Operations that have separate tests below, or that concern no owner's data.
OTHERS = {"jobs.apply", "wake", "impatient", "close"} | {
    f"operator.{name}" for name in ("unfinished", "now", "served", "hindrance", "owners")
}
#: Uploads have separate tests (test_uploads.py).
OTHERS |= {"uploads.add"}
#: Tokens and the audit are for admins only and have separate tests.
OTHERS |= {"tokens.create", "tokens.all", "tokens.revoke", "tokens.audit"}


@dataclass
class House:
    """Ann's run is done; one of Bob's two runs is at work. Both owners have a scheduled job with the same name."""

    world: World
    service: Service
    ann: OnBehalf
    bob: OnBehalf
    root: OnBehalf
    bobs_job: JobView
    anns_run: Run
    bobs_runs: tuple[Run, Run]

    def everything(self) -> list[object]:
        """Return all stored jobs and runs, with their changes."""
        store = self.world.store
        runs = store.runs(RunFilter(limit=1000))
        return [store.jobs(), runs, [store.events(run.id) for run in runs], store.audit(1000)]

    def traces(self) -> set[str]:
        """Return texts that no answer to Ann may contain."""
        runs = {run.id for run in self.bobs_runs}
        nodes = [node for run in runs for node in self.world.store.nodes(run)]
        return {self.bobs_job.id, "bob", *runs, *(node.instance_id for node in nodes)}


def bobs_job(control: OnBehalf) -> str:
    """Return the id of Bob's job, which Ann may know."""
    assert control
    return f"{1:032x}"


def recipe(**spec: Any) -> str:
    whole = {"name": "job", "image": "i", "instance_type": "g5.xlarge", "command": "true", "schedule": "@yearly"}
    return json.dumps({"type": "job", "spec": whole | spec})


@pytest.fixture(scope="module")
def house() -> House:
    """Return an installation that tests only read."""
    return build()


def build() -> House:
    world = World(scripts=lambda number: Script(command=600.0 if number == 2 else 10.0))
    _, service = world.incarnate()
    ann, bob, root = (service.on_behalf(caller) for caller in (ANN, BOB, ROOT))
    job = bob.jobs.apply(recipe(), "f")
    ann.jobs.apply(recipe(), "f")
    runs = bob.runs.start("job", {}), ann.runs.start("job", {})
    service.operator.drive(world.over, world.told.extend)
    second = bob.runs.start("job", {})
    service.operator.drive(lambda: world.store.live().runs[0].state is State.RUNNING, world.told.extend)
    assert not world.told
    return House(
        world,
        service,
        ann,
        bob,
        root,
        job,
        ann.runs.get(runs[1].id),
        (bob.runs.get(runs[0].id), bob.runs.get(second.id)),
    )


def test_every_use_case_is_covered() -> None:
    """This test fails for a new method of Control until the method is in a table above or has a separate test."""
    covered = {*(name.partition(" ")[0] for name in TO_JOBS), *TO_RUNS, *LISTS, *HOST, *OTHERS}
    ports = {"jobs": Jobs, "runs": Runs, "logs": Logs, "schedules": Schedules, "tokens": Tokens, "operator": Operator}
    ports |= {"commands": Commands, "uploads": Uploads, "usage": Usage, "history": History}
    methods = {f"{name}.{method}" for name, port in ports.items() for method in _public(port)}
    # Pages of logs are only on the service, for the API.
    assert covered - {"logs.page"} == (_public(Control) - ports.keys()) | methods


def _public(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def refused(deed: Deed, control: OnBehalf, name: str) -> str:
    """Return the NotFound message without the name."""
    with pytest.raises(NotFound) as met:
        deed(control, name)
    return str(met.value).replace(name, "…")


@pytest.mark.parametrize("deed", TO_JOBS.values(), ids=TO_JOBS)
def test_a_job_of_another_owner_does_not_exist(house: House, deed: Deed) -> None:
    """By name or by id the message is that for a nonexistent job, and nothing changes."""
    before = house.everything()
    # A suggestion depends only on the name and on Ann's own jobs, so the pairs have similar names.
    for others, nobodys in (("bob/job", "rob/job"), (house.bobs_job.id, f"{0xABC:032x}")):
        assert refused(deed, house.ann, others) == refused(deed, house.ann, nobodys)
    assert house.everything() == before


@pytest.mark.parametrize("deed", TO_RUNS.values(), ids=TO_RUNS)
def test_a_run_of_another_owner_does_not_exist(house: House, deed: Deed) -> None:
    """The message for a run that is done or at work is that for a nonexistent id; lazy operations raise at once too."""
    before = house.everything()
    told = {refused(deed, house.ann, name) for name in (*(run.id for run in house.bobs_runs), f"{0xABC:032x}")}
    assert len(told) == 1
    assert house.everything() == before


def test_id_prefix_matches_only_the_callers_runs(house: House) -> None:
    """A prefix only counts the caller's own runs, so other owners' runs do not make it ambiguous."""
    assert house.ann.runs.get("0").id == house.anns_run.id
    for control in (house.bob, house.root):
        with pytest.raises(Invalid, match="several ids"):
            control.runs.get("0")


@pytest.mark.parametrize("shown", LISTS.values(), ids=LISTS)
def test_lists_omit_other_owners_data(house: House, shown: Callable[[OnBehalf], object]) -> None:
    """No list shows data of another owner, whatever the filter."""
    told = repr(shown(house.ann))
    assert not [trace for trace in house.traces() if trace in told]


def test_lists_have_the_callers_data(house: House) -> None:
    """An admin's lists have all owners' data."""
    assert [job.owner for job in house.ann.jobs.all()] == ["ann"]
    assert [job.owner for job in house.root.jobs.all()] == ["ann", "bob"]
    assert [each.job for each in house.bob.schedules.all()] == ["bob/job"]
    assert house.ann.runs.find() == (house.anns_run,)
    assert house.root.runs.find(RunFilter(owners=("ann",))) == (house.anns_run,)
    assert [run.id for run in house.bob.runs.find(RunFilter(states=(State.RUNNING,)))] == [house.bobs_runs[1].id]
    assert len(house.root.runs.find()) == 3
    assert house.bob.runs.find(RunFilter(job=house.bobs_job.id)) == house.bob.runs.find(RunFilter(job="job"))


def test_totals_count_only_the_callers_runs(house: House) -> None:
    """Machines, money and unfinished runs of other owners are not counted."""
    alone, own, all_ = (control.runs.overview(10) for control in (house.ann, house.bob, house.root))
    assert (alone.machines, alone.dollars_an_hour, alone.unpriced, dict(alone.states), alone.more) == (0, 0, 0, {}, 0)
    assert (own.machines, dict(own.states)) == (1, {State.RUNNING: 1})
    assert (all_.machines, dict(all_.states)) == (1, {State.RUNNING: 1})
    assert [len(control.runs.machines(10).machines) for control in (house.ann, house.bob, house.root)] == [0, 1, 1]
    assert [control.operator.unfinished() for control in (house.ann, house.bob, house.root)] == [False, True, True]


@pytest.mark.parametrize("deed", HOST.values(), ids=HOST)
def test_control_host_operations_are_forbidden_with_a_token(house: House, deed: Callable[[OnBehalf], object]) -> None:
    """No token allows these operations, not even an admin's."""
    before = house.everything()
    for control in (house.ann, house.root):
        with pytest.raises(Forbidden, match="control host"):
            deed(control)
    assert house.everything() == before


def test_recipe_for_a_foreign_owner_is_forbidden() -> None:
    """Without an owner the token's first one is used; a foreign owner is forbidden, whether the job exists or not."""
    house = build()
    before = house.everything()
    for name in ("job", "new"):
        with pytest.raises(Forbidden, match=r"f: spec.owner: .* jobs of bob; .* owners ann, team/ann"):
            house.ann.jobs.apply(recipe(name=name, owner="bob"), "f")
    assert house.everything() == before
    assert house.ann.jobs.apply(recipe(name="second"), "f").owner == "ann"
    made = house.ann.jobs.apply(recipe(name="third", owner="team/ann"), "f")
    assert made.owner == "team/ann"
    assert house.ann.jobs.get("team/ann/third") == house.ann.jobs.get(made.id) == made
    with pytest.raises(NotFound):
        house.ann.jobs.get("third")
    assert house.root.jobs.apply(recipe(name="fourth", owner="bob"), "f").owner == "bob"


def test_each_change_is_in_the_audit() -> None:
    """The audit has caller, source, change, owner and target; a call without effect adds nothing."""
    house = build()

    def told() -> list[tuple[str, ...]]:
        found = house.world.store.audit(1000)[::-1]
        return [(each.who, each.source, each.what, each.owner, each.target) for each in found]

    before = len(told())
    job = house.ann.jobs.apply(recipe(name="audited"), "f")
    house.ann.jobs.apply(recipe(name="audited"), "f")
    house.root.schedules.set("ann/audited", {"schedule": "@daily"})
    house.root.schedules.set(job.id, {"schedule": "@daily"})
    house.root.schedules.set("ann/audited", None)
    run = house.ann.runs.start("audited", {}, idempotency_key="once")
    house.ann.runs.start("audited", {}, idempotency_key="once")
    for _ in range(2):
        house.root.runs.stop(run.id)
    house.service.operator.drive(lambda: house.ann.runs.get(run.id).done_at is not None, house.world.told.extend)
    house.ann.jobs.delete("audited")
    assert told()[before:] == [
        ("token-ann", "192.0.2.1", "apply", "ann", "audited"),
        ("token-root", "192.0.2.3", "schedule", "ann", "audited"),
        ("token-root", "192.0.2.3", "unschedule", "ann", "audited"),
        ("token-ann", "192.0.2.1", "start", "ann", run.id),
        ("token-root", "192.0.2.3", "stop", "ann", run.id),
        ("token-ann", "192.0.2.1", "delete", "ann", "audited"),
    ]
    house.service.operator.takeover()
    assert told()[-1] == ("local:tester", "local", "takeover", "", "test")


def test_beginning_of_several_ids_is_refused_on_the_command_line(house: House) -> None:
    with pytest.raises(Invalid, match="several ids"):
        session.run_id(house.bob, "0000")
