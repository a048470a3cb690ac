"""Runs that are put into the store of a test's server as if they had been executed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from provisioner.core.cloud.launches import LaunchRequest
from provisioner.core.cloud.machines import MachineState
from provisioner.core.cloud.offers import Market, Price
from provisioner.core.protocol.messages import Report, Result, Span
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.records import Event, KnownMachine, Launch, Node, Run, Verdict
from provisioner.core.run.states import State
from tests.api.served import Server
from tests.support import samples

_numbers = count(1)
#: Seconds of the phases of a machine's life: launching, pending, boot, pull, clone (beside it) and setup.
LAUNCHING, PENDING, BOOT, PULL, CLONE, SETUP = 1.0, 8.0, 24.0, 60.0, 4.0, 30.0
BEFORE = LAUNCHING + PENDING + BOOT + PULL + SETUP


@dataclass
class Stored:
    """One run in the store; times are in seconds since its trigger."""

    server: Server
    run: Run

    @property
    def path(self) -> str:
        return f"/run/{self.run.id}"

    def save(self, *records: Any) -> None:
        self.server.service.installation.store.save(records)

    def change(self, **fields: Any) -> None:
        stored = self.server.service.installation.store.run(self.run.id)
        assert stored
        self.run = replace(stored, **fields)
        self.save(self.run)

    def attempt(
        self,
        number: int,
        at: float,
        lasts: float,
        outcome: Outcome | None,
        reason: str = "",
        code: int = 0,
        rank: int = 0,
    ) -> None:
        """Store an attempt whose launch was made at `at`, and whose command lasts so long, or until now (None)."""
        begun = self.run.created_at + at
        born = begun + LAUNCHING
        agent = born + PENDING + BOOT
        command = agent + PULL + SETUP
        end = command + lasts
        spans = {
            "boot": Span(born, agent),
            "pull": Span(agent, agent + PULL),
            "clone": Span(agent, agent + CLONE),
            "setup": Span(agent + PULL, command),
            "command": Span(command, end if outcome else None),
        }
        machine, launch = f"i-{number}{rank:04}{self.run.id[:8]}", f"{self.run.id}-{number}"
        report = Report(1, end, "p", Step.COMMAND, spans, produced={"output": 2_000_000}, shipped={"output": 1_500_000})
        ended: dict[str, Any] = {}
        if outcome:
            ended = {
                "result": Result(self.run.id, number, rank, "p", outcome, Step.COMMAND, code, reason, end, spans),
                "verdict": Verdict(outcome, reason, end, code),
            }
        node = Node(
            f"{self.run.id}.{number}.{rank}", self.run.id, number, rank, launch, "t", machine, "box", born, 1,
            work_put_at=born, report=report, reported_at=end, **ended,
        )  # fmt: skip
        price = Price(0.9, "EC2 DescribeSpotPriceHistory", begun - 600)
        known = KnownMachine(
            machine, launch, samples.SPOT_A, born, MachineState.RUNNING, launch_time=born, running_at=born + PENDING,
            alive_at=end, price=price, disk_price=Price(8.0, "AWS price list", begun - 600),
        )  # fmt: skip
        if outcome:
            known = replace(known, state=MachineState.TERMINATED, ending_at=end + 5, ended_at=end + 35)
        request = LaunchRequest(
            launch, samples.site().template, Market.SPOT, (samples.SPOT_A,), {"a": "subnet-a"}, 1, {}
        )
        self.save(node, known, *([] if rank else [Launch(request, (self.run.id,), begun, closed_at=born)]))

    def tell(self, events: Mapping[float, str]) -> None:
        """Store the texts of these events, by their times."""
        ids = self.server.service.ids
        made = [Event(ids.new(), self.run.id, self.run.created_at + at, text) for at, text in events.items()]
        self.save(*made)


def stored(
    server: Server, age: float = 3600.0, owner: str = "ann", recipe: Mapping[str, Any] = {}, **fields: Any
) -> Stored:
    """Store a run that was triggered `age` seconds ago."""
    created = server.service.installation.clock.now() - age
    id = f"{next(_numbers):08x}".ljust(32, "f")
    run = samples.run(id, owner=owner, created_at=created, recipe=samples.recipe(**(recipe or {})).dump(), **fields)
    made = Stored(server, run)
    made.save(run)
    return made


def resumed(server: Server, **fields: Any) -> Stored:
    """Store a run whose first attempt was interrupted, and whose second one succeeded."""
    made = stored(server, 7200, offer=samples.SPOT_A, **fields)
    made.attempt(1, 2, 900, Outcome.INTERRUPTED, "AWS takes the spot machine back", 143)
    made.attempt(2, 1400, 2400, Outcome.SUCCEEDED, "the command exited 0")
    end = made.run.created_at + 1400 + BEFORE + 2400
    made.change(
        state=State.DONE,
        attempt=2,
        verdict=Verdict(Outcome.SUCCEEDED, "the command exited 0", end, 0),
        ended_at=end,
        certain_at=end,
        done_at=end + 40,
    )
    made.tell({0: "queued: triggered", 2: "launching: a launch is stored", 4: "attempt 1: i-1, spot g5.xlarge in a"})
    return made


def running(server: Server, **fields: Any) -> Stored:
    """Store a run whose command executes since 10 minutes."""
    made = stored(
        server, BEFORE + 602, state=State.RUNNING, attempt=1, ever_started=True, offer=samples.SPOT_A, **fields
    )
    made.attempt(1, 2, 598, None)
    return made
