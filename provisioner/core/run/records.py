"""Records of runs, nodes, launches and machines as the store keeps them.

Each record is frozen. A change is a new value, saved against the `version` that was read. Times are Unix seconds.
"""

from dataclasses import dataclass

from provisioner.core.access.callers import Audit, Token
from provisioner.core.cloud.launches import LaunchRequest
from provisioner.core.cloud.machines import Ending, MachineState
from provisioner.core.cloud.offers import Offer, Price
from provisioner.core.protocol.messages import Outcome, Report, Result, Step, Stop
from provisioner.core.recipe.jobs import Job
from provisioner.core.run.states import State, Waiting


@dataclass(frozen=True)
class Tried:
    """One answer that a waiting run got."""

    what: str
    code: str
    at: float


@dataclass(frozen=True)
class Verdict:
    """Why an attempt, or the run, ended."""

    outcome: Outcome
    #: One line for a reader.
    reason: str
    at: float
    #: The process's exit code; None if no process ended, and for an interrupted attempt.
    exit_code: int | None = None
    step: Step = Step.BOOT
    #: As in Result.
    unresolved_host: str = ""
    #: The process's exit code for every outcome; None if no process ended. If unset, it is `exit_code`.
    process_exit_code: int | None = None

    def __post_init__(self) -> None:
        # Done here, so that the rule also applies to verdicts that an older version stored.
        if self.process_exit_code is None:
            object.__setattr__(self, "process_exit_code", self.exit_code)
        if self.outcome is Outcome.INTERRUPTED:
            object.__setattr__(self, "exit_code", None)


#: A job's id, and which of its recipes.
Revision = tuple[str, int]


@dataclass(frozen=True)
class Run:
    """One trigger of a job, frozen as it was triggered."""

    id: str
    job_id: str
    job_name: str
    job_revision: int
    owner: str
    recipe: str
    created_at: float
    state: State = State.QUEUED
    #: With `idempotency_key`, the digest of what was asked, so that other inputs are a conflict.
    idempotency_key: str = ""
    inputs: str = ""
    #: The number of the latest attempt that got a machine; 0 before the first.
    attempt: int = 0
    launch: str = ""
    retries_used: int = 0
    #: Attempts that infrastructure ended, before and after a command first started.
    lost_before_start: int = 0
    lost_after_start: int = 0
    ever_started: bool = False
    next_try_at: float = 0.0
    #: Which of the recipe's markets the next launch tries first.
    tier: int = 0
    #: How many launches in a row gave no machine.
    dry_launches: int = 0
    waiting: Waiting | None = None
    waiting_for: str = ""
    tried: tuple[Tried, ...] = ()
    stop: Stop | None = None
    followed_until: float = 0.0
    #: The latest attempt's verdict; final once `ended_at` is set.
    verdict: Verdict | None = None
    ended_at: float | None = None
    #: The verdict stands and nothing of the run can go on being billed unnoticed.
    certain_at: float | None = None
    done_at: float | None = None
    version: int = 0

    @property
    def revision(self) -> Revision:
        return self.job_id, self.job_revision


@dataclass(frozen=True)
class Node:
    """One rank of one attempt, bound to its machine."""

    id: str
    run: str
    attempt: int
    rank: int
    launch: str
    #: The launch template's name: machines that never report are counted by it.
    template: str
    instance_id: str
    box: str
    bound_at: float
    #: The lease's epoch under which it was bound.
    epoch: int
    work_put_at: float | None = None
    #: The digest of the orders last put; empty when none were.
    orders: str = ""
    #: When the machine was told to stop: its grace counts from there.
    stop_put_at: float | None = None
    report: Report | None = None
    #: As the machine first told them: before its job could have a say.
    host_keys: tuple[str, ...] = ()
    reported_at: float | None = None
    #: Number of unreadable objects in the inbox so far; some may not be counted yet.
    unreadable: int = 0
    #: The result without its list of chunks.
    result: Result | None = None
    #: When the mailbox was last asked for a result, after the machine's end was seen.
    result_sought_at: float | None = None
    #: No result was there then, but the mark that the command begins was.
    started: bool = False
    verdict: Verdict | None = None
    archived_at: float | None = None
    version: int = 0

    @property
    def clock_ahead(self) -> float:
        """How many seconds our clock is ahead of the machine's, at most: a report is read after it was written.

        0 without a report.
        """
        return self.reported_at - self.report.at if self.report and self.reported_at is not None else 0.0


