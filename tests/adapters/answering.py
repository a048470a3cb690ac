"""A server that gives prepared answers, and a client of it."""

import json
from collections.abc import Callable

from provisioner.adapters.remote.address import address
from provisioner.adapters.remote.control import Remote
from provisioner.core.views import from_records
from provisioner.core.views.codec import Moment, to_json
from provisioner.core.views.job import Job, Jobs, Started
from provisioner.core.views.run import Runs
from provisioner.rehearsal.fakes.clock import CountingIds, StepClock
from tests.adapters.stranger import Answering, Said, Stranger
from tests.support import samples

TOKEN = "pvt_0123456789ab_do-not-tell"
JOB = Job("j" * 32, "ann", "train", 1, Moment(1.0), Moment(1.0), None, {}, ())
RUN = from_records.run(samples.run("1f" * 16))
STARTED = Started(**vars(JOB), run=RUN)
JOBS, FOUND = Jobs((JOB,)), Runs((RUN,), None)
EVENTS = "text/event-stream"


class Client:
    """A remote control with its clock and the messages it printed about an unreachable server."""

    def __init__(self, url: str) -> None:
        self.clock = StepClock()
        self.began = self.clock.now()
        self.told: list[str] = []
        self.control = Remote(address(url, TOKEN), self.clock, CountingIds(), self.told.append)

    @property
    def waited(self) -> float:
        return self.clock.now() - self.began


def in_turn(*answers: Said) -> Answering:
    """Return the answers one after the other, then the last one for ever."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def encoded(view: object) -> bytes:
    return json.dumps(to_json(view)).encode()


def record(view: object) -> Said:
    return Said(encoded(view))


def problem(status: int, code: str, message: str = "in one sentence", **headers: str) -> Said:
    body = json.dumps({"message": message, "code": code, "detail": {}}).encode()
    return Said(body, status, "application/json", tuple(headers.items()))


Against = Callable[[Answering], tuple[Client, Stranger]]
