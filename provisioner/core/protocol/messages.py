"""The messages between the control plane and the agent; standard library only.

Times are Unix seconds of the writer's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from provisioner.core.protocol.words import Attachment, Engine, Outcome, SignalCause, Step


@dataclass(frozen=True)
class Secret:
    """A reference to a secret. The machine reads the value with its own role; no work order contains the value."""

    #: `ssm:/path` of a parameter, or `secretsmanager:id#key` for a key of the secret's JSON; without `#key`, the whole
    #: secret.
    name: str
    attachment: Attachment
    #: The variable's name, or the file's path; a relative path is below HOME.
    location: str


@dataclass(frozen=True)
class ConfigFile:
    """A file that the agent writes before the job starts."""

    #: Relative to HOME.
    path: str
    content: str
    #: Permissions in octal digits.
    mode: str = "0644"


@dataclass(frozen=True)
class Packages:
    """Packages to install before the start script; `apt` and `pip` are arguments of the tool's `install`."""

    apt: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    #: The content of a requirements.txt.
    requirements: str = ""


@dataclass(frozen=True)
class Repository:
    """A git repository and the absolute path of its checkout."""

    url: str
    path: str
    #: A branch, tag or commit; empty for the remote's default branch.
    reference: str = ""
    #: `branch`, `tag` or `commit`.
    reference_type: str = "branch"
    #: The name of a secret, as in Secret: an SSH key or a token; empty for a public repository.
    credential: str = ""
    #: Number of commits to fetch, in digits; `full`: all commits with every branch and tag; empty: all commits of
    #: the reference, but older commits without their files if the server supports that.
    depth: str = ""
    #: Whether to fetch files from git LFS; otherwise they stay pointers.
    lfs: bool = True


@dataclass(frozen=True)
class ListWork:
    """How a machine runs a list of commands: a part of its work order. The commands follow in batches."""

    #: Number of commands that run at once on the machine.
    slots: int
    #: Number of commands of the whole list.
    total: int
    #: Limit of one command, in seconds from its begin; None for no limit.
    limit: float | None = None
    #: Seconds without a command to run after which the machine ends.
    idle_limit: float = 600.0
    #: Maximum number of machines that work on the list at once.
    machines: int = 1


@dataclass(frozen=True)
class WorkOrder:
    """The resolved description of one node's work; the agent gets nothing else about the job."""

    run: str
    attempt: int
    rank: int
    scale: int
    job: str
    job_id: str
    owner: str
    engine: Engine
    image: str
    #: Number of GPUs of the instance type; with 0 the job gets no GPU.
    gpus: int
    command: str
    start_script: str
    working_directory: str
    environment: Mapping[str, str]
    repositories: tuple[Repository, ...]
    #: Limits of single steps, in seconds from the step's beginning.
    pull_limit: float
    setup_limit: float
    runtime_limit: float
    #: Seconds from SIGTERM to SIGKILL.
    stop_grace: float
    #: Maximum number of seconds that the machine may exist, counted from its LaunchTime.
    lifetime: float
    heartbeat_interval: float = 10.0
    #: Maximum number of log bytes that wait on the machine's disk; at this limit the job's writes block.
    spool_limit: int = 2 << 30
    secrets: tuple[Secret, ...] = ()
    config_files: tuple[ConfigFile, ...] = ()
    packages: Packages = Packages()
    #: The name of a secret with `user:password` or {"username", "password"}; empty for a public image.
    registry_credential: str = ""
    #: The hosts that git trusts over SSH, as lines of known_hosts (sshd(8)).
    known_hosts: str = ""
    #: Bytes of /dev/shm; None for half of the machine's memory.
    shm_size: int | None = None
    #: The s3:// URL, ending in a slash, under which the run keeps its state across attempts; empty if it keeps none.
    checkpoint: str = ""
    #: The key that may log in to the machine as root, as a line of authorized_keys (sshd(8)); empty for none.
    authorized_key: str = ""
    #: Limit of the wait for the other ranks, in seconds; used only if `scale` is more than 1.
    gather_limit: float = 0.0
    #: Whether the command of a run with several ranks gets the variables of torchrun and similar launchers.
    launcher_variables: bool = True
    #: Maximum number of seconds for which the machine, after the attempt was ended by another rank or failed, waits for
    #: the work order of the run's next attempt; 0: it powers off at once.
    waiting_limit: float = 0.0
    #: Set if the run has a list of commands; `command` is then empty.
    commands: ListWork | None = None


@dataclass(frozen=True)
class Peers:
    """The private addresses of all machines of an attempt, by rank."""

    run: str
    attempt: int
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Stop:
    """The control plane's order to end the work, with the outcome and a one-line reason."""

    outcome: Outcome
    reason: str
    at: float
    #: The Unix time of SIGTERM, the same for all ranks; if it is past, SIGTERM is sent at once.
    begin_at: float = 0.0
    #: The Unix time of SIGKILL; 0 for `stop_grace` seconds after SIGTERM.
    kill_at: float = 0.0
    #: Whether the run ends, not only the present attempt.
    ends_run: bool = True


@dataclass(frozen=True)
class Recall:
    """The control plane wants the commands of a batch back that have not begun, but for the first `spare` of them."""

    batch: int
    spare: int = 0


