"""A control plane that was away and returns: it ends no healthy machine because of its absence."""

from collections.abc import Callable

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Run
from tests.service.agents import Script
from tests.service.rules import BOOT_LIMIT
from tests.service.trouble import Call, Fate
from tests.service.world import World


def lives_on(world: World, downtime: Callable[[], float] = lambda: 1.0) -> None:
    """Assert that the world's only run succeeds on its first machine."""
    world.run(downtime)
    world.check()
    [run] = world.store.runs()
    assert run.verdict
    assert (run.verdict.outcome, run.attempt, len(world.agents)) == (Outcome.SUCCEEDED, 1, 1), world.story()


def patient(world: World) -> Run:
    """Start a run whose machine is lost after three minutes of silence."""
    return world.start(limits={"silence": "3m"})


def test_a_machine_whose_work_order_comes_late_has_its_whole_boot_limit_from_then() -> None:
    """The control plane is killed between launch and binding, and the machine waits longer than its boot limit."""

    def killed(call: Call) -> Fate:
        return Fate.CRASH_AFTER if (call.method, call.at) == ("launch", world.began) else Fate.NONE

    world = World(fates=killed)
    world.start()
    lives_on(world, lambda: BOOT_LIMIT + 100)


def test_a_machine_whose_work_order_cannot_be_put_is_not_called_silent() -> None:
    """The machine is bound, and the bucket is away for longer than its boot limit."""
    ends = BOOT_LIMIT + 100

    def away(call: Call) -> Fate:
        return Fate.REFUSE if call.method == "put" and 0 < call.at - world.began < ends else Fate.NONE

    def slow_launch(call: Call) -> Fate:
        if call.method == "launch":
            world.advance(1.0)
        return away(call)

    world = World(fates=slow_launch)
    world.start()
    lives_on(world)


def test_machine_that_boots_in_time_during_a_short_s3_outage_is_not_called_lost() -> None:
    """The machine's report is in the bucket when the boot limit ends, but cannot be read for some more seconds."""

    def unlisted(call: Call) -> Fate:
        away = BOOT_LIMIT - 25 < call.at - world.began < BOOT_LIMIT + 25
        return Fate.REFUSE if away and (call.port, call.method) == ("bucket", "list") else Fate.NONE

    world = World(scripts=lambda _: Script(boot=BOOT_LIMIT - 20), fates=unlisted)
    world.start()
    lives_on(world)


def test_reports_are_read_before_silence_is_judged_after_an_s3_outage() -> None:
    """The bucket was away first for the machine, and then for the control plane too.

    The process that saw the outage was replaced at the end of the outage.
    """
    # The outage begins after the control plane has read the machine's earlier reports.
    begins = {"mailbox": 85.0, "bucket": 105.0}
    ends, killed = 1000.0, list[float]()

    def away(call: Call) -> Fate:
        after = call.at - world.began
        if not killed and call.port == "bucket" and after > ends - 60:
            killed.append(after)
            return Fate.CRASH_BEFORE
        return Fate.REFUSE if begins.get(call.port, ends) <= after < ends else Fate.NONE

    world = World(scripts=lambda _: Script(command=300.0), fates=away)
    world.rules.ours_away = world.rules.theirs_away = [(world.began + begins["mailbox"], world.began + ends)]
    patient(world)
    # The control plane is back before the machine tries again.
    lives_on(world, lambda: ends - killed[0])


def test_process_that_hung_within_a_pass_reads_reports_before_it_judges() -> None:
    """The process hung after it had listed the reports. More reports arrived, and no other process took over."""
    listed: list[float] = []

    def stands_still(call: Call) -> Fate:
        if (call.port, call.method) == ("bucket", "list") and call.at > world.began + 60 and not listed:
            listed.append(call.at)
        elif call.port == "store" and len(listed) == 1:
            listed.append(call.at)
            world.advance(400.0)
        return Fate.NONE

    world = World(scripts=lambda _: Script(command=900.0), fates=stands_still)
    patient(world)
    lives_on(world)
    assert len(listed) == 2
