"""Commands that have not begun move from busy machines to idle ones; machines without any are released."""

from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.commands.blocks import CommandState
from provisioner.core.protocol.messages import Kept as Answer
from provisioner.core.protocol.messages import ListReport, Notice, Recall
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.lists.handing import hand_out
from provisioner.core.run.lists.recalling import answers, give_back, orders, recall, release
from provisioner.core.run.records import Node
from tests.support.lists import NODE, Kept, a_list, batch, worker
from tests.support.samples import NOW, node, report, result

OTHER = "r1.1.1"
AT_WORK = report(Step.COMMAND, commands=ListReport())


def two(*sizes: int, other: int = 0, total: int = 40, rate: float = 0.0) -> Kept:
    """Return a list with two machines of two slots: the first has batches of these sizes, the other one of `other`."""
    kept = Kept(a_list(total))
    kept.add(worker(rate=rate), worker(OTHER, rate=rate))
    for id, size in [*((NODE, size) for size in sizes), (OTHER, other)]:
        ledger = kept.ledger()
        for made in hand_out(ledger, {id: size} if size else {}):
            ledger.put(made, put_at=NOW)
        kept.save(ledger)
    return kept


def nodes(first: dict[str, Any] | None = None, other: dict[str, Any] | None = None) -> dict[str, Node]:
    return {
        NODE: node(**{"report": AT_WORK} | (first or {})),
        OTHER: node(**{"id": OTHER, "rank": 1, "report": AT_WORK} | (other or {})),
    }


def recalled(kept: Kept, known: dict[str, Node] | None = None) -> dict[str, int]:
    """Recall, and return how many commands each recalled batch spares."""
    ledger = kept.ledger()
    recall(ledger, known or nodes(), NOW)
    kept.save(ledger)
    return {id: each.spare for id, each in kept.batches.items() if each.recall_at is not None}


def released(kept: Kept, known: dict[str, Node] | None = None) -> list[str]:
    ledger = kept.ledger()
    release(ledger, known or nodes(), NOW)
    kept.save(ledger)
    return [id for id, each in kept.workers.items() if each.released_at is not None]


def test_an_idle_machine_gets_commands_of_a_busy_one() -> None:
    """The last batch is recalled, whose commands would begin last."""
    assert recalled(two(20, 20)) == {f"{NODE}.2": 0}


def test_nothing_is_recalled_while_commands_can_be_handed_out() -> None:
    assert recalled(two(20, 19)) == {}


def test_each_batch_is_recalled_once_and_one_at_a_time() -> None:
    kept = two(20, 20)
    assert recalled(kept) == recalled(kept) == {f"{NODE}.2": 0}


def test_a_machine_keeps_what_it_begins_before_it_gets_more() -> None:
    """It begins one command a second, and two of the 40 run."""
    assert recalled(two(40, rate=1.0)) == {f"{NODE}.1": 15}
    # The first batch has 18 commands that have not begun.
    assert recalled(two(20, 20, rate=1.0)) == {f"{NODE}.2": 0}


def test_short_work_is_not_recalled() -> None:
    assert recalled(two(40, rate=2.0)) == {}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"report": report(Step.PULL)}, id="it boots"),
        pytest.param({"result": result(Outcome.SUCCEEDED)}, id="it has ended"),
        pytest.param({"report": replace(AT_WORK, notice=Notice(NOW, NOW))}, id="EC2 interrupts it"),
    ],
)
def test_nothing_is_recalled_for_a_machine_that_cannot_begin_it(other: dict[str, Any]) -> None:
    assert recalled(two(40), nodes(other=other)) == {}


def test_a_batch_that_may_not_be_in_the_mailbox_is_not_recalled() -> None:
    kept = two(40)
    kept.batches = {id: replace(each, put_at=None) for id, each in kept.batches.items()}
    assert recalled(kept) == {}


def test_commands_that_all_run_are_not_recalled() -> None:
    assert recalled(two(2, total=2)) == {}


