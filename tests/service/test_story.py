"""A run's story: what is told as done has succeeded, and everything is told in the order of time."""

import pytest

from provisioner.core.protocol.messages import Report, Span, Step
from provisioner.core.run.records import Run
from provisioner.faces.cli.terminal import screen
from provisioner.service.control_loop.mailboxes import succeeded
from tests.service.agents import Script
from tests.service.world import World
from tests.support import samples


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
    """An agent ends the span of a failed step, too: a clone that failed is not told as a clone."""
    assert succeeded(said) == done


def test_story_is_in_the_order_of_time() -> None:
    """The state that a report brings comes before the step that it tells of."""
    world = World(scripts=lambda _: Script(pull=20, setup=5, command=30))
    started: list[Run] = []
    world.plan(0, lambda: started.append(world.start(start_script="true")))
    world.run()
    events = world.store.events(started[0].id)
    texts = [event.text for event in events]
    assert [event.at for event in events] == sorted(event.at for event in events)
    at = {text: number for number, text in enumerate(texts)}
    preparing = next(at[text] for text in texts if text.startswith("preparing"))
    running = next(at[text] for text in texts if text.startswith("running"))
    assert preparing < at["fetching the image"] < at["the image is there"] < at["the start script runs"] < running


@pytest.mark.parametrize("step", Step)
def test_only_steps_of_preparing_are_shown_as_such(step: Step) -> None:
    """A report may be newer than the state, and say that the log is shipped already."""
    shown = screen.preparing(samples.held({"report": samples.report(step)}).node)
    assert shown == ("" if step in (Step.COMMAND, Step.LOGS) else f": {step}")
