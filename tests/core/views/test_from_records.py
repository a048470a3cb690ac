"""Views of records."""

from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.records import Verdict
from provisioner.core.views import from_records
from tests.support import samples


def test_rank_that_ended_at_the_barrier_is_shown_to_have_ended_in_setup() -> None:
    """Clients of the previous version could not read a view with a step that they do not know."""
    verdict = Verdict(Outcome.CANCELLED, "rank 1 has ended", samples.NOW, step=Step.BARRIER)
    node = samples.node(verdict=verdict)
    [found] = from_records.attempts(samples.at_work(scale=2), [node], [samples.machine()], samples.NOW)
    assert found.ended_in is Step.SETUP
