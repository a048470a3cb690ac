"""Ranks of a run with several machines, in the states that tests of their verdict need."""

from dataclasses import replace
from typing import Any

from provisioner.core.cloud.machines import MachineState
from provisioner.core.protocol.messages import Span, Stop
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.progress import Advance, advance
from provisioner.core.run.records import Assignment, Run
from provisioner.core.run.states import State
from tests.support.samples import NOW, at_work, machine, node, recipe, report, result

#: The time of the order to stop in these tests.
TOLD = NOW + 101
EXECUTING = report(Step.COMMAND)
#: A rank that executes, and one that has reported since it was told to stop.
WELL: dict[str, Any] = {"report": EXECUTING, "reported_at": NOW + 100}
HEARD: dict[str, Any] = {"report": EXECUTING, "reported_at": TOLD + 1}
#: A rank that waits for the others, and one that pulls its image.
READY: dict[str, Any] = {"report": report(Step.BARRIER), "reported_at": NOW + 20}
PULLING: dict[str, Any] = {"report": report(Step.PULL), "reported_at": NOW + 20}
GONE: dict[str, Any] = {"state": MachineState.TERMINATED, "ended_at": NOW + 80}
SOUGHT: dict[str, Any] = {"result_sought_at": TOLD + 5}
LED: dict[str, Any] = {"gang": {"success": "leader"}}
IGNORANT: dict[str, Any] = {"gang": {"success": "leader", "workers": "ignore"}}


def ranks(*fields: dict[str, Any], **of_machines: dict[str, Any]) -> list[Assignment]:
    """Return one assignment for each rank with the fields of its node; `m1={…}` has the fields of rank 1's machine."""
    return [
        Assignment(
            node(id=f"r1.1.{rank}", rank=rank, instance_id=f"i-{rank}", box=f"A:i-{rank}", **each),
            machine(id=f"i-{rank}", **of_machines.get(f"m{rank}", {})),
        )
        for rank, each in enumerate(fields)
    ]


def ended(outcome: Outcome = Outcome.FAILED, code: int | None = 1, at: float = NOW + 50, **more: Any) -> dict[str, Any]:
    spans = {Step.COMMAND.value: Span(NOW + 10, at)}
    return {"result": replace(result(outcome, code), at=at + 5, spans=spans), **more}


def gang(scale: int = 3, state: State = State.RUNNING, **fields: Any) -> Run:
    """Return a run with this many ranks that are ordered to execute."""
    return at_work(state, **{"scale": scale, "start_order": 1, **fields})


def told(run: Run) -> Run:
    return replace(run, ranks_stop=Stop(Outcome.CANCELLED, "rank 1 has ended: failed", TOLD))


def later(run: Run, held: list[Assignment], now: float, **spec: Any) -> Advance:
    return advance(run, held, recipe(scale=run.scale, **spec), now)


def outcome(found: Advance) -> Outcome | None:
    return found.run.verdict.outcome if found.run.verdict else None


def code(found: Advance) -> int | None:
    return found.run.verdict.exit_code if found.run.verdict else None


def reason(found: Advance) -> str:
    return found.run.verdict.reason if found.run.verdict else ""
