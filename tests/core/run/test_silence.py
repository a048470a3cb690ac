"""Silence is not death, and the silence of many is ours."""

from dataclasses import replace

from provisioner.core.protocol.messages import Report
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.records import Node, Verdict
from provisioner.core.run.silence import FEWEST, SILENT, are_we_deaf, is_silent

NODE = Node("n", "run", 1, 0, "launch", "template", "i-1", "box", bound_at=0.0, epoch=1)
HEARD = replace(NODE, report=Report(1, 100.0, "p", Step.COMMAND), reported_at=100.0)
LATER = 100.0 + SILENT + 1


def test_only_a_machine_that_once_spoke_can_fall_silent() -> None:
    """One that never reported is the boot limit's; one with a verdict is nobody's any more."""
    over = replace(HEARD, verdict=Verdict(Outcome.FAILED, "", 0.0))
    assert is_silent(HEARD, LATER)
    assert not is_silent(HEARD, 100.0 + SILENT)
    assert not is_silent(NODE, LATER)
    assert not is_silent(over, LATER)


def test_many_silent_at_once_are_our_own_deafness() -> None:
    """More than a fifth, of five at least; a single silent machine among few is its own trouble."""
    speaking = replace(HEARD, reported_at=LATER)
    assert not are_we_deaf([HEARD] * (FEWEST - 1), LATER)
    assert not are_we_deaf([HEARD, *[speaking] * 4], LATER)
    assert are_we_deaf([HEARD, HEARD, *[speaking] * 4], LATER)
    assert are_we_deaf([HEARD] * FEWEST, LATER)
