"""Property tests: for any history and any observation of it, each bound of a receipt contains the truth (I8)."""

import math
from dataclasses import dataclass
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.cloud.launches import LaunchRequest
from provisioner.core.cloud.machines import MachineState
from provisioner.core.cloud.offers import Market
from provisioner.core.cost.phases import Phase, Source, phases
from provisioner.core.protocol.messages import Report, Result, Span
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.records import Assignment, Launch, Run, Verdict
from provisioner.core.run.states import State
from tests.support import samples
from tests.support.samples import NOW

#: The moments of a run in order; each is the begin of the phase with its name.
MOMENTS = ("queued", "launching", "pending", "boot", "clone", "setup", "command", "logs", "ending", "gone", "over")
#: A tolerance in seconds: less than any figure shown, but more than the floating-point error at these sizes.
TINY = 1e-5

REQUEST = LaunchRequest("l1", samples.site().template, Market.SPOT, (samples.SPOT_A,), {"a": "subnet-a"}, 1, {})


@dataclass(frozen=True)
class History:
    """The true times of a run's events, and how they were observed."""

    at: dict[str, float]
    #: Seconds by which the machine's clock is behind the control plane's, and the delay of its last report.
    behind: float
    late: float
    #: Seconds between two listings, and the time of the first one.
    every: float
    first: float

    def seen(self, moment: float) -> float:
        """Return the time of the first listing at or after a moment."""
        return self.first + math.ceil((moment - self.first) / self.every) * self.every

    def told(self, name: str) -> float:
        """Return a moment by the machine's clock."""
        return self.at[name] - self.behind

    def phases(self) -> tuple[Phase, ...]:
        at = self.at
        steps = ("clone", "setup", "command", "logs", "ending")
        spans = {"boot": Span(math.floor(at["pending"]), self.told("clone"))}
        spans |= {name: Span(self.told(name), self.told(end)) for name, end in pairwise(steps)}
        result = Result("r1", 1, 0, "p", Outcome.SUCCEEDED, Step.COMMAND, 0, "", self.told("ending"), spans)
        report = Report(1, self.told("ending"), "p", Step.LOGS, spans, finished=True)
        ending = self.seen(at["gone"])
        held: Assignment = samples.held(
            {"result": result, "report": report, "reported_at": at["ending"] + self.late, "work_put_at": at["boot"]},
            launch_time=float(math.floor(at["pending"])),
            bound_at=at["boot"],
            running_at=self.seen(at["boot"]),
            alive_at=max(self.seen(at["boot"]), ending - self.every),
            state=MachineState.TERMINATED,
            ending_at=ending,
            transition_at=float(math.floor(at["gone"])),
            ended_at=max(ending, self.seen(at["over"])),
        )
        closed = held.machine.ended_at or 0.0
        run: Run = samples.at_work(State.DONE, created_at=at["queued"], ended_at=closed, done_at=closed)
        launch = Launch(REQUEST, ("r1",), at["launching"])
        return phases(run, [held], {"l1": launch}, closed)


@st.composite
def histories(draw: st.DrawFn) -> History:
    spent = st.one_of(st.floats(0.001, 1.5), st.floats(0.001, 60.0))
    begins = list(accumulate((draw(spent) for _ in MOMENTS[1:]), initial=NOW + draw(st.floats(0, 1))))
    at = dict(zip(MOMENTS, begins, strict=True))
    if draw(st.booleans()):
        # A machine that was ordered to end still reports while it shuts down.
        at["ending"] = at["gone"] + draw(st.floats(0, 1)) * (at["over"] - at["gone"])
    behind = draw(st.floats(-5, 5))
    # A clock that is ahead is only visible in a report that seems to come from the future.
    late = draw(st.floats(0, 3)) if behind >= 0 else 0.0
    every = draw(st.floats(0.5, 5))
    return History(at, behind, late, every, NOW - draw(st.floats(0, every)))


@given(histories())
def test_every_bound_contains_the_truth(history: History) -> None:
    """Truncated times, listings and a wrong clock shift a bound by at most its stated error."""
    line = [phase for phase in history.phases() if not phase.beside]
    for phase in line:
        if phase.name in history.at:
            off = abs(phase.began.at - history.at[phase.name])
            assert off <= phase.began.error + TINY, (phase, history.at[phase.name])


@given(histories())
def test_phases_follow_each_other_without_hole_or_overlap(history: History) -> None:
    """Each second of a run is in exactly one phase of the main line."""
    line = [phase for phase in history.phases() if not phase.beside]
    for phase, following in pairwise(line):
        assert phase.ended == following.began
        assert phase.began.at <= following.began.at


@given(histories())
def test_time_cut_to_the_second_squeezes_no_phase_of_the_agents(history: History) -> None:
    """If the machine's clock is right, the agent's finer times are kept, and the machine's end begins after them."""
    right = History(history.at, 0.0, 0.0, history.every, history.first)
    began = {phase.name: phase.began for phase in right.phases() if not phase.beside}
    steps = ("clone", "setup", "command", "logs", *(("ending",) if history.at["ending"] <= history.at["gone"] else ()))
    for name in steps:
        assert began[name].at == pytest.approx(history.at[name], abs=TINY)
    assert began["gone"].source is Source.TRANSITION_REASON
    assert began["gone"].error <= 1.0 + TINY
    assert began["gone"].at >= began["ending"].at


def test_list_whose_verdict_follows_its_machine_waits_for_no_other() -> None:
    """The last records of a list may be read after the machine's end, and give the verdict only then."""
    ended = Verdict(Outcome.SUCCEEDED, "no command is left", NOW + 50, 0)
    over = {"state": MachineState.TERMINATED, "ending_at": NOW + 51, "ended_at": NOW + 60}
    held = samples.held({"verdict": ended, "report": samples.report(Step.COMMAND)}, **over)
    verdict = Verdict(Outcome.FAILED, "2 of 3 commands succeeded; 1 failed", NOW + 55, 1)
    run = samples.at_work(State.DONE, commands=3, verdict=verdict, ended_at=NOW + 55, done_at=NOW + 61)
    found = [(phase.name, phase.attempt) for phase in phases(run, [held], {}, NOW + 70)]
    assert [each for each in found if each[1] != 1] == []
    assert found[-1] == ("closing", 1)
