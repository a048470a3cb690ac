"""The difference between two clocks, and stored times that a wrong clock has left behind."""

import dataclasses
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.cloud.clock_skew import RESOLUTION, TOLERANCE, Reading
from provisioner.core.cloud.launches import LaunchRequest, Template
from provisioner.core.cloud.machine_images import Image
from provisioner.core.protocol.messages import Stop
from provisioner.core.protocol.words import Outcome
from provisioner.core.run import capacity, clock_repair, launching
from provisioner.core.run.records import Drought, KnownMachine, Launch, Node, Run, TemplateHealth, Verdict
from provisioner.core.run.states import Waiting
from tests.support.samples import NOW, SPOT_A, run

FAR = NOW + 2 * 86400.0


@given(offset=st.floats(-1e6, 1e6), took=st.floats(0, 60), answered=st.floats(0, 1), since=st.floats(0, 1e5))
def test_difference_is_never_called_larger_than_it_is(
    offset: float, took: float, answered: float, since: float
) -> None:
    """The cloud may write its whole second at any moment of the call, and the clock may be read at any later time."""
    truth = NOW + took * answered
    reading = Reading(float(int(truth)), 1000.0, took)
    # The answer arrived `took` seconds after the request.
    found = reading.ahead(NOW + took + since + offset, 1000.0 + since)
    assert abs(found) <= abs(offset) + 1e-3
    assert abs(found - offset) <= took + RESOLUTION + 1e-3
    assert found * offset >= 0


def test_clock_that_is_set_after_the_comparison_is_noticed() -> None:
    """A change of the clock, and its correction, are noticed without another call to the cloud."""
    reading = Reading(NOW, 50.0, 0.1)
    assert reading.ahead(NOW + 10, 60.0) == 0
    assert reading.ahead(FAR, 60.0) > 86400
    assert reading.ahead(NOW - 3600, 60.0) < -TOLERANCE
    assert reading.ahead(NOW + 20, 70.0) == 0


def launch() -> Launch:
    template = Template(Image("ami-1", "/dev/sda1", "x86_64"), "arn", (), 100, "")
    request = LaunchRequest("l1", template, SPOT_A.market, (SPOT_A,), {SPOT_A.zone: "subnet-1"}, 1, {})
    return Launch(request, ("r1",), FAR, FAR, FAR, FAR)


VERDICT = Verdict(Outcome.LOST, "", FAR)
REPAIRED = {
    "run": clock_repair.run(
        run(
            created_at=FAR,
            next_try_at=FAR,
            followed_until=FAR,
            ended_at=FAR,
            certain_at=FAR,
            verdict=VERDICT,
            stop=Stop(Outcome.CANCELLED, "", FAR),
        ),
        NOW,
    ),
    "node": clock_repair.node(
        Node(
            "n",
            "r",
            1,
            0,
            "l",
            "t",
            "i",
            "b",
            FAR,
            1,
            work_put_at=FAR,
            stop_put_at=FAR,
            reported_at=FAR,
            result_sought_at=FAR,
            verdict=VERDICT,
            archived_at=FAR,
        ),
        NOW,
    ),
    "machine": clock_repair.machine(
        KnownMachine(
            "i",
            "l",
            SPOT_A,
            FAR,
            seen_at=FAR,
            impaired_at=FAR,
            running_at=FAR,
            ending_at=FAR,
            alive_at=FAR,
            end_wanted_at=FAR,
            end_asked_at=FAR,
            end_accepted_at=FAR,
        ),
        NOW,
    ),
    "launch": clock_repair.launch(launch(), NOW),
    "drought": clock_repair.dry(Drought("spot", "t", "z", FAR, 3), NOW),
    "health": clock_repair.health(TemplateHealth("t", 3, "", FAR), NOW),
}


@pytest.mark.parametrize("record", REPAIRED.values(), ids=REPAIRED)
def test_no_stored_time_stays_ahead(record: Run | Node | KnownMachine | Launch | Drought | TemplateHealth) -> None:
    """The test looks at every field, also at fields that are added later."""
    found = str(dataclasses.asdict(record))
    assert str(FAR) not in found


def test_search_and_termination_dated_in_the_future_are_repeated() -> None:
    """A search for a result, or a termination, that is dated in the future is repeated."""
    node, machine = REPAIRED["node"], REPAIRED["machine"]
    assert isinstance(node, Node)
    assert isinstance(machine, KnownMachine)
    assert (node.result_sought_at, machine.end_asked_at) == (None, None)


@pytest.mark.parametrize(
    ("cause", "longest"),
    [(Waiting.CAPACITY, capacity.LONGEST), (Waiting.QUOTA, 600), (Waiting.LIMIT, 600), (Waiting.CONFIGURATION, 60)],
)
def test_wait_of_a_run_is_no_longer_than_the_longest_of_its_cause(cause: Waiting, longest: float) -> None:
    """A shorter wait is kept."""
    waits = run(waiting=cause, next_try_at=NOW + longest)
    assert clock_repair.run(waits, NOW) is waits
    late = replace(waits, next_try_at=NOW + longest + clock_repair.SLACK + 1)
    assert clock_repair.run(late, NOW).next_try_at == NOW


def test_pause_that_a_recipe_asks_for_is_kept() -> None:
    """The recipe's pause may be longer than any wait of the control plane."""
    failed = run(verdict=replace(VERDICT, at=NOW), next_try_at=NOW + 7200)
    assert clock_repair.run(failed, NOW, backoff=7200.0) is failed
    assert clock_repair.run(failed, NOW).next_try_at == NOW


def test_droughts_and_probes_that_are_due_in_time_are_kept() -> None:
    """The longest regular drought and probe are kept too."""
    dry = Drought("spot", "t", "z", NOW + capacity.LONGEST, 9)
    sick = TemplateHealth("t", 3, "", NOW + launching.PROBE_EVERY)
    assert clock_repair.dry(dry, NOW) is dry
    assert clock_repair.health(sick, NOW) is sick
