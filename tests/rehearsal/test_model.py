"""The model of EC2: the behaviour on which all layers above depend."""

import dataclasses
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.cloud.machines import MachineState
from provisioner.core.cloud.offers import Market, Offer
from provisioner.rehearsal.aws.refused import Refused
from provisioner.rehearsal.ec2.conditions import (
    Absence,
    Breakdown,
    Capacity,
    Conditions,
    FleetLimit,
    Interruption,
    PriceRule,
    Quota,
    Rebalance,
    Unheeded,
    Where,
    ZoneTrouble,
)
from provisioner.rehearsal.ec2.instance import Booted, Content, FleetRequest, Noticed, Recommended, Unplugged
from provisioner.rehearsal.ec2.machine_images import MachineImage
from provisioner.rehearsal.ec2.model import Model
from provisioner.rehearsal.fakes.catalogue import TYPES
from provisioner.rehearsal.fakes.clock import CountingIds

T0 = 1_000_000.0
A = Offer(Market.SPOT, "g5.xlarge", "us-east-1a")
B = Offer(Market.SPOT, "g5.xlarge", "us-east-1b")
SUBNETS = {"subnet-a": "us-east-1a", "subnet-b": "us-east-1b", "subnet-a2": "us-east-1a"}
SUBNET_OF = {"us-east-1a": "subnet-a", "us-east-1b": "subnet-b"}


def model(conditions: Conditions = Conditions()) -> Model:  # noqa: B008 - frozen
    made = Model(conditions, began=T0, types=TYPES.get, subnets=SUBNETS, new_id=CountingIds().new)
    made.templates.create("t", Content("ami-1", on_power_off="terminate"), T0)
    return made


def fleet(
    token: str = "token", offers: tuple[Offer, ...] = (A,), count: int = 1, tags: Mapping[str, str] | None = None
) -> FleetRequest:
    return FleetRequest(token, "t", tuple((one, SUBNET_OF[one.zone]) for one in offers), count, tags or {})


def launch(ec2: Model, now: float = T0, **kwargs: object) -> list[str]:
    return [one for one, _ in ec2.create_fleet(fleet(**kwargs), now).machines]  # type: ignore[arg-type]


def states(ec2: Model, instance_id: str) -> list[tuple[str, float]]:
    return [(change.state.value, change.at - T0) for change in ec2.history(instance_id)]


def test_a_machine_lives_through_every_state_at_its_own_time() -> None:
    """A state begins at its due time, however late it is read; the power ends before `terminated` is shown."""
    ec2 = model(Conditions(boot_delay=10, end_delay=5))
    (one,) = launch(ec2)
    assert ec2.instances(T0 + 9)[0].state == MachineState.PENDING
    ec2.advance(T0 + 60)
    assert [type(event) for event in ec2.drain()] == [Booted]
    ec2.terminate([one], T0 + 70)
    ec2.advance(T0 + 90)
    assert ec2.instances(T0 + 90)[0].state == MachineState.SHUTTING_DOWN, "its power is still on"
    assert [type(event) for event in ec2.drain()] == [Unplugged]
    ec2.gone(one, T0 + 91)
    assert states(ec2, one) == [("pending", 0), ("running", 10), ("shutting-down", 70), ("terminated", 91)]
    assert ec2.instances(T0 + 91)[0].now.reason_code == "Client.UserInitiatedShutdown"


def test_power_off_means_what_the_template_says() -> None:
    """`terminate` ends a machine that powers itself off; with EC2's default it stops."""
    ec2 = model()
    ec2.templates.create("default", Content("ami-1"), T0)
    (ends,) = launch(ec2)
    request = FleetRequest("other", "default", ((A, "subnet-a"),), 1, {})
    ((stays, _),) = ec2.create_fleet(request, T0).machines
    ec2.advance(T0)
    for one in (ends, stays):
        ec2.powered_off(one, T0 + 5)
        ec2.gone(one, T0 + 5)
    assert {one.id: one.state for one in ec2.instances(T0 + 5)} == {
        ends: MachineState.TERMINATED,
        stays: MachineState.STOPPED,
    }
    assert ec2.history(ends)[-1].reason_code == "Client.InstanceInitiatedShutdown"


def test_an_interruption_is_announced_then_done() -> None:
    """A spot machine gets a notice and ends at its time with the spot reason; the next machine is not interrupted."""
    ec2 = model(Conditions(boot_delay=1, interruptions=(Interruption(at=10, notice=120),)))
    first, second = launch(ec2, count=2)
    ec2.advance(T0 + 11)
    noticed = [event.instance for event in ec2.drain() if isinstance(event, Noticed)]
    assert [(one.id, one.taken_at) for one in noticed] == [(first, T0 + 131)]
    ec2.advance(T0 + 200)
    assert states(ec2, first)[-1] == ("shutting-down", 131)
    assert ec2.history(first)[-1].reason_code == "Server.SpotInstanceTermination"
    assert ec2.history(second)[-1].state == MachineState.RUNNING


