"""Kill a control plane in a separate process at one of its calls."""

import os
import threading
from collections import Counter
from dataclasses import dataclass, field

from provisioner.core.run.records import Run
from provisioner.rehearsal.aws.calls import CONTROL, Call
from tests.e2e.rig import Rig


@dataclass(frozen=True)
class Aim:
    """The n-th call of an API action that the control plane makes for a run."""

    service: str
    action: str
    nth: int


@dataclass
class Ambush:
    """Kills `victim` when the aimed call arrives, and counts the control plane's calls."""

    aim: Aim | None = None
    victim: int = 0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.sprung = threading.Event()

    def __call__(self, call: Call) -> None:
        if call.principal != CONTROL:
            return
        self.counts[call.service, call.action] += 1
        if self.victim and self.aim == Aim(call.service, call.action, self.counts[call.service, call.action]):
            os.kill(self.victim, 9)
            self.sprung.set()


def wait_done(whole: Rig, run: Run) -> Run:
    """Wait until the run is done, without running passes."""
    while (found := whole.service.runs.record(run.id)).done_at is None:
        threading.Event().wait(0.02)
    return found
