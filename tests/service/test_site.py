"""The facts of a launch: prices of machines, for which no launch waits, and the launch template."""

from provisioner.core.cloud.tags import LAUNCH_TAG
from provisioner.core.run.states import State
from provisioner.rehearsal.ec2.conditions import Conditions, PriceRule, Where
from tests.service.agents import Script
from tests.service.trouble import Call, Fate
from tests.service.world import World

CONDITIONS = Conditions(prices=(PriceRule(1.006, Where("on-demand")),), disk=(0.08, 0.005, 0.04))


def test_list_prices_are_asked_for_once_a_day() -> None:
    """Two runs have machines of the same type; the second uses the remembered price."""
    world = World(CONDITIONS)
    world.start("one")
    world.start("two")
    world.run()
    world.check()
    assert [call.method for call in world.calls].count("price_list") == 1
    for run in world.store.runs():
        receipt = world.runs.receipt(run.id)
        (bill,) = receipt.machines
        assert bill.price is not None
        assert bill.disk_price is not None
        assert (bill.price.dollars, bill.disk_price.dollars) == (1.006, 8.0)
        assert receipt.dollars_at_most is not None
        assert receipt.disk_dollars_at_most is not None


def test_without_a_price_list_a_run_only_lacks_its_dollars() -> None:
    """The right may be missing or the pricing region unreachable: a machine is bound anyway."""

    def fates(call: Call) -> Fate:
        return Fate.REFUSE if call.method == "price_list" else Fate.NONE

    world = World(CONDITIONS, fates=fates)
    world.start()
    world.run()
    world.check()
    (run,) = world.store.runs()
    assert run.state is State.DONE
    assert world.runs.receipt(run.id).dollars_at_most is None


def test_profile_is_read_again_after_a_machine_could_not_work() -> None:
    """The profile or its role may have been made anew, and is otherwise cached for a day. One more call a machine."""
    for script, calls in ((Script(), 1), (Script(mute=True, silent_at=0.0, boot=1e6), 3)):
        world = World(CONDITIONS, scripts=lambda _, script=script: script)  # type: ignore[misc]
        run = world.start()
        _, service = world.incarnate()
        while world.store.run(run.id).attempt < 3 and not world.store.run(run.id).done_at:  # type: ignore[union-attr]
            service.operator.step()
            world.advance(30.0)
        assert [call.method for call in world.calls].count("profile") == calls


def test_template_has_the_installations_name() -> None:
    """The policy allows launches with this installation's templates only: two installations must not share one."""
    world = World(CONDITIONS)
    world.start()
    world.run()
    [machine] = world.cloud.model.every()
    launch = world.store.launch(machine.tags[LAUNCH_TAG])
    assert launch
    assert launch.request.template.installation == world.installation.policy.installation