def test_a_recommendation_ends_nothing() -> None:
    """A spot machine gets the recommendation at its time and keeps running; an on-demand machine never gets one."""
    ec2 = model(Conditions(boot_delay=1, rebalances=(Rebalance(at=10, times=None),)))
    (spot,) = launch(ec2)
    launch(ec2, token="other", offers=(Offer(Market.ON_DEMAND, "g5.xlarge", "us-east-1a"),))
    ec2.advance(T0 + 10)
    assert not any(isinstance(event, Recommended) for event in ec2.drain())
    ec2.advance(T0 + 11)
    assert [event.instance.id for event in ec2.drain() if isinstance(event, Recommended)] == [spot]
    assert ec2.history(spot)[-1].state == MachineState.RUNNING


def test_a_breakdown_ends_a_machine_before_it_boots() -> None:
    """A machine that fails at its launch never boots, and has a reason."""
    ec2 = model(Conditions(boot_delay=9, breakdowns=(Breakdown(1, "Client.InternalError", "Client error on launch"),)))
    (one,) = launch(ec2)
    ec2.advance(T0 + 20)
    assert ec2.drain() == []
    assert states(ec2, one) == [("pending", 0), ("shutting-down", 1), ("terminated", 1)]


def test_the_same_token_and_request_give_the_same_machines() -> None:
    """A replay launches nothing. Another request with the token, or a replay after the machines' end, is refused."""
    ec2 = model()
    first = ec2.create_fleet(fleet(count=2), T0)
    assert ec2.create_fleet(fleet(count=2), T0 + 1) == first
    with pytest.raises(Refused, match="IdempotentParameterMismatch"):
        ec2.create_fleet(fleet(count=3), T0 + 1)
    assert len(ec2.every()) == 2
    ids = [one for one, _ in first.machines]
    ec2.terminate(ids, T0 + 2)
    for one in ids:
        ec2.gone(one, T0 + 2)
    with pytest.raises(Refused, match="IdempotentInstanceTerminated"):
        ec2.create_fleet(fleet(count=2), T0 + 3)


def test_an_answer_without_machines_is_an_answer() -> None:
    """Without capacity the call succeeds, names each dry offer, and a replay gives the same answer."""
    ec2 = model(Conditions(capacity=(Capacity(0), Capacity(None, at=100))))
    answer = ec2.create_fleet(fleet(offers=(A, B)), T0)
    assert answer.machines == ()
    assert [(one.offer, one.code) for one in answer.errors] == [
        (A, "InsufficientInstanceCapacity"),
        (B, "InsufficientInstanceCapacity"),
    ]
    assert ec2.create_fleet(fleet(offers=(A, B)), T0 + 200) == answer
    assert len(launch(ec2, T0 + 200, token="new")) == 1, "capacity came at 100 s"


def test_a_fleet_takes_the_cheapest_and_fills_up_elsewhere() -> None:
    """Offers are used in order of price; an exhausted one is named beside the machines."""
    prices = (PriceRule(2.0, Where(zone="*a")), PriceRule(1.0, Where(zone="*b")))
    ec2 = model(Conditions(prices=prices, capacity=(Capacity(1, Where(zone="*b")),)))
    answer = ec2.create_fleet(fleet(offers=(A, B), count=3), T0)
    assert [offer for _, offer in answer.machines] == [B, A, A]
    assert [one.offer for one in answer.errors] == [B]


@pytest.mark.parametrize(
    ("market", "codes"),
    [
        (Market.SPOT, {"MaxSpotInstanceCountExceeded", "UnfulfillableCapacity"}),
        (Market.ON_DEMAND, {"VcpuLimitExceeded"}),
    ],
)
def test_a_quota_counts_the_vcpus_of_all_machines_that_live(market: Market, codes: set[str]) -> None:
    """Two machines with 4 vCPUs fill a quota of 8 in any zones; an ended machine frees its part."""
    ec2 = model(Conditions(quotas=(Quota(8, Where(market=market, type="g*")),)))
    offers = (Offer(market, "g5.xlarge", "us-east-1a"), Offer(market, "g5.xlarge", "us-east-1b"))
    answer = ec2.create_fleet(fleet(offers=offers, count=3), T0)
    assert len(answer.machines) == 2
    assert {one.code for one in answer.errors} == codes
    one = answer.machines[0][0]
    ec2.terminate([one], T0 + 1)
    ec2.gone(one, T0 + 1)
    assert len(launch(ec2, T0 + 2, token="new", offers=offers)) == 1


