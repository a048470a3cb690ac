"""What the control plane and the agent say to each other, and under which keys of the bucket.

The agent ships alone and must import on Python 3.10, so this module is standard library only.
Times are Unix seconds as floats, durations are seconds, sizes are bytes.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from provisioner.core.errors import Invalid

T = TypeVar("T")

STREAMS = ("system", "setup", "output")
#: What JSON's numbers hold exactly (RFC 8259, section 6); larger ones would only overflow what is made of them.
LARGEST_NUMBER = 2**53


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


def mailbox(role_id: str, instance_id: str) -> str:
    """The machine's name in the bucket: its `aws:userid` (IAM User Guide, "Policy variables")."""
    return f"{role_id}:{instance_id}"


def container_name(run: str, attempt: int, rank: int) -> str:
    """What the engine calls the job's container."""
    return f"provision-{run}-{attempt}-{rank}"


def work_key(box: str) -> str:
    return f"machines/{box}/work"


def orders_key(box: str) -> str:
    return f"machines/{box}/orders"


def started_key(box: str) -> str:
    return f"machines/{box}/started"


def result_key(box: str) -> str:
    return f"machines/{box}/result"


def log_prefix(box: str, stream: str) -> str:
    return f"machines/{box}/log/{stream}/"


def chunk_key(box: str, stream: str, offset: int) -> str:
    """The key of the chunk that begins at `offset`; keys of a stream sort as its bytes do."""
    return f"{log_prefix(box, stream)}{offset:015d}"


def report_key(box: str, sequence: int) -> str:
    return f"inbox/{box}/{sequence:010d}"


def agent_key(sha256: str) -> str:
    return f"agent/{sha256}.zip"


def limit_of(name: str, seconds: float) -> str:
    """A limit as the recipe names it, and as a person writes how long it is: both sides say it in these words."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"limits.{name} of {seconds / size:.0f} {unit}"
    return f"limits.{name} of {seconds:g} s"


def encode(message: object) -> bytes:
    """Any message or record, or a tuple of them, as JSON bytes, keys sorted: equal messages are equal bytes."""
    return json.dumps(message, default=_plain, sort_keys=True).encode()


def _plain(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else vars(value)


def decode(kind: type[T], data: bytes) -> T:
    """The message in `data`; fields this version does not know are passed over.

    Raises Invalid when a field is missing or of another shape: the sender is untrusted.
    """
    try:
        return typing.cast(T, _build(kind, json.loads(data, parse_constant=_no_number)))
    except (ValueError, TypeError, RecursionError) as error:
        raise Invalid(f"not a {kind.__name__}: {error}") from error


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


@functools.cache
def _fields(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _build(kind: Any, value: Any) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _build_one([arg for arg in args if arg is not type(None)], value)
    if origin is tuple:
        items = _typed(list, value)
        if args[-1] is not Ellipsis:
            return tuple(_build(arg, item) for arg, item in zip(args, items, strict=True))
        return tuple(_build(args[0], item) for item in items)
    if origin is Mapping:
        pairs = _typed(dict, value).items()
        # Most keys are text already.
        return {key if args[0] is str else _build(args[0], key): _build(args[1], item) for key, item in pairs}
    if dataclasses.is_dataclass(kind):
        make: Any = kind
        fields, value = _fields(make), _typed(dict, value)
        return make(**{name: _build(hint, value[name]) for name, hint in fields.items() if name in value})
    if kind in (int, float):
        number = value if kind is float and type(value) is int else _typed(kind, value)
        if not abs(number) <= LARGEST_NUMBER:
            raise ValueError("a number that large means nothing here")
        return kind(number)
    if kind is bytes:
        return base64.b64decode(_typed(str, value), validate=True)
    return kind(value) if issubclass(kind, Enum) else _typed(kind, value)


def _build_one(kinds: list[Any], value: Any) -> Any:
    """As the first kind that it fits, or nothing as nothing."""
    if value is None:
        return None
    for kind in kinds[:-1]:
        try:
            return _build(kind, value)
        except (ValueError, TypeError):
            continue
    return _build(kinds[-1], value)


def _typed(kind: Any, value: Any) -> Any:
    # Not isinstance: JSON's true is no number.
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, got {value!r:.80}")
    return value