@dataclass(frozen=True)
class KnownMachine:
    """A machine of a launch of ours: the obligation to end it never expires."""

    id: str
    launch: str
    offer: Offer
    bound_at: float
    state: MachineState = MachineState.PENDING
    launch_time: float | None = None
    #: When a listing last showed it; None until one does.
    seen_at: float | None = None
    reason_code: str = ""
    reason: str = ""
    ending: Ending | None = None
    #: When its status checks were first seen to fail, while it was silent.
    impaired_at: float | None = None
    #: When a listing first showed it running, shutting down (billing has stopped), and terminated.
    running_at: float | None = None
    ending_at: float | None = None
    ended_at: float | None = None
    #: When the last listing before `ending_at` was asked for, if this process asked it.
    alive_at: float | None = None
    #: When it came into its state, where the cloud says so.
    transition_at: float | None = None
    end_wanted_at: float | None = None
    end_wanted_for: str = ""
    end_asked_at: float | None = None
    end_accepted_at: float | None = None
    #: Of an hour of it, and of a month of its disk.
    price: Price | None = None
    disk_price: Price | None = None
    console: str = ""
    version: int = 0


@dataclass(frozen=True)
class Assignment:
    """A node and the machine it is bound to."""

    node: Node
    machine: KnownMachine


@dataclass(frozen=True)
class Launch:
    """A launch, stored whole before its call is made; open until an answer is recorded."""

    request: LaunchRequest
    runs: tuple[str, ...]
    created_at: float
    #: Until then it is somebody else's who works with its machines: no pass replays it, or ends them.
    held_until: float = 0.0
    #: When it was last sent.
    sent_at: float | None = None
    #: When the list by tag first was asked, after the token became useless.
    listed_at: float | None = None
    closed_at: float | None = None
    #: What came of it, in one line.
    result: str = ""
    version: int = 0

    @property
    def id(self) -> str:
        return self.request.token


@dataclass(frozen=True)
class Drought:
    """An offer, or a whole type of a market (empty zone), known to be dry until a time."""

    market: str
    instance_type: str
    zone: str
    until: float
    strikes: int
    code: str = ""
    version: int = 0

    @property
    def id(self) -> str:
        return f"{self.market}/{self.instance_type}/{self.zone}"


@dataclass(frozen=True)
class TemplateHealth:
    """How many machines in a row of one template never reported."""

    id: str
    failures: int = 0
    reason: str = ""
    #: The next time one probe launch is allowed, once the template is stopped.
    probe_at: float = 0.0
    version: int = 0


@dataclass(frozen=True)
class Event:
    """One line of a run's story, with whose it is and what it is about."""

    id: str
    run: str
    at: float
    text: str
    job: str = ""
    owner: str = ""
    attempt: int = 0
    instance_id: str = ""
    launch: str = ""
    version: int = 0


@dataclass(frozen=True)
class Live:
    """Everything that is not over yet: what a pass reads."""

    #: Runs that are not done, and their nodes.
    runs: tuple[Run, ...]
    nodes: tuple[Node, ...]
    #: Launches that are open.
    launches: tuple[Launch, ...]
    #: Machines that are not listed as terminated.
    machines: tuple[KnownMachine, ...]
    droughts: tuple[Drought, ...]
    templates: tuple[TemplateHealth, ...]


Record = Job | Run | Node | KnownMachine | Launch | Drought | TemplateHealth | Event | Token | Audit
