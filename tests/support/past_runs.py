"""Views of past runs of a job."""

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.states import State
from provisioner.core.views.codec import Moment
from provisioner.core.views.history.shapes import PastRun


def past(seconds: float, outcome: Outcome | None = Outcome.SUCCEEDED, id: str = "r1") -> PastRun:
    ended = Moment(100.0 + seconds) if outcome else None
    state = State.DONE if outcome else State.RUNNING
    return PastRun(id, 1, state, outcome, Moment(90.0), Moment(100.0), ended, None, None)
