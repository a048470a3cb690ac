"""Records of runs, nodes, launches and machines as the store keeps them.

Each record is frozen. A change is a new value, saved against the `version` that was read. Times are Unix seconds.
"""

from dataclasses import dataclass

from provisioner.core.access.callers import Audit, Session, Token
from provisioner.core.cloud.launches import LaunchRequest
from provisioner.core.cloud.machines import Ending, MachineState
from provisioner.core.cloud.offers import Offer, Price
from provisioner.core.commands.records import Batch, Block, CommandList, RecordChunk, Worker
from provisioner.core.commands.uploads import Upload
from provisioner.core.protocol.messages import Report, Result, Stop
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.recipe.jobs import Job, Revision
from provisioner.core.run.states import State, Waiting
from provisioner.core.usage.amounts import MachineUsage


@dataclass(frozen=True)
class Tried:
    """One refusal that a waiting run got from the cloud."""

    what: str
    code: str
    at: float


@dataclass(frozen=True)
class Verdict:
    """Why an attempt, or the run, ended."""

    outcome: Outcome
    #: A one-line explanation for users.
    reason: str
    at: float
    #: The process's exit code; None if no process ended, and for an interrupted attempt.
    exit_code: int | None = None
    step: Step = Step.BOOT
    #: The host name that could not be resolved, as in Result.
    unresolved_host: str = ""
    #: The process's exit code for every outcome; None if no process ended. If unset, it is `exit_code`.
    process_exit_code: int | None = None

    def __post_init__(self) -> None:
        # The rules are here because they also apply to verdicts that an older version stored.
        if self.process_exit_code is None:
            object.__setattr__(self, "process_exit_code", self.exit_code)
        if self.outcome is Outcome.INTERRUPTED:
            object.__setattr__(self, "exit_code", None)


@dataclass(frozen=True)
class Joining:
    """The launches of further machines for the present attempt of a list run, which begins with one machine."""

    #: The attempt that the machines join, and the rank of the next one.
    attempt: int
    next_rank: int = 1
    #: The open launch; empty if there is none.
    launch: str = ""
    #: As the fields of `Run` with these names.
    next_try_at: float = 0.0
    tier: int = 0
    dry_launches: int = 0
    waiting: Waiting | None = None
    waiting_for: str = ""
    tried: tuple[Tried, ...] = ()


#: What the runs of one variant have in common: the job's id, the number of the recipe's revision, the number of
#: machines, and whether they have a list of commands. A start may change the last two.
Variant = tuple[str, int, int, bool]


