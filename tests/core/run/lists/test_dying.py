"""Which commands may have killed a machine."""

from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.cloud.machines import Ending
from provisioner.core.protocol.messages import ListReport, Notice, Running, Stop
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.lists.dying import BRISK, begun, died, running, suspects
from provisioner.core.run.lists.receiving import take_records
from provisioner.core.run.records import Node
from provisioner.core.run.states import State
from tests.support.lists import NODE, Kept, handed_out, line
from tests.support.samples import NOW, at_work, held, node, report, result

STOP = Stop(Outcome.CANCELLED, "stopped by a user", NOW)
LISTED = report(Step.COMMAND, commands=ListReport())


@pytest.mark.parametrize(
    ("fields", "machine", "run", "found"),
    [
        pytest.param({"report": LISTED}, {}, {}, True, id="no sign"),
        pytest.param({"started": True}, {}, {}, True, id="it died at its first command"),
        pytest.param({"result": result(Outcome.LOST)}, {}, {}, True, id="the agent gave up"),
        pytest.param({}, {}, {}, False, id="it never began"),
        pytest.param({"report": report(Step.SETUP)}, {}, {}, False, id="it died in its setup"),
        pytest.param({"report": LISTED}, {"ending": Ending.INTERRUPTED}, {}, False, id="interrupted"),
        pytest.param(
            {"report": report(Step.COMMAND, notice=Notice(NOW, NOW))}, {}, {}, False, id="it had read a notice"
        ),
        pytest.param({"report": LISTED}, {}, {"stop": STOP}, False, id="stopped"),
        pytest.param({"report": LISTED}, {}, {"ranks_stop": STOP}, False, id="told to end"),
        pytest.param({"report": LISTED, "result": result(Outcome.SUCCEEDED)}, {}, {}, False, id="it ended by itself"),
        pytest.param({"result": result(Outcome.LOST, step=Step.PULL)}, {}, {}, False, id="its pull failed"),
    ],
)
def test_only_a_machine_that_died_without_notice_speaks_against_its_commands(
    fields: dict[str, Any], machine: dict[str, Any], run: dict[str, Any], *, found: bool
) -> None:
    assert died(held(fields, ended_at=NOW, **machine), at_work(State.RUNNING, **run)) == found


def reported(*indices: int, waiting: int = 0, batches: int = 1) -> Node:
    several = tuple(Running(slot, index, 1, NOW) for slot, index in enumerate(indices))
    told = ListReport(batches, several, waiting=waiting)
    return node(report=report(Step.COMMAND, commands=told))


def recorded(kept: Kept, *indices: int) -> Kept:
    ledger = kept.ledger()
    take_records(ledger, NODE, 0, b"".join(map(line, indices)), NOW)
    ledger.put(ledger.workers[NODE], rate=0.1)
    kept.save(ledger)
    return kept


def test_commands_that_ran_at_the_last_report_or_could_be_next_are_suspects() -> None:
    """A command that kills its machine at once is in no report. A command with a record is none of them."""
    kept = handed_out(12, 8, slots=2)
    assert suspects(kept.ledger(), reported(0, 1)) == {0, 1}
    assert suspects(recorded(kept, 0, 1).ledger(), reported(0, 1)) == {2, 3}
    assert suspects(kept.ledger(), reported(1, 5)) == {2, 3, 5}
    assert suspects(kept.ledger(), node()) == {2, 3}


def test_a_report_cannot_name_commands_of_other_machines_or_generations() -> None:
    wrong = ListReport(1, (Running(0, 9, 1, NOW), Running(1, 0, 7, NOW), Running(2, 10**9, 1, NOW)))
    assert running(handed_out(12, 4).ledger(), node(report=report(Step.COMMAND, commands=wrong))) == frozenset()


def test_all_but_the_waiting_commands_of_a_report_have_begun() -> None:
    """Commands of unread batches have not begun. A machine with a result began none after its last report."""
    kept, over = handed_out(12, 4, 4), result(Outcome.INTERRUPTED)
    assert begun(kept.ledger(), replace(reported(waiting=3), result=over)) == {0}
    assert begun(kept.ledger(), replace(reported(waiting=7, batches=2), result=over)) == {0}
    assert begun(kept.ledger(), reported(2, 3)) == {0, 1, 2, 3}
    assert begun(recorded(kept, 0).ledger(), reported(2, 3)) == {1, 2, 3}


def test_a_machine_without_a_result_has_probably_begun_as_many_commands_as_it_runs_at_once() -> None:
    """Its last report may be older than their begin. Short commands may have ended without a record that arrived."""
    kept = handed_out(12, 8, slots=2)
    assert begun(kept.ledger(), reported(0, 1, waiting=6)) == {0, 1}
    assert begun(recorded(kept, 0, 1).ledger(), reported(0, 1, waiting=6)) == {2, 3}
    kept.workers[NODE] = replace(kept.workers[NODE], rate=0.5)
    assert begun(kept.ledger(), reported(0, 1, waiting=6)) == {2, 3, 4, 5}
    kept.workers[NODE] = replace(kept.workers[NODE], rate=BRISK)
    assert begun(kept.ledger(), reported(0, 1, waiting=6)) == {2, 3, 4, 5, 6, 7}
    assert begun(kept.ledger(), node()) == frozenset(), "it never began"
