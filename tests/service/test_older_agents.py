"""Runs whose machine has an agent of an earlier release, because it was alive while the control plane was upgraded.

`World.check` compares outcome, log, receipt and the emptied mailbox with what the machine did.
"""

import json
from typing import Any

from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.records import Run
from provisioner.rehearsal.ec2.conditions import Conditions, Interruption
from tests.service.agents import Script
from tests.service.older import WORK, known
from tests.service.trouble import Call, Fate
from tests.service.world import World


def ended(script: Script, *, stop_at: float | None = None, notice_at: float | None = None, **spec: Any) -> Run:
    """Play a world in which the first machine has an older agent and follows `script`; return its run."""
    notices = () if notice_at is None else (Interruption(notice_at, 120.0),)
    world = World(Conditions(interruptions=notices), lambda machine: script if machine == 0 else Script(older=False))
    run = world.start(**spec)
    if stop_at is not None:
        world.plan(stop_at, lambda: world.runs.stop(run.id))
    world.run()
    world.check()
    return world.runs.record(run.id)


def told(run: Run) -> tuple[Outcome, int | None, int]:
    assert run.verdict is not None
    return run.verdict.outcome, run.verdict.exit_code, run.attempt


def test_run_of_an_older_agent_succeeds() -> None:
    assert told(ended(Script(older=True, command=200.0, output=5000))) == (Outcome.SUCCEEDED, 0, 1)


def test_run_of_an_older_agent_fails_with_its_exit_code() -> None:
    assert told(ended(Script(older=True, exit_code=3))) == (Outcome.FAILED, 3, 1)


def test_run_whose_setup_fails_on_an_older_agent_fails() -> None:
    script = Script(older=True, setup=30.0, fails=Step.SETUP, fails_as=Outcome.FAILED)
    assert told(ended(script)) == (Outcome.FAILED, 3, 1)


def test_older_agent_is_stopped() -> None:
    run = ended(Script(older=True, command=600.0), stop_at=100.0)
    # 143 is the code of the stopped command, so the agent has read the order.
    assert told(run) == (Outcome.CANCELLED, 143, 1)


def test_older_agent_ends_its_command_at_the_limit() -> None:
    run = ended(Script(older=True, command=2400.0))
    assert told(run)[0] is Outcome.TIMED_OUT


def test_run_of_an_older_agent_is_retried_with_a_new_agent() -> None:
    assert told(ended(Script(older=True, exit_code=3), retries=1)) == (Outcome.SUCCEEDED, 0, 2)


def test_run_of_an_older_agent_is_interrupted_and_tried_again_with_a_new_agent() -> None:
    run = ended(Script(older=True, command=600.0), notice_at=60.0, use_spot_instance=True)
    assert told(run) == (Outcome.SUCCEEDED, 0, 2)


def test_work_order_that_an_earlier_release_put_before_it_was_killed_is_carried_out() -> None:
    """The machine may be executing it already, so a work order with other bytes must not end the machine."""

    def killed(call: Call) -> Fate:
        put = call.port == "bucket" and call.method == "put" and call.about.endswith("/work")
        return Fate.CRASH_AFTER if put and world.lives == 1 else Fate.NONE

    def upgraded() -> float:
        [(key, (data, _))] = [each for each in world.bucket.objects.items() if each[0].endswith("/work")]
        world.bucket.put(key, known(json.loads(data), WORK))
        return 30.0

    world = World(scripts=lambda _: Script(older=True, command=100.0), fates=killed)
    run = world.start()
    world.run(upgraded)
    world.check()
    assert told(world.runs.record(run.id)) == (Outcome.SUCCEEDED, 0, 1)