@pytest.mark.parametrize(
    ("overrides", "code"),
    [((), "MissingParameter"), (((A, "subnet-a"), (A, "subnet-a2")), "InvalidFleetConfiguration")],
)
def test_a_fleet_that_could_never_be_meant_is_refused(overrides: tuple[tuple[Offer, str], ...], code: str) -> None:
    """No override, or two subnets in one zone, is an error, not a launch elsewhere."""
    with pytest.raises(Refused, match=code):
        model().create_fleet(FleetRequest("token", "t", overrides, 1, {}), T0)


def test_what_is_new_is_hidden_for_the_lag() -> None:
    """A new machine is in no list and NotFound by its id. A launch does not find a new template at first."""
    ec2 = model(Conditions(lag=5, template_lag=3))
    with pytest.raises(Refused, match=r"InvalidLaunchTemplateName\.NotFoundException"):
        ec2.create_fleet(fleet(), T0 + 2)
    with pytest.raises(Refused, match="AlreadyExists"):
        ec2.templates.create("t", Content("ami-1"), T0 + 2)
    (one,) = launch(ec2, T0 + 3)
    assert ec2.instances(T0 + 7) == []
    for call in (ec2.terminate, lambda ids, now: ec2.instances(now, ids)):
        with pytest.raises(Refused, match=r"InvalidInstanceID\.NotFound"):
            call([one], T0 + 7)
    assert [each.id for each in ec2.alive(T0 + 7)] == [one]
    assert [each.id for each in ec2.instances(T0 + 8)] == [one]


def test_terminate_with_one_unknown_id_ends_no_machine() -> None:
    """TerminateInstances ends nothing if one id is unknown; repeating it is harmless."""
    ec2 = model()
    (one,) = launch(ec2)
    with pytest.raises(Refused, match=r"InvalidInstanceID\.NotFound"):
        ec2.terminate([one, "i-0123456789abcdef0"], T0)
    assert ec2.instances(T0)[0].state == MachineState.RUNNING
    assert ec2.terminate([one], T0 + 1)[one] == (MachineState.RUNNING, MachineState.SHUTTING_DOWN)
    assert ec2.terminate([one], T0 + 2)[one] == (MachineState.SHUTTING_DOWN, MachineState.SHUTTING_DOWN)


def test_an_ended_machine_is_forgotten_but_not_its_history() -> None:
    """After an hour the cloud no longer shows the machine, but the double keeps its history."""
    ec2 = model()
    (one,) = launch(ec2)
    ec2.terminate([one], T0 + 1)
    ec2.gone(one, T0 + 1)
    assert len(ec2.instances(T0 + 3600)) == 1
    assert ec2.instances(T0 + 3602) == []
    assert states(ec2, one)[-1] == ("terminated", 1)


STEPS = st.lists(
    st.tuples(st.sampled_from(["launch", "terminate", "power off", "interrupt", "gone"]), st.integers(0, 5)),
    max_size=40,
)
ORDER = ["pending", "running", "shutting-down", "terminated"]


@given(STEPS, st.integers(0, 3), st.integers(0, 3))
def test_states_only_move_forward(steps: list[tuple[str, int]], boot: int, end: int) -> None:
    """For any operations, states follow their order and times never go back.

    No power stays on after the end, and every machine that loses its power had booted.
    """
    ec2 = model(Conditions(boot_delay=boot, end_delay=end))
    now, powered = T0, set()
    for number, (what, pick) in enumerate(steps):
        now += pick
        every = ec2.every()
        one = every[pick % len(every)].id if every else ""
        if what == "launch":
            launch(ec2, now, token=str(number))
        elif one and what == "terminate":
            ec2.terminate([one], now)
        elif one and what == "power off":
            ec2.powered_off(one, now)
        elif one and what == "interrupt":
            ec2.interrupt(one, now, notice=2)
        elif one and what == "gone" and one not in powered:
            ec2.gone(one, now)
        for event in ec2.drain():
            if isinstance(event, Booted):
                powered.add(event.instance.id)
            if isinstance(event, Unplugged):
                powered.remove(event.instance.id)
    for instance in ec2.every():
        path = [ORDER.index(change.state) for change in instance.history]
        times = [change.at for change in instance.history]
        assert path == sorted(set(path))
        assert times == sorted(times)
        if instance.state == MachineState.TERMINATED:
            assert instance.id not in powered


def test_listings_that_flap_show_and_hide_a_new_machine_by_turns() -> None:
    """Each listing lags by a different time, so a listed machine may be missing from the next list."""
    ec2 = model(Conditions(flap=30))
    (one,) = launch(ec2)
    looks = [[each.id for each in ec2.instances(T0 + 15)] for _ in range(40)]
    assert {tuple(look) for look in looks} == {(), (one,)}
    assert [each.id for each in ec2.instances(T0 + 30)] == [one]