# An object with more than 30 attributes and no slots has a hash table of its own: CPython shares no more keys.
@dataclass(frozen=True, slots=True)
class Run:
    """One trigger of a job, with the recipe as it was then."""

    id: str
    job_id: str
    job_name: str
    job_revision: int
    owner: str
    recipe: str
    created_at: float
    state: State = State.QUEUED
    #: The client's key. `inputs` is the digest of the request: the same key with other inputs is a conflict.
    idempotency_key: str = ""
    inputs: str = ""
    #: The number of the latest attempt that got a machine; 0 if none did.
    attempt: int = 0
    launch: str = ""
    retries_used: int = 0
    #: Number of attempts that used up no retries: those before the command first started, and those after.
    lost_before_start: int = 0
    lost_after_start: int = 0
    ever_started: bool = False
    next_try_at: float = 0.0
    #: Index of the recipe's market that the next launch tries first.
    tier: int = 0
    #: Number of launches in a row that gave the run no machine.
    dry_launches: int = 0
    #: Number of launches in a row that a quota refused because it can never be enough for the run.
    hopeless_launches: int = 0
    waiting: Waiting | None = None
    waiting_for: str = ""
    tried: tuple[Tried, ...] = ()
    stop: Stop | None = None
    followed_until: float = 0.0
    #: Number of machines, and of ranks of each attempt.
    scale: int = 1
    #: Number of commands of its list; 0 if it has a single command. Runs of one `variant` may differ in it.
    commands: int = 0
    #: The id of the upload with the run's list; empty if the list is in the recipe. With an upload, the recipe has the
    #: job's own command, which is not executed. A single command is stored as a list of one, so that the rules for
    #: lists apply to the recipe.
    upload: str = ""
    #: None for runs with a single command, and before the first launch of a further machine.
    joining: Joining | None = None
    #: The attempt whose ranks are ordered to execute the command, because all of them were ready; 0 before the first.
    start_order: int = 0
    #: The order to stop for the other ranks of the present attempt, after the end of one rank decided the attempt.
    ranks_stop: Stop | None = None
    #: While the run is queued or launching: until when machines of the last attempt wait for the next one; None if none
    #: waits.
    kept_until: float | None = None
    #: The latest attempt's verdict; final once `ended_at` is set.
    verdict: Verdict | None = None
    ended_at: float | None = None
    #: When the verdict was final and the end of every machine was certain: it had ended or was ending, would be
    #: interrupted soon, or its termination was accepted.
    certain_at: float | None = None
    done_at: float | None = None
    #: The offer of the latest attempt's machine; None before the first one, and for runs of earlier versions.
    offer: Offer | None = None
    #: US dollars of the machines of all attempts, without disks, once the run is done; None if a price is unknown.
    dollars_at_least: float | None = None
    dollars_at_most: float | None = None
    #: The name of the caller that started it; empty for runs of earlier versions.
    started_by: str = ""
    version: int = 0

    @property
    def variant(self) -> Variant:
        return self.job_id, self.job_revision, self.scale, self.commands > 0

    @property
    def together(self) -> int:
        """Number of machines that are launched and start together: 1 for a list."""
        return 1 if self.commands else self.scale


@dataclass(frozen=True)
class Node:
    """One rank of one attempt, bound to its machine."""

    id: str
    run: str
    attempt: int
    rank: int
    launch: str
    #: The launch template's name; machines that never report are counted for each template.
    template: str
    instance_id: str
    box: str
    bound_at: float
    #: The epoch of the lease under which the node was bound.
    epoch: int
    work_put_at: float | None = None
    #: When the addresses of all ranks were put; None for the only rank of a run.
    peers_put_at: float | None = None
    #: The digest of the orders that were last put; empty if none were.
    orders: str = ""
    #: When the order to stop was put; the stop's grace period counts from this time.
    stop_put_at: float | None = None
    report: Report | None = None
    #: The host keys in the first report that has any: the job cannot have changed them before that report.
    host_keys: tuple[str, ...] = ()
    reported_at: float | None = None
    #: Number of unreadable objects in the inbox so far; some may not be counted yet.
    unreadable: int = 0
    #: The result without its list of chunks.
    result: Result | None = None
    #: When a result was last looked for in the mailbox.
    result_sought_at: float | None = None
    #: Whether at `result_sought_at` the mailbox had no result but had the mark `Started`: the command may have begun.
    started: bool = False
    verdict: Verdict | None = None
    archived_at: float | None = None
    #: Whether the machine has worked for an earlier attempt of the run.
    reused: bool = False
    version: int = 0

    @property
    def later(self) -> int:
        """The attempt in the keys of the node's messages; 0 if it is the machine's first one, whose keys have none."""
        return self.attempt if self.reused else 0

    @property
    def clock_ahead(self) -> float:
        """Maximum number of seconds that our clock is ahead of the machine's: a report is read after it was written.

        0 without a report.
        """
        return self.reported_at - self.report.at if self.report and self.reported_at is not None else 0.0


