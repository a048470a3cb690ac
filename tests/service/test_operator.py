"""Faults that only a person can end: no run is refused, and all of them are tried again by themselves."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from provisioner.core.cloud.offers import Market
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Run
from provisioner.core.run.states import State, Waiting
from provisioner.faces.cli.commands import top
from provisioner.rehearsal.ec2.conditions import Capacity, Conditions, Lapse, Quota, Verification, Where
from provisioner.service.control import Service
from tests.service.agents import Script
from tests.service.trouble import Call, Fate
from tests.service.world import World
from tests.support.schedules import apply, runs, until

HOUR, MINUTE = 3600.0, 60.0


def lapsed(at: float, ends: float) -> Conditions:
    return Conditions(lapses=(Lapse(at, ends),))


def saved(world: World, run: Run) -> Run:
    found = world.store.run(run.id)
    assert found
    return found


# The control plane's login


def test_run_waits_for_the_operator_while_the_login_has_expired() -> None:
    """The text says what to do. The run is tried again within ten minutes after the next login, and succeeds."""
    world = World(lapsed(0, HOUR))
    run = world.start()
    _, service = world.incarnate()
    service.operator.drive(until(world, 5 * MINUTE))
    waits = saved(world, run)
    assert (waits.state, waits.waiting, waits.verdict) == (State.QUEUED, Waiting.OPERATOR, None)
    assert "log in" in waits.waiting_for
    world.run()
    world.check()
    ended = saved(world, run)
    assert ended.verdict
    assert ended.verdict.outcome is Outcome.SUCCEEDED
    assert HOUR <= ended.verdict.at - world.began < HOUR + 11 * MINUTE


def expiring(number: int, seconds: float) -> Callable[[World], Callable[[Call], Fate]]:
    """Return fates with which the login expires just before the call with this number."""

    def of(world: World) -> Callable[[Call], Fate]:
        def expire(call: Call) -> Fate:
            if call.number == number:
                at = call.at - world.began
                world.model.conditions = replace(world.model.conditions, lapses=(Lapse(at, at + seconds),))
            return Fate.NONE

        return expire

    return of


def world_with(fates: Callable[[World], Callable[[Call], Fate]]) -> World:
    world = World(scripts=lambda _: Script(command=30))
    world.fates = fates(world)
    return world


def test_login_that_expires_at_any_call_of_a_pass_loses_no_run_and_no_machine() -> None:
    """The machine continues; what the pass could not do is done after the next login."""
    calm = World(scripts=lambda _: Script(command=30))
    calm.start()
    calm.run()
    numbers = [call.number for call in calm.calls if call.port in ("cloud", "bucket")]
    assert len(numbers) > 20
    for number in numbers:
        world = world_with(expiring(number, 300.0))
        run = world.start()
        world.run()
        world.check()
        verdict = saved(world, run).verdict
        assert (number, verdict and verdict.outcome) == (number, Outcome.SUCCEEDED)
        assert len(world.agents) == 1


def test_pass_whose_calls_all_fail_logs_one_line() -> None:
    """Not one for each run and machine: an operator finds the cause in the first line."""
    world = World(lapsed(HOUR, 2 * HOUR), scripts=lambda _: Script(command=4 * HOUR))
    for _ in range(5):
        world.start(limits={"runtime": "6h"})
    _, service = world.incarnate()
    told: list[tuple[str, ...]] = []
    service.operator.drive(until(world, HOUR - 1), lambda lines: told.append(tuple(lines)))
    for _ in range(5):
        world.start()
    assert not [line for line in world.journal.told if "error" in line]
    told.clear()
    service.operator.drive(until(world, HOUR + 9 * MINUTE), lambda lines: told.append(tuple(lines)))
    assert len([line for line in world.journal.told if "error" in line]) == 1
    assert {len(lines) for lines in told[1:]} == {1}
    service.operator.drive(until(world, 2 * HOUR + MINUTE))
    assert "resolved after" in str(world.journal.told[-1]["text"])
    assert len([line for line in world.journal.told if "error" in line]) == 6
    assert [run.state for run in world.store.live().runs].count(State.RUNNING) == 5


def test_status_of_the_installation_says_what_the_operator_must_do() -> None:
    """`top`, `status` and the API show it as long as it lasts, also if no run waits."""
    world = World(lapsed(HOUR, 2 * HOUR), scripts=lambda _: Script(command=3 * HOUR))
    world.start(limits={"runtime": "6h"})
    _, service = world.incarnate()
    service.operator.drive(until(world, HOUR + 30))
    assert "log in" in service.operator.hindrance()
    second = world.start()
    service.operator.drive(until(world, HOUR + 3 * MINUTE))
    found = world.runs.overview(10)
    [queue] = found.waiting
    assert (queue.cause, queue.runs, "log in" in queue.text) == ("operator", 1, True)
    assert found.hindrance in list(top.heading(found, ""))
    view = world.runs.get(second.id)
    assert view.waiting
    assert (view.waiting.cause, "log in" in view.waiting.text) == (Waiting.OPERATOR, True)
    texts = [event.text for event in world.store.events(second.id)]
    assert [text for text in texts if "operator" in text]
    service.operator.drive(until(world, 2 * HOUR + 30))
    assert service.operator.hindrance() == ""


def test_daemon_that_cannot_read_the_buckets_owner_tries_once_a_minute() -> None:
    """A night takes hundreds of requests and not a request each second."""
    world = World(lapsed(0, HOUR))
    _, service = world.incarnate()
    service.operator.drive(until(world, HOUR - 1))
    claims = [call for call in world.calls if call.method == "put"]
    assert 50 <= len(claims) <= 61


# A night of schedules


def serve(world: World, hours: float) -> Service:
    """Run a daemon until this many hours after the world's start, 08:00."""
    _, service = world.incarnate()
    service.operator.drive(until(world, hours * HOUR), schedules=True)
    return service


