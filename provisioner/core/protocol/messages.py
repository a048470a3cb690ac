"""The messages between the control plane and the agent; standard library only.

Times are Unix seconds of the writer's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

STREAMS = ("system", "setup", "output")


class Outcome(str, Enum):
    """Why a run ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    INTERRUPTED = "interrupted"
    LOST = "lost"
    REFUSED = "refused"

    __str__ = str.__str__


class SignalCause(str, Enum):
    """Why the agent first sent SIGTERM to a job."""

    NOTICE = "notice"
    STOP = "stop"
    LIMIT = "limit"
    NONE = "none"

    __str__ = str.__str__


class Step(str, Enum):
    """Where in its work a node is; the order of the members is the order in time."""

    BOOT = "boot"
    PULL = "pull"
    CLONE = "clone"
    SETUP = "setup"
    COMMAND = "command"
    LOGS = "logs"

    __str__ = str.__str__


class Engine(str, Enum):
    """What runs the job; `process` (no container) is for rehearsals alone."""

    CONTAINER = "container"
    PROCESS = "process"

    __str__ = str.__str__


class Attachment(str, Enum):
    """How a job finds a secret."""

    VARIABLE = "environment_variable"
    FILE = "file"

    __str__ = str.__str__


@dataclass(frozen=True)
class Secret:
    """A value that the machine reads with its own role: it is never in a work order."""

    #: `ssm:/path` of a parameter, or `secretsmanager:id#key`, a key of a secret's JSON; without `#key` all of it.
    name: str
    attachment: Attachment
    #: The variable's name, or the file's path; a relative one is below HOME.
    location: str


@dataclass(frozen=True)
class ConfigFile:
    """A file that is there when the job starts."""

    #: Below HOME.
    path: str
    content: str
    #: In octal digits.
    mode: str = "0644"


@dataclass(frozen=True)
class Packages:
    """What is installed before the start script; each is what follows its tool's `install`."""

    apt: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    #: The content of a requirements.txt.
    requirements: str = ""


@dataclass(frozen=True)
class Repository:
    """A git repository and the absolute folder it is checked out as."""

    url: str
    path: str
    #: A branch, tag or commit; empty means the remote's default branch.
    reference: str = ""
    #: `branch`, `tag` or `commit`.
    reference_type: str = "branch"
    #: The name of a secret, as in Secret: an SSH key or a token; empty for a public one.
    credential: str = ""
    #: Number of commits to fetch, in digits; `full`: all commits with every branch and tag; empty: all commits of
    #: the reference, but the older ones without their files if the server supports that.
    depth: str = ""
    #: Whether to fetch files in git LFS; if not, they stay pointers.
    lfs: bool = True


@dataclass(frozen=True)
class WorkOrder:
    """The resolved, plain description of one node's work; all that an agent ever knows of a job."""

    run: str
    attempt: int
    rank: int
    scale: int
    job: str
    job_id: str
    owner: str
    engine: Engine
    image: str
    #: How many GPUs the instance type promises; 0 asks for no GPU at all.
    gpus: int
    command: str
    start_script: str
    working_directory: str
    environment: Mapping[str, str]
    repositories: tuple[Repository, ...]
    #: Limits of single steps, counted from when each begins.
    pull_limit: float
    setup_limit: float
    runtime_limit: float
    #: From SIGTERM to SIGKILL.
    stop_grace: float
    #: The machine's whole life, counted from its LaunchTime.
    lifetime: float
    heartbeat_interval: float = 10.0
    #: Log bytes that may wait on the machine's disk; when it is full the job waits.
    spool_limit: int = 2 << 30
    secrets: tuple[Secret, ...] = ()
    config_files: tuple[ConfigFile, ...] = ()
    packages: Packages = Packages()
    #: The name of a secret that holds `user:password` or {"username", "password"}; empty for a public image.
    registry_credential: str = ""
    #: The hosts that git over SSH may trust, as lines of known_hosts (sshd(8)).
    known_hosts: str = ""
    #: None is half of the machine's memory.
    shm_size: int | None = None
    #: Where the run keeps its state across attempts, an s3:// URL that ends in a slash; empty for nowhere.
    checkpoint: str = ""
    #: Who may enter the machine as its root, a line of authorized_keys (sshd(8)); empty for nobody.
    authorized_key: str = ""


@dataclass(frozen=True)
class Stop:
    """The control plane's wish that the work ends: as which outcome, and why in one line."""

    outcome: Outcome
    reason: str
    at: float


@dataclass(frozen=True)
class Orders:
    """What the control plane wants of a machine now; the whole wish, each time."""

    stop: Stop | None = None
    #: Someone reads the log as it is written until then: ship every second.
    followed_until: float = 0.0


@dataclass(frozen=True)
class Notice:
    """The cloud's own announcement that it takes a spot machine away."""

    #: When the machine goes.
    at: float
    #: When the agent read the notice.
    seen: float


@dataclass(frozen=True)
class Span:
    """When a step began and, once it has, when it ended, by the machine's clock."""

    began: float
    ended: float | None = None


@dataclass(frozen=True)
class Report:
    """A snapshot of a node's work: each report tells all, so a lost one costs nothing but time."""

    sequence: int
    at: float
    #: The random id of this agent process.
    process: str
    step: Step
    spans: Mapping[str, Span] = field(default_factory=dict)
    #: Log bytes by stream: written by the job, and acknowledged by the bucket.
    produced: Mapping[str, int] = field(default_factory=dict)
    shipped: Mapping[str, int] = field(default_factory=dict)
    notice: Notice | None = None
    #: When the cloud recommended to move elsewhere (EC2 User Guide, "Rebalance recommendations").
    rebalance_at: float | None = None
    #: The result is in the mailbox.
    finished: bool = False
    #: By what to know the machine, each `kind base64`; empty where nobody may enter it.
    host_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chunk:
    """One acknowledged piece of a stream."""

    offset: int
    length: int
    sha256: str


@dataclass(frozen=True)
class StreamEnd:
    """The EOF mark of a stream: its length, its checksum, and every chunk's."""

    length: int
    sha256: str
    chunks: tuple[Chunk, ...] = ()


@dataclass(frozen=True)
class Result:
    """What became of the work order; written once, and nothing follows it."""

    run: str
    attempt: int
    rank: int
    process: str
    outcome: Outcome
    #: The step that decided the outcome.
    step: Step
    #: The process's own exit code (128 + s when signal s ended it); None where no process ended.
    exit_code: int | None
    #: One line for a reader.
    reason: str
    at: float
    spans: Mapping[str, Span] = field(default_factory=dict)
    streams: Mapping[str, StreamEnd] = field(default_factory=dict)
    notice: Notice | None = None
    #: The host name that could not be resolved, if that ended the work; else empty.
    unresolved_host: str = ""
    #: None in results of older agents, which do not report it.
    signal_cause: SignalCause | None = None


@dataclass(frozen=True)
class Started:
    """Put just before the command executes, so that no second process ever executes it."""

    process: str
    at: float


def limit_of(name: str, seconds: float) -> str:
    """A limit as the recipe names it, and as a person writes how long it is: both sides say it in these words."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"limits.{name} of {seconds / size:.0f} {unit}"
    return f"limits.{name} of {seconds:g} s"