@dataclass(frozen=True)
class KnownMachine:
    """A machine of one of our launches; the control plane must terminate it, however old it is."""

    id: str
    launch: str
    offer: Offer
    bound_at: float
    state: MachineState = MachineState.PENDING
    launch_time: float | None = None
    #: Its private address; empty until a listing has shown it.
    address: str = ""
    #: When a listing last showed it; None if no listing has.
    seen_at: float | None = None
    reason_code: str = ""
    reason: str = ""
    ending: Ending | None = None
    #: When its status checks were first seen to fail, while it was silent.
    impaired_at: float | None = None
    #: When a listing first showed it running, shutting down (no longer billed), and terminated.
    running_at: float | None = None
    ending_at: float | None = None
    ended_at: float | None = None
    #: When the last listing before `ending_at` was requested; None if it was incomplete or by another process.
    alive_at: float | None = None
    #: When it entered its ending state by the cloud's clock; None if the cloud does not report it.
    transition_at: float | None = None
    end_wanted_at: float | None = None
    end_wanted_for: str = ""
    end_asked_at: float | None = None
    end_accepted_at: float | None = None
    #: The price of an hour of the machine, and of a month of its disk.
    price: Price | None = None
    disk_price: Price | None = None
    console: str = ""
    #: What it counts for against caps: seconds that it may exist, from its launch time, and US dollars of an hour at
    #: most. None if they are unknown; then it counts as if it lived for ever, or was free.
    lifetime: float | None = None
    hourly_at_most: float | None = None
    #: The id of the capacity reservation that it was launched into, or "".
    reservation: str = ""
    version: int = 0


@dataclass(frozen=True)
class Assignment:
    """A node and the machine it is bound to."""

    node: Node
    machine: KnownMachine


@dataclass(frozen=True)
class Launch:
    """A launch, stored completely before its call is made; open until its answer is recorded."""

    request: LaunchRequest
    runs: tuple[str, ...]
    created_at: float
    #: Until this time another process uses the launch to make an AMI: no pass repeats the launch or ends its machines.
    held_until: float = 0.0
    #: When the call was last made.
    sent_at: float | None = None
    #: When a listing by tag first found fewer machines than requested, after its client token could no longer be
    #: replayed.
    listed_at: float | None = None
    closed_at: float | None = None
    #: The result in one line.
    result: str = ""
    #: The ranks of its only run that get the machines; empty if every rank of every run gets one. If the machines are
    #: not launched together, they join a list run.
    ranks: tuple[int, ...] = ()
    #: What an hour of one of its machines costs at most, in US dollars: for this it counts against caps. None if no
    #: price is known, or no cap applied.
    hourly_at_most: float | None = None
    version: int = 0

    @property
    def id(self) -> str:
        return self.request.token


@dataclass(frozen=True)
class Drought:
    """An offer, or a whole type in a market (then `zone` is empty), that has no capacity until the time `until`."""

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
    """The health of a launch template: how many of its machines in a row never reported, or could not work at all."""

    id: str
    failures: int = 0
    reason: str = ""
    #: After too many failures: when the next probe, a launch of only one machine, is allowed.
    probe_at: float = 0.0
    #: When the last of these machines was found lost.
    failed_at: float = 0.0
    version: int = 0


@dataclass(frozen=True)
class Event:
    """One event of a run's story, with the run's owner, job, attempt, machine and launch."""

    id: str
    run: str
    at: float
    text: str
    job: str = ""
    owner: str = ""
    attempt: int = 0
    instance_id: str = ""
    launch: str = ""
    #: The name of the caller who caused it; "" if the control plane or a machine did.
    who: str = ""
    version: int = 0


@dataclass(frozen=True)
class Live:
    """All unfinished records, which are the input of a pass."""

    #: Runs that are not done, and their nodes.
    runs: tuple[Run, ...]
    nodes: tuple[Node, ...]
    #: Launches that are open.
    launches: tuple[Launch, ...]
    #: Machines that are not listed as terminated.
    machines: tuple[KnownMachine, ...]
    droughts: tuple[Drought, ...]
    templates: tuple[TemplateHealth, ...]
    #: The lists of the runs that are not done, and the workers of these lists.
    lists: tuple[CommandList, ...] = ()
    workers: tuple[Worker, ...] = ()
    #: Batches with a command that has no record.
    batches: tuple[Batch, ...] = ()


Record = (
    Job
    | Run
    | Node
    | KnownMachine
    | Launch
    | Drought
    | TemplateHealth
    | Event
    | Token
    | Audit
    | CommandList
    | Worker
    | Batch
    | Block
    | RecordChunk
    | Upload
    | Session
    | Revision
    | MachineUsage
)