def started(world: World) -> list[str]:
    """Return the due time of each run that a machine executed, and check that it succeeded."""
    assert {run.verdict and run.verdict.outcome for run in runs(world)} == {Outcome.SUCCEEDED}
    return sorted(run.idempotency_key.split("T")[1][:5] for run in runs(world))


#: With an hourly schedule, at minute 20, whose login expires at 10:00: the first run that waits is that of 10:20.
NIGHT = ["08:20", "09:20", "10:20"]
MISSED = [f"{hour}:20" for hour in range(11, 18)]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    ("catchup", "login", "expected"),
    [
        ("last", "17:40", [*NIGHT, "18:20"]),
        ("last", "17:15", [*NIGHT, "17:20", "18:20"]),
        ("none", "17:40", [*NIGHT, "18:20"]),
        ("all", "17:40", [*NIGHT, *MISSED, "18:20"]),
    ],
)
def test_after_a_night_without_credentials_the_catchup_rule_decides(
    catchup: str, login: str, expected: list[str], *, restart: bool
) -> None:
    """Nothing is refused. While the run of the last due time waits, later times are catch-up and not runs.

    A daemon that was restarted meanwhile cannot read the bucket's owner, and makes no pass.
    """
    hour, minute = map(int, login.split(":"))
    world = World(lapsed(2 * HOUR, (hour - 8) * HOUR + minute * MINUTE), lambda _: Script(command=30), busy=30.0)
    apply(world, schedule="20 * * * *", schedule_catchup=catchup)
    if restart:
        serve(world, 2.1)
        serve(world, 5.0)
    serve(world, 9.2)
    assert len(runs(world)) == 3
    assert runs(world)[-1].waiting is Waiting.OPERATOR
    serve(world, 10.5)
    assert started(world) == expected
    world.check()


def test_schedule_says_that_its_times_are_deferred_and_why_they_were_missed() -> None:
    world = World(lapsed(HOUR, 4.5 * HOUR), scripts=lambda _: Script(command=30))
    apply(world, schedule="20 * * * *")
    service = serve(world, 3.9)
    [found] = service.schedules.all()
    assert found.last
    assert (found.last.state, found.last.outcome) == (State.QUEUED, None)
    assert "when the operator is done" in str(found.last.reason)
    serve(world, 5)
    texts = [str(line["text"]) for line in world.journal.told if "text" in line]
    assert len([text for text in texts if "deferred" in text]) == 1
    assert [text for text in texts if "missed: the operator was needed" in text]


