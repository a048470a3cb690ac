"""The steps that a run's story reports as done."""

import pytest

from provisioner.core.protocol.messages import Report, Span
from provisioner.core.protocol.words import Step
from provisioner.core.run.story import succeeded


def report(step: Step, **spans: Span) -> Report:
    return Report(1, 10.0, "agent", step, spans)


@pytest.mark.parametrize(
    ("said", "done"),
    [
        (report(Step.CLONE, boot=Span(0, 1), clone=Span(1)), set()),
        (report(Step.LOGS, boot=Span(0, 1), pull=Span(1, 2), clone=Span(1, 3), logs=Span(3)), set()),
        (report(Step.LOGS, boot=Span(0, 1), clone=Span(1, 3), logs=Span(3, 4)), set()),
        (report(Step.SETUP, pull=Span(1, 2), clone=Span(1, 3), setup=Span(3)), {Step.PULL, Step.CLONE}),
        (report(Step.COMMAND, clone=Span(1, 3), command=Span(3)), {Step.CLONE}),
        (report(Step.COMMAND, command=Span(3)), set()),
    ],
    ids=["begun", "one failed", "failed", "both", "no start script", "nothing to fetch"],
)
def test_step_is_done_only_when_a_later_one_began(said: Report, done: set[Step]) -> None:
    """An agent also ends the span of a failed step, so an ended span alone is no success."""
    assert succeeded(said) == done
