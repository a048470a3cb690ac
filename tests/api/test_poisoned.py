"""A store of an earlier release with absurd times from a machine: every endpoint must answer."""

from dataclasses import replace

import pytest

from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.protocol.messages import Notice, Report, Result, Span
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.records import KnownMachine, Node, Record, Run, Verdict
from provisioner.core.run.states import State
from provisioner.faces.cli.terminal import story
from tests.api.served import Server, recipe

FAR = (-9e15, -62135596801.0, 253402300800.0, 9e15)


def poisoned(server: Server, at: float, *, over: bool) -> Run:
    """Store a run whose machine reported this time everywhere; its attempt is over, or its machine works."""
    server.service.jobs.apply(recipe("poisoned", "ann"), "the test's recipe")
    run = server.service.runs.record(server.service.runs.start("ann/poisoned", {}).id)
    box = f"i-{run.id[:8]}"
    spans = {step.value: Span(at, -at) for step in Step}
    notice = Notice(at, at)
    report = Report(2**53 - 1, at, "p", Step.COMMAND, spans, {"output": 2**53}, {}, notice, at)
    result = Result(run.id, 1, 0, "p", Outcome.FAILED, Step.COMMAND, 1, "", at, spans, notice=notice) if over else None
    verdict = Verdict(Outcome.FAILED, "", at, 1, Step.COMMAND) if over else None
    node = Node(
        f"{run.id}.1.0", run.id, 1, 0, "l", "t", box, f"A:{box}", run.created_at, 1, run.created_at, report=report
    )
    node = replace(node, reported_at=run.created_at, result=result, verdict=verdict)
    machine = KnownMachine(box, "l", Offer(Market.SPOT, "g5.xlarge", "a"), run.created_at, launch_time=run.created_at)
    state = State.STOPPING if over else State.RUNNING
    ended = run.created_at + 60 if over else None
    run = replace(run, state=state, attempt=1, launch="l", verdict=verdict, ended_at=ended)
    records: list[Record] = [run, node, machine]
    server.service.installation.store.save(records)
    return run


@pytest.mark.parametrize("over", [False, True])
@pytest.mark.parametrize("at", FAR)
def test_endpoints_answer_with_absurd_times_in_the_store(quiet: Server, at: float, over: bool) -> None:
    """The run is shown to an admin and to its owner."""
    run = poisoned(quiet, at, over=over)
    for token in (quiet.token("keeper", admin=True), quiet.token("ann")):
        with quiet.client(token) as client:
            for path in (
                "top",
                "runs",
                f"runs/{run.id}",
                f"runs/{run.id}/receipt",
                f"jobs/{run.job_id}/history",
                f"active/pods?workload_id={run.job_id}",
                f"jobs/{run.job_id}",
                "jobs",
                "schedules",
            ):
                answer = client.get(f"/api/{path}")
                assert answer.status_code == 200, (path, answer.text)
    with quiet.client(quiet.token("keeper", admin=True)) as client:
        assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize("at", FAR)
def test_status_shows_a_run_with_absurd_times(quiet: Server, at: float) -> None:
    """`provision status` shows the run on a terminal."""
    run = poisoned(quiet, at, over=False)
    service = quiet.service
    now = service.operator.now()
    text = "\n".join(story.story(service.runs.status(run.id), service.runs.receipt(run.id), now, width=80))
    assert run.id in text