def test_schedule_goes_on_when_the_run_that_waits_is_stopped() -> None:
    """The user does not wait for the operator, so the next due time gets a run of its own."""
    world = World(lapsed(HOUR, 24 * HOUR))
    apply(world, schedule="20 * * * *")
    serve(world, 2.9)
    waiting = runs(world)[-1]
    world.runs.stop(waiting.id)
    serve(world, 3.5)
    assert [run.idempotency_key.split("T")[1][:5] for run in runs(world)] == ["08:20", "09:20", "11:20"]


def test_schedule_is_not_decided_while_its_waiting_run_is_tried_again() -> None:
    """Another process may look at it just then; the answer shows whether the operator is done."""
    world = World(lapsed(HOUR, 24 * HOUR))
    apply(world, schedule="20 * * * *")
    service = serve(world, 3.5)
    waiting = runs(world)[-1]
    world.store.save([replace(waiting, state=State.LAUNCHING, waiting=None, waiting_for="", launch="l")])
    service.operator.ring(until(world, 3.55 * HOUR))
    assert len(runs(world)) == 2


# The account


def test_run_waits_while_aws_verifies_the_account() -> None:
    """AWS says minutes, and up to four hours; the run is not refused."""
    world = World(Conditions(verifications=(Verification(0, 4 * HOUR),)))
    run = world.start()
    _, service = world.incarnate()
    service.operator.drive(until(world, HOUR))
    waits = saved(world, run)
    assert (waits.waiting, waits.waiting_for.partition(":")[0]) == (Waiting.OPERATOR, "PendingVerification")
    assert world.store.live().droughts == ()
    found = world.runs.overview(10)
    assert f"  {waits.waiting_for}" in list(top.heading(found, ""))
    world.run()
    ended = saved(world, run)
    assert ended.verdict
    assert ended.verdict.outcome is Outcome.SUCCEEDED


def test_offer_does_not_go_dry_for_a_spot_quota() -> None:
    """EC2 names the offer with UnfulfillableCapacity, too; the next machine that ends makes room."""
    world = World(Conditions(quotas=(Quota(4, Where(market=Market.SPOT)),)), scripts=lambda _: Script(command=60))
    first, second = (world.start(use_spot_instance=True) for _ in range(2))
    _, service = world.incarnate()
    service.operator.drive(until(world, 20))
    assert [saved(world, run).waiting for run in (first, second)].count(Waiting.QUOTA) == 1
    assert world.store.live().droughts == ()
    world.run()
    world.check()


def test_spot_quota_of_zero_uses_the_fallback() -> None:
    """It is the usual state of a new account."""
    world = World(Conditions(quotas=(Quota(0, Where(market=Market.SPOT)),)))
    run = world.start(use_spot_instance=True, placement={"spot_fallback": True})
    world.run()
    ended = saved(world, run)
    assert ended.offer
    assert ended.offer.market is Market.ON_DEMAND


def test_on_demand_quota_that_is_too_small_refuses_the_run_with_the_figures() -> None:
    world = World(Conditions(quotas=(Quota(8, Where(market=Market.ON_DEMAND)),)))
    run = world.start(instance_type="g5.12xlarge")
    world.run()
    ended = saved(world, run)
    assert ended.verdict
    assert ended.verdict.outcome is Outcome.REFUSED
    assert "limit of 8" in ended.verdict.reason
    assert ended.verdict.reason.endswith("g5.12xlarge needs 48 vCPUs")


def test_misconfiguration_beside_unfulfillable_capacity_refuses_the_run() -> None:
    """It waited for capacity for ever (karpenter#5666)."""
    wrong = Capacity(0, code="InvalidParameterCombination", message="The parameters cannot be combined")
    world = World(Conditions(capacity=(wrong,)))
    run = world.start(use_spot_instance=True)
    world.run()
    ended = saved(world, run)
    assert ended.verdict
    assert ended.verdict.outcome is Outcome.REFUSED
    assert "InvalidParameterCombination" in ended.verdict.reason
