"""A run's story: a step shown as done has succeeded, and events are in order of time."""

import pytest

from provisioner.core.protocol.words import Step
from provisioner.core.run.records import Run
from provisioner.faces.cli.terminal import screen
from tests.service.agents import Script
from tests.service.world import World


def test_story_is_in_the_order_of_time() -> None:
    """A state that a report brings precedes the step in the report."""
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
    assert preparing < at["fetching the image"] < at["the image is pulled"] < at["the start script runs"] < running


@pytest.mark.parametrize("step", Step)
def test_only_steps_of_preparing_are_shown_as_such(step: Step) -> None:
    """A report may be newer than the state, for example in step `logs`."""
    shown = screen.preparing(step)
    assert shown == ("" if step in (Step.COMMAND, Step.LOGS) else f": {step}")
