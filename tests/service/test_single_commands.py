"""Single commands of a list: stopped alone, and run again in a new run."""

from dataclasses import replace

import pytest

from provisioner.core.commands import records
from provisioner.core.errors import Conflict, Invalid
from provisioner.core.protocol.command_lines import CommandEnd, write_end
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.lists import stopping
from provisioner.core.views.commands import CommandState
from provisioner.ports.control.lists import CommandFilter, every
from tests.service.listed import Listed, Machine


def states(listed: Listed) -> list[str]:
    return [str(each.state) for each in every(listed.service.commands, listed.run.id)]


def finish(listed: Listed, machine: Machine) -> set[int]:
    """End all further commands with success, and then the machine; return which commands the machine got."""
    done = {each.index for each in every(listed.service.commands, listed.run.id) if each.exit_code is not None}
    for _ in range(30):
        given = [each for each in machine.given() if each.index not in done]
        machine.end(given)
        done |= {each.index for each in given}
        listed.turn()
        if not listed.commands.open:
            break
    got = {each.index for each in machine.given()}
    machine.finish()
    listed.end()
    return got


def test_a_running_command_is_ordered_to_stop_until_its_record_arrives(listed: Listed, machine: Machine) -> None:
    """The other commands go on; the list ends as failed, and is not taken for one that exceeded its limit."""
    first, second = machine.given()[:2]
    machine.report([first, second])
    listed.turn()
    assert listed.service.commands.stop(listed.run.id, first.index).state is CommandState.RUNNING
    listed.service.commands.stop(listed.run.id, first.index)
    listed.turn()
    orders = machine.orders()
    assert orders.stop is None
    assert orders.commands
    assert orders.commands.stop == (first.index,)
    machine.end([first], 143, why="cancel")
    listed.turn()
    view = listed.service.commands.get(listed.run.id, first.index)
    assert (view.state, view.exit_code, view.why) == (CommandState.CANCELLED, 143, "cancel")
    listed.turn()
    orders = machine.orders()
    assert orders.commands
    assert orders.commands.stop == ()
    assert (listed.commands.stops, listed.commands.halted, listed.run.ranks_stop) == ((), 0, None)
    finish(listed, machine)
    verdict = listed.run.verdict
    assert verdict
    assert (verdict.outcome, verdict.exit_code) == (Outcome.FAILED, 1)
    assert verdict.reason == "9 of 10 commands succeeded; 1 cancelled"
    audits = [each.target for each in listed.world.store.audit(10) if each.what == "stop command"]
    assert audits == [f"{listed.run.id} {first.index}"], "the second call changed nothing"


def test_a_command_that_has_not_begun_is_cancelled_without_being_handed_out(listed: Listed, machine: Machine) -> None:
    """Also one after others; the counters of the list have it when its turn comes."""
    handed_out = listed.commands.next
    assert handed_out < 8
    for index in (handed_out, handed_out + 1, 9):
        view = listed.service.commands.stop(listed.run.id, index)
        assert (view.state, view.exit_code, view.why) == (CommandState.CANCELLED, None, None)
    assert (listed.commands.next, listed.commands.cancelled, listed.commands.stops) == (handed_out + 2, 2, (9,))
    assert states(listed)[9] == "cancelled"
    assert finish(listed, machine) == set(range(9)) - {handed_out, handed_out + 1}
    assert states(listed).count("cancelled") == listed.commands.cancelled == 3


def test_a_stopped_command_of_a_lost_machine_does_not_wait_again(listed: Listed, machine: Machine) -> None:
    first = machine.given()[0]
    listed.service.commands.stop(listed.run.id, first.index)
    listed.lose(machine)
    second = listed.machine(2)
    assert first.index not in {each.index for each in second.given()}
    assert listed.service.commands.get(listed.run.id, first.index).state is CommandState.CANCELLED
    # What waits after the loss of its machine is cancelled at once.
    assert listed.commands.retried == len(machine.given()) - 1


def test_a_command_that_waits_after_a_loss_is_cancelled_at_once(listed: Listed, machine: Machine) -> None:
    index = machine.given()[1].index
    listed.lose(machine)
    listed.until(lambda: listed.commands.waiting > 0)
    assert listed.service.commands.stop(listed.run.id, index).state is CommandState.CANCELLED
    assert (listed.commands.cancelled, listed.commands.stops) == (1, ())


def test_a_command_that_its_machine_skipped_has_no_exit_code(listed: Listed, machine: Machine) -> None:
    """Nor a duration: it never began. It does not make the machine look fast."""
    given = machine.given()
    machine.end(given[:1])
    listed.turn()
    rate = listed.worker.rate
    listed.service.commands.stop(listed.run.id, given[3].index)
    machine.write(write_end(CommandEnd(given[3].batch, given[3].index, 1, 9.0, 0.0, 0, "skip")))
    listed.turn()
    view = listed.service.commands.get(listed.run.id, given[3].index)
    assert (view.state, view.why) == (CommandState.CANCELLED, "cancel")
    assert (view.exit_code, view.began_at, view.seconds) == (None, None, None)
    assert listed.worker.rate == rate


def test_stopping_what_has_ended_changes_nothing(listed: Listed, machine: Machine) -> None:
    machine.end(machine.given()[:1])
    listed.turn()
    before = listed.commands
    assert listed.service.commands.stop(listed.run.id, 0).state is CommandState.SUCCEEDED
    assert listed.commands == before