def test_listings_that_flap_show_an_old_state_after_a_new_one() -> None:
    """Old states appear for the time of the lag; the model itself has the true state."""
    ec2 = model(Conditions(flap=30))
    (one,) = launch(ec2)
    ec2.instances(T0 + 60)
    ec2.drain()
    ec2.terminate([one], T0 + 100)
    ec2.gone(one, T0 + 100)
    seen = [ec2.instances(T0 + 115)[0].state for _ in range(40)]
    assert {MachineState.RUNNING, MachineState.TERMINATED} <= set(seen)
    assert ec2.instances(T0 + 131)[0].state is MachineState.TERMINATED


def test_an_absent_machine_is_in_no_list_until_it_returns() -> None:
    """An absent machine is also NotFound by its id, though it runs."""
    ec2 = model(Conditions(absences=(Absence(10, 20),)))
    (one,) = launch(ec2)
    assert [len(ec2.instances(T0 + at)) for at in (9, 10, 19, 20)] == [1, 0, 0, 1]
    with pytest.raises(Refused, match=r"InvalidInstanceID\.NotFound"):
        ec2.terminate([one], T0 + 15)
    assert len(ec2.alive(T0 + 15)) == 1


def test_a_zone_in_trouble_fails_every_description_but_those_of_other_zones() -> None:
    """A call without ids, or with one id of a machine in that zone, fails completely."""
    ec2 = model(Conditions(zone_troubles=(ZoneTrouble(0, 10, "us-east-1a"),)))
    (one,), (other,) = launch(ec2), launch(ec2, token="other", offers=(B,))
    assert [each.id for each in ec2.instances(T0 + 5, [other])] == [other]
    for ids in ([], [one], [one, other]):
        with pytest.raises(Refused, match="InternalError"):
            ec2.instances(T0 + 5, ids)
    assert len(ec2.instances(T0 + 10)) == 2


def test_no_fleet_is_made_past_the_limit_of_fleets() -> None:
    """A replay of an existing fleet still succeeds."""
    ec2 = model(Conditions(fleet_limits=(FleetLimit(5, 10),)))
    ids = launch(ec2)
    assert launch(ec2, T0 + 6) == ids
    with pytest.raises(Refused, match="MaxFleetCountExceeded"):
        launch(ec2, T0 + 6, token="other")
    assert launch(ec2, T0 + 10, token="other")


def test_a_replay_may_answer_with_other_errors_and_has_the_same_machines() -> None:
    """A replay's errors say nothing about the original launch."""
    ec2 = model(Conditions(replay_errors=True))
    first = ec2.create_fleet(fleet(), T0)
    again = ec2.create_fleet(fleet(), T0 + 1)
    assert (first.errors, again.machines) == ((), first.machines)
    assert [error.code for error in again.errors] == ["UnfulfillableCapacity"]


def test_an_unheeded_termination_is_answered_and_has_no_effect() -> None:
    """The termination has effect after the given number of requests."""
    ec2 = model(Conditions(unheeded=(Unheeded(2),)))
    (one,) = launch(ec2)
    for at, state in ((1, MachineState.RUNNING), (2, MachineState.RUNNING), (3, MachineState.SHUTTING_DOWN)):
        assert ec2.terminate([one], T0 + at)[one][1] is state


def test_disk_smaller_than_the_amis_snapshot_is_refused() -> None:
    """An offer's error, as of a fleet (karpenter#3302). A template without a disk has the AMI's."""
    ec2 = model()
    ec2.images.publish(MachineImage("ami-1", "base", "amazon", "/dev/sda1", "x86_64", T0, 45))
    for gib, code in ((44, "InvalidBlockDeviceMapping"), (45, ""), (0, "")):
        ec2.templates.create(f"disk-{gib}", Content("ami-1", disk_gib=gib), T0)
        answer = ec2.create_fleet(dataclasses.replace(fleet(f"token-{gib}"), template=f"disk-{gib}"), T0)
        assert (answer.errors[0].code if answer.errors else "") == code
        assert len(answer.machines) == (not code)


@pytest.mark.parametrize(("asked", "addressed"), [(None, ["subnet-b"]), (True, ["subnet-a", "subnet-b"]), (False, [])])
def test_launch_overrules_whether_a_subnet_assigns_public_addresses(asked: bool | None, addressed: list[str]) -> None:
    """EC2 API Reference, "InstanceNetworkInterfaceSpecification"."""
    assigns = {"subnet-a": False, "subnet-b": True}
    ec2 = Model(
        Conditions(), began=T0, types=TYPES.get, subnets=SUBNETS, new_id=CountingIds().new, assigns=assigns.__getitem__
    )
    ec2.templates.create("t", Content("ami-1", public=asked), T0)
    for number, offer in enumerate((A, B)):
        ec2.create_fleet(fleet(str(number), (offer,)), T0)
    assert [one.subnet for one in ec2.instances(T0) if one.public_address] == addressed