def test_all_batches_of_a_machine_that_will_be_interrupted_are_recalled_at_once() -> None:
    """It begins nothing more, and others need not wait for its end."""
    noticed = {"report": replace(AT_WORK, notice=Notice(NOW + 120, NOW))}
    assert recalled(two(10, 10, other=4), nodes(noticed)) == {f"{NODE}.1": 0, f"{NODE}.2": 0}


def answer(*kept: Answer) -> dict[str, Any]:
    return {"report": replace(AT_WORK, commands=ListReport(kept=kept))}


def test_what_a_machine_gives_back_waits_in_the_same_generation() -> None:
    kept = two(20, 20)
    recalled(kept)
    known = nodes(answer(Answer(2, 5), Answer(1, 0)))
    assert answers(kept.batches.values(), known) == {f"{NODE}.2": 5}, "batch 1 was not recalled"
    ledger = kept.ledger()
    give_back(ledger, ledger.batches[f"{NODE}.2"], 5, NOW)
    kept.save(ledger)
    assert kept.commands.waiting == 15
    assert kept.states()[20:25] == [CommandState.OUT] * 5
    assert (kept.generation(39), kept.commands.retried) == (1, 0)
    assert (kept.batches[f"{NODE}.2"].ranges, kept.batches[f"{NODE}.2"].left) == (((20, 5, 1),), 5)
    assert answers(kept.batches.values(), known) == {}, "an answer is applied once"


def test_a_batch_that_is_given_back_whole_is_closed() -> None:
    kept = two(20, 20)
    recalled(kept)
    ledger = kept.ledger()
    give_back(ledger, ledger.batches[f"{NODE}.2"], 0, NOW)
    kept.save(ledger)
    assert kept.batches[f"{NODE}.2"].closed_at == NOW
    assert recalled(kept)[f"{NODE}.2"] == 0, "it stays recalled"


def test_a_command_whose_end_is_recorded_cannot_be_given_back() -> None:
    kept = two(20, 20)
    recalled(kept)
    ledger = kept.ledger()
    ledger.end(39, CommandState.SUCCEEDED)
    last = ledger.batches[f"{NODE}.2"]
    ledger.put(last, left=last.left - 1)
    give_back(ledger, ledger.batches[f"{NODE}.2"], 0, NOW)
    kept.save(ledger)
    assert (kept.commands.waiting, kept.commands.succeeded) == (19, 1)


def test_orders_name_a_recall_until_it_is_answered() -> None:
    mine = batch((0, 4, 1), recall_at=NOW, spare=3)
    assert orders([mine, batch((4, 1, 1), number=2)]) == (Recall(1, 3),)
    assert orders([replace(mine, kept=4)]) == ()


def test_a_machine_without_commands_is_released_if_nothing_can_be_recalled() -> None:
    assert released(two(2, total=2)) == [OTHER]


def test_no_machine_is_released_while_commands_wait_or_are_recalled() -> None:
    assert released(two(2, total=3)) == []
    kept = two(40)
    recalled(kept)
    assert released(kept) == []


def test_a_machine_that_boots_is_not_released_while_commands_can_be_recalled_for_it() -> None:
    """Otherwise another machine would be launched for them, and released, and so on."""
    boots = nodes(other={"report": report(Step.PULL)})
    kept = two(3, total=3)
    assert (recalled(kept, boots), released(kept, boots)) == ({}, [])
    assert recalled(kept) == {f"{NODE}.1": 0}
    assert released(two(2, total=2), boots) == [OTHER], "there is nothing for it"


def test_the_last_machine_is_not_released() -> None:
    """If another one is lost, there must be a machine for what it had."""
    assert released(two(2, total=2), nodes({"result": result(Outcome.LOST)})) == []
    kept = two(2, total=2)
    kept.add(worker("r1.1.2"))
    known = nodes({"result": result(Outcome.LOST)}) | {"r1.1.2": node(id="r1.1.2", report=AT_WORK)}
    assert released(kept, known) == [OTHER]
