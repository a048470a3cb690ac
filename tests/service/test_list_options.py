"""The options of a list: repetition of failed commands, an early end, and machines that are lost."""

from provisioner.core.protocol.words import Outcome
from provisioner.core.views.commands import CommandState
from tests.service.listed import Listed


def test_a_failed_command_runs_again_on_the_same_machine() -> None:
    """Users see the try; after success the earlier failure does not count."""
    listed = Listed(3, 1, list={"retries": 1})
    machine = listed.machine()
    first, second = machine.given()[:2]
    machine.end([first], 3)
    machine.end([second], 4)
    listed.turn()
    shown = listed.service.commands.get(listed.run.id, 0)
    assert (shown.state, shown.generation, shown.failures, shown.exit_code) == (CommandState.ASSIGNED, 2, 1, None)
    done = 2
    while listed.commands.open:
        machine.end(machine.given()[done : done + 1], 4 if machine.given()[done].index == 1 else 0)
        done += 1
        listed.turn()
    assert [(each.index, each.generation) for each in machine.given()][2:] == [(0, 2), (1, 2), (2, 1)]
    shown = listed.service.commands.get(listed.run.id, 0)
    assert (shown.state, shown.generation, shown.exit_code) == (CommandState.SUCCEEDED, 2, 0)
    assert (listed.commands.succeeded, listed.commands.failed, listed.commands.repeated) == (2, 1, 2)
    machine.finish()
    listed.end()
    verdict = listed.run.verdict
    assert verdict
    assert (verdict.outcome, verdict.exit_code) == (Outcome.FAILED, 1)


def test_a_command_that_waits_for_its_next_try_when_the_run_is_stopped_has_failed() -> None:
    """It is shown with the exit code and the output of the try that failed."""
    listed = Listed(3, 1, list={"retries": 5})
    machine = listed.machine()
    machine.end(machine.given()[:1], 3, output=b"no")
    listed.turn()
    assert listed.commands.repeated == 1
    listed.world.runs.stop(listed.run.id)
    listed.turn()
    machine.finish(Outcome.CANCELLED, None)
    listed.end()
    shown = listed.service.commands.get(listed.run.id, 0)
    assert (shown.state, shown.exit_code, shown.generation) == (CommandState.FAILED, 3, 3)
    assert b"".join(listed.service.commands.output(listed.run.id, 0)) == b"no"
    assert (listed.commands.failed, listed.commands.not_run) == (1, 2)
    rows = b"".join(listed.service.commands.csv(listed.run.id)).decode().splitlines()
    assert rows[1].split(",")[6:] == ["3", "0", "echo 0", "3", ""]


def test_no_command_is_repeated_after_an_order_to_stop() -> None:
    listed = Listed(3, 1, list={"retries": 5})
    machine = listed.machine()
    machine.end(machine.given()[:1], 3)
    listed.world.runs.stop(listed.run.id)
    listed.turn()
    assert (listed.commands.failed, listed.commands.repeated) == (1, 0)
