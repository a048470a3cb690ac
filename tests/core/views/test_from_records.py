"""Views of records."""

from provisioner.core.commands.records import CommandList, Worker
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


def test_time_of_a_command_is_the_average_of_all_machines_also_of_those_that_are_gone() -> None:
    """`rate` is for all slots of a machine."""
    workers = [
        Worker("r1.1.0", "r1", "A:i-1", 1, 0, 4, ended=30, rate=2.0),
        Worker("r1.1.1", "r1", "A:i-2", 1, 1, 8, ended=10, rate=1.0),
        Worker("r1.1.2", "r1", "A:i-3", 1, 2, 8),
    ]
    found = from_records.progress(CommandList("r1", 50), workers, [], samples.NOW)
    assert (found.command_seconds, found.rate) == (3.5, None)
    assert from_records.progress(CommandList("r1", 50), workers[2:], [], samples.NOW).command_seconds is None