@dataclass(frozen=True)
class ListOrders:
    """The batches of commands that a machine has to run. The agent keeps the highest number and the mark `last`."""

    #: The mailbox has the batches 1 to this number.
    batches: int = 0
    #: Whether no batch follows: the machine ends when its commands have ended.
    last: bool = False
    #: Each until its answer was read. The agent answers each batch once, for good.
    recalls: tuple[Recall, ...] = ()
    #: Indices of commands to stop; the other commands go on. Each until its record was read.
    stop: tuple[int, ...] = ()
    #: Whether the list ends early: no command begins any more, and the machine ends when those that run have ended.
    finish: bool = False


@dataclass(frozen=True)
class Orders:
    """The control plane's orders to a machine. Each message contains all orders."""

    stop: Stop | None = None
    #: Unix time until which a client follows the log. Until then the agent ships the log every second.
    followed_until: float = 0.0
    #: The attempt whose command the ranks may execute; 0 until all ranks are ready. Only for runs with several ranks.
    start: int = 0
    #: The attempt that these orders are for; 0: the attempt of the machine's only work order.
    attempt: int = 0
    #: None if the run has no list of commands, and before the first batch.
    commands: ListOrders | None = None


@dataclass(frozen=True)
class Notice:
    """The cloud's notice that it will interrupt a spot machine."""

    #: When the machine will be interrupted.
    at: float
    #: When the agent read the notice.
    seen: float


@dataclass(frozen=True)
class Span:
    """When a step began and ended, by the machine's clock; `ended` is None while the step lasts."""

    began: float
    ended: float | None = None


@dataclass(frozen=True)
class Running:
    """A command of a list that runs now."""

    slot: int
    index: int
    generation: int
    began: float


@dataclass(frozen=True)
class Kept:
    """The answer to a recall: the machine begins only the first `count` commands of the batch."""

    batch: int
    count: int


@dataclass(frozen=True)
class ListReport:
    """What a machine has done of a list of commands."""

    #: The number of the last batch that the machine has read.
    batches: int = 0
    running: tuple[Running, ...] = ()
    #: Number of commands that ended on the machine, and of those among them that failed.
    ended: int = 0
    failed: int = 0
    #: Number of commands that were read and have not begun.
    waiting: int = 0
    #: The latest answers to recalls.
    kept: tuple[Kept, ...] = ()


@dataclass(frozen=True)
class Report:
    """A snapshot of a node's work. Each report is complete, so a lost report only costs time."""

    sequence: int
    at: float
    #: The random id of this agent process.
    process: str
    step: Step
    spans: Mapping[str, Span] = field(default_factory=dict)
    #: Log bytes by stream: those that the job wrote, and those that the bucket acknowledged.
    produced: Mapping[str, int] = field(default_factory=dict)
    shipped: Mapping[str, int] = field(default_factory=dict)
    notice: Notice | None = None
    #: When the cloud recommended moving to another machine (EC2 User Guide, "Rebalance recommendations").
    rebalance_at: float | None = None
    #: Whether the result is in the mailbox.
    finished: bool = False
    #: The machine's SSH host keys, each `kind base64`; empty if no key may log in.
    host_keys: tuple[str, ...] = ()
    #: The outcome, reported as soon as the work is over, before the rest of the log is shipped. The outcome in the
    #: result may differ. Only agents of a run with several ranks report it.
    ended: Outcome | None = None
    #: The attempt that the machine works for; 0 in reports of older agents.
    attempt: int = 0
    #: Whether the result is in the mailbox, and the machine waits for the work order of the run's next attempt.
    waits: bool = False
    #: None if the run has no list of commands.
    commands: ListReport | None = None


@dataclass(frozen=True)
class Chunk:
    """One acknowledged piece of a stream."""

    offset: int
    length: int
    sha256: str


@dataclass(frozen=True)
class StreamEnd:
    """The EOF mark of a stream: its length and checksum, and those of every chunk."""

    length: int
    sha256: str
    chunks: tuple[Chunk, ...] = ()


@dataclass(frozen=True)
class Result:
    """The result of a work order; the agent's last message, written once."""

    run: str
    attempt: int
    rank: int
    process: str
    outcome: Outcome
    #: The step that decided the outcome.
    step: Step
    #: The process's exit code (128 + s if signal s ended it); None if no process ended.
    exit_code: int | None
    #: A one-line explanation for users.
    reason: str
    at: float
    spans: Mapping[str, Span] = field(default_factory=dict)
    streams: Mapping[str, StreamEnd] = field(default_factory=dict)
    notice: Notice | None = None
    #: The host name that could not be resolved, if that ended the work; otherwise empty.
    unresolved_host: str = ""
    #: None in results of older agents, which do not report it.
    signal_cause: SignalCause | None = None
    #: Whether the machine itself cannot work, so that other machines of its template probably cannot either.
    unfit: bool = False


@dataclass(frozen=True)
class Started:
    """A mark that the agent writes just before it executes the command, so that no other agent process does so."""

    process: str
    at: float


def limit_of(name: str, seconds: float) -> str:
    """Return a limit as the agent and the control plane write it in reasons, such as `limits.boot of 10 min`."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"limits.{name} of {seconds / size:.0f} {unit}"
    return f"limits.{name} of {seconds:g} s"