def test_no_more_than_a_bounded_number_of_commands_is_being_stopped(
    listed: Listed, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "STOPS_MOST", 2)
    given = machine.given()
    for each in given[:2]:
        listed.service.commands.stop(listed.run.id, each.index)
    with pytest.raises(Conflict, match="2 commands of the run are being stopped; try again later"):
        listed.service.commands.stop(listed.run.id, given[2].index)
    assert records.STOPS_MOST == 1000


def test_stopped_commands_are_cancelled_when_the_run_ends_first(listed: Listed, machine: Machine) -> None:
    listed.service.commands.stop(listed.run.id, 9)
    listed.service.runs.stop(listed.run.id)
    listed.turn()
    machine.finish(Outcome.CANCELLED, None)
    listed.end()
    assert states(listed)[9] == "cancelled"
    assert listed.service.commands.stop(listed.run.id, 8).state is CommandState.NOT_RUN


def test_rerun_has_only_the_commands_that_failed(listed: Listed, machine: Machine) -> None:
    """They are numbered from 0, in the order of the list; the job and its revision are those of the first run."""
    given = machine.given()
    assert len(given) >= 4
    machine.end([given[3]], 7)
    machine.end([given[1]], 1)
    listed.service.commands.stop(listed.run.id, given[0].index)
    machine.end([given[0]], 143, why="cancel")
    listed.turn()
    with pytest.raises(Conflict, match=r"is still running: its failed commands"):
        listed.service.commands.rerun(listed.run.id)
    finish(listed, machine)
    again = listed.service.commands.rerun(listed.run.id, "key")
    assert [each.text for each in every(listed.service.commands, again.id)] == ["echo 1", "echo 3"]
    assert (again.job_id, again.job_revision) == (listed.run.job_id, listed.run.job_revision)
    assert listed.service.commands.rerun(listed.run.id, "key").id == again.id
    with pytest.raises(Conflict, match="the key 'key' was used for run"):
        listed.service.commands.rerun(listed.run.id, "key", unfinished=True)
    more = listed.service.commands.rerun(listed.run.id, unfinished=True)
    assert [each.text for each in every(listed.service.commands, more.id)] == ["echo 0", "echo 1", "echo 3"]


def test_rerun_names_why_there_is_nothing_to_run(listed: Listed, machine: Machine) -> None:
    listed.service.commands.stop(listed.run.id, 9)
    finish(listed, machine)
    with pytest.raises(Invalid, match=r"no command of run \w{12} failed or was lost; 1 were cancelled or did not run"):
        listed.service.commands.rerun(listed.run.id)
    single = listed.world.start("single")
    with pytest.raises(Invalid, match="has one command; only runs of a list"):
        listed.service.commands.rerun(single.id)


def test_the_job_log_has_each_ended_command_once_and_in_order(listed: Listed, machine: Machine) -> None:
    """Of a command that was lost, only the last try; of one that never began, no times."""
    given = machine.given()
    listed.service.commands.stop(listed.run.id, 9)
    machine.end([given[2]], 137, output=b"12345")
    machine.end([given[0]])
    listed.turn()
    rows = b"".join(listed.service.commands.csv(listed.run.id)).decode().splitlines()
    host = machine.node.instance_id
    assert rows[0] == "Seq,Host,Starttime,JobRuntime,Send,Receive,Exitval,Signal,Command,Try,Why"
    cells = [row.split(",") for row in rows[1:]]
    assert [(row[0], row[1], *row[3:]) for row in cells] == [
        ("1", host, "1.500", "0", "0", "0", "0", "echo 0", "1", ""),
        ("3", host, "1.500", "0", "5", "137", "9", "echo 2", "1", ""),
        ("10", "", "", "0", "0", "-1", "0", "echo 9", "0", ""),
    ]
    assert float(cells[0][2]) > 1e9


def test_commands_of_several_machines_have_their_ranks() -> None:
    listed = Listed(400, 2, scale=2)
    listed.machine()
    listed.until(lambda: len(listed.world.store.nodes(listed.run.id)) == 2)
    machines = [Machine(listed.world, node) for node in listed.world.store.nodes(listed.run.id)]
    for each in machines:
        each.report()
    listed.until(lambda: all(each.given() for each in machines))
    for each in machines:
        each.end(each.given()[:1], 1)
        each.report(each.given()[1:2])
    listed.turn()
    for states in ((CommandState.FAILED,), (CommandState.RUNNING,)):
        page = listed.service.commands.page(listed.run.id, CommandFilter(states))
        assert sorted(str(each.rank) for each in page.commands) == ["0", "1"]


def test_the_job_log_has_the_try_that_counts(listed: Listed, machine: Machine) -> None:
    given = machine.given()[0]
    listed.lose(machine)
    second = listed.machine(2)
    again = next(each for each in second.given() if each.index == given.index)
    stale = CommandEnd(again.batch, given.index, 1, 5.0, 5.0, 9)
    second.write(write_end(replace(stale, generation=again.generation, code=3)) + write_end(stale))
    listed.turn()
    _, row = b"".join(listed.service.commands.csv(listed.run.id)).decode().splitlines()
    assert row == f"1,{second.node.instance_id},5.000,5.000,0,0,3,0,echo 0,2,"


def test_progress_of_a_followed_log_is_that_of_the_status(listed: Listed, machine: Machine) -> None:
    machine.end(machine.given()[:2])
    listed.turn()
    found = listed.service.logs.progress(listed.run.id)
    assert found
    assert found == listed.service.runs.status(listed.run.id).run.commands
    assert (found.succeeded, found.slots) == (2, 2)
    assert listed.service.logs.progress(listed.world.start("single").id) is None
