"""The time between two steps of a machine has a limit, too."""

import pytest

from provisioner.core.protocol.messages import Report, Span
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.recipe.parts import LOGS_TIME
from provisioner.core.run import verdicts
from provisioner.core.run.machines.silence import HEARING
from provisioner.core.run.verdicts import MARGIN
from tests.support.samples import NOW, at_work, machine, node, recipe

LIMITS = recipe(limits={"boot": "300s", "pull": "400s", "setup": "500s", "runtime": "1000s"}).spec.limits


def between(step: Step, ended: float = NOW, at: float = NOW) -> Report:
    """Return a report that a step has ended, and that no other step has begun."""
    return Report(1, at, "p", step, {step.value: Span(ended - 5, ended)})


@pytest.mark.parametrize(
    ("report", "reported_at", "after"),
    [
        # The machine itself says for so long that no step begins.
        (between(Step.BOOT, at=NOW + 420), NOW + 420, 420),
        # Its clock is an hour ahead.
        (between(Step.BOOT, NOW + 3600, NOW + 4020), NOW + 420, 420),
        # It has not reported since. The step that follows may have begun, and has its own limit.
        (between(Step.BOOT), NOW, 420 + 400),
        (between(Step.CLONE), NOW, 420 + 500),
        (between(Step.SETUP), NOW, 420 + 1000),
        (between(Step.LOGS), NOW, 420 + LOGS_TIME),
    ],
)
def test_machine_that_begins_no_further_step_is_lost(report: Report, reported_at: float, after: float) -> None:
    """The reason says after which step, although the agent reports on."""
    presumed = verdicts.presume(at_work(), node(report=report, reported_at=reported_at), machine(), LIMITS)
    assert (presumed.at, presumed.verdict.outcome) == (NOW + after + MARGIN, Outcome.LOST)
    words = f"min after {report.step}, and the agent did not end the attempt"
    assert presumed.verdict.reason.startswith("no step began within ")
    assert presumed.verdict.reason.endswith(words)


def test_ranks_may_wait_for_each_other_between_two_steps() -> None:
    """The wait for the addresses of the other ranks is limited by `limits.gather`."""
    stuck = node(report=between(Step.PULL, at=NOW + 520), reported_at=NOW + 520)
    gang = LIMITS.model_copy(update={"gather": 100.0})
    assert verdicts.presume(at_work(), stuck, machine(), gang).at == NOW + 420 + 100 + MARGIN


def test_reports_are_read_before_a_machine_is_lost_between_two_steps() -> None:
    """After an outage of the control plane, the reports that it has not read yet may show a later step."""
    stuck = node(report=between(Step.BOOT), reported_at=NOW)
    presumed = verdicts.presume(at_work(), stuck, machine(), LIMITS, reports_unreadable_at=NOW + 2000)
    assert presumed.at == NOW + 2000 + HEARING
