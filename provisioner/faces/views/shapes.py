"""What `--json` prints and the HTTP API answers: each shape is a TypedDict; `shaped` fills them.

Times are ISO 8601 in UTC, durations seconds, money US dollars; null is unknown, or not yet. A field keeps its name and
meaning; new ones may come. The text beside a type is its description in OpenAPI.

Job      `apply`, `show`, `delete`; a list of them: `jobs`
Schedule `schedule` (all but job null or empty after `--disable`); a list of them, each with one time: `schedules`
Run      `start`, `wait` of one run, `apply --start`; a list of them: `runs`, `stop`, `wait` of several
Status   `status`
Top      `top`
Receipt  `receipt`
Log      a line each: `logs`
Ami      `ami bake`, `ami use` (null for `default`); a list of them: `ami list`
Token    `token revoke`; with `token`, the secret itself: `token create`; a list of them: `token list`
Audit    a list of them: `audit`

What only the command line prints:

ami delete: id
reap     [{id, over_by, error}]
takeover mailboxes: what became of each, as text
daemon   at, level (info, error), text or, where level is error, error; and, where they are known, run, job, owner,
         attempt, instance, launch, code (the cloud's own), traceback (of a fault of ours). A line each; the same
         lines are on standard error of `daemon` and `reap` where that is no terminal
rehearse run, receipt, objects {URL: {text} or {base64}} that were written, alive: machine ids, sandbox: what keeps
         jobs from this computer's files (folder, missing, unwanted, container, machine, words)
         with --serve: environment {NAME: VALUE}, sandbox
"""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from provisioner.core.cloud import machine_images, offers
from provisioner.core.cloud.machines import MachineState
from provisioner.core.protocol.messages import Outcome
from provisioner.core.recipe import jobs
from provisioner.core.run.states import State


class Job(TypedDict):
    """A stored recipe."""

    id: str
    owner: str
    name: str
    revision: int
    created_at: str
    applied_at: str
    recipe: Annotated[dict[str, Any], "Every default filled in."]
    apply_refuses: Annotated[
        list[str],
        "Why `apply` would refuse the stored recipe or schedule now: rules were added since. It keeps running.",
    ]


class Last(TypedDict):
    """The last time of a schedule."""

    at: str
    run: str | None
    outcome: Annotated[
        str | None, "Null while the run is not over; of a time without a run `skipped`, `missed` or `refused`."
    ]
    exit_code: int | None
    process_exit_code: int | None
    reason: str | None


class Schedule(TypedDict):
    """When a job starts by itself."""

    job: Annotated[str, "`owner/name`"]
    schedule: str | None
    timezone: str | None
    concurrency_policy: jobs.Concurrency | None
    schedule_catchup: jobs.Catchup | None
    last: Last | None
    next: list[str]


class Tried(TypedDict):
    """One answer that a waiting run got."""

    what: str
    code: str
    at: str


class Waiting(TypedDict):
    """Why a run waits."""

    cause: str
    text: str
    next_try_at: str
    tried: list[Tried]


class Stop(TypedDict):
    """That somebody or a limit wishes its end."""

    outcome: Outcome
    reason: str
    at: str


class Run(TypedDict):
    """One trigger of a job."""

    id: str
    job: str
    job_id: str
    job_revision: int
    owner: str
    idempotency_key: str | None
    state: State
    attempt: Annotated[int, "Of the latest that got a machine; 0 before the first."]
    retries_used: int
    outcome: Annotated[Outcome | None, "Null until it has ended."]
    exit_code: Annotated[int | None, "The process's own; null where none ended, and where it was interrupted."]
    process_exit_code: Annotated[int | None, "The process's own whatever the outcome; null where none ended."]
    reason: Annotated[str | None, "The outcome in one line."]
    stop: Stop | None
    waiting: Waiting | None
    created_at: str
    ended_at: str | None
    done_at: Annotated[str | None, "Since then no machine of it lives."]


class Attempt(TypedDict):
    """One try of a run on a machine of its own."""

    attempt: int
    rank: int
    instance_id: str
    step: str | None
    bytes_produced: Annotated[dict[str, int], "By stream."]
    bytes_shipped: Annotated[dict[str, int], "By stream."]
    heard_at: str | None
    notice_at: Annotated[str | None, "When the cloud said that it takes the machine away."]
    outcome: Outcome | None
    exit_code: int | None
    process_exit_code: int | None
    reason: str | None
    archived_at: str | None


class Price(TypedDict):
    """Dollars an hour; of a disk, a month."""

    dollars: float
    source: str
    at: str


class Machine(TypedDict):
    """A machine as the cloud describes it."""

    id: str
    type: str
    zone: str
    market: offers.Market
    state: MachineState
    launch_time: str | None
    ending_at: str | None
    ended_at: str | None
    end_wanted_for: str | None
    price: Price | None


class Event(TypedDict):
    """A line of a run's story."""

    at: str
    text: str


class Status(TypedDict):
    """A run and its story."""

    run: Run
    attempts: list[Attempt]
    machines: list[Machine]
    events: list[Event]


class Queue(TypedDict):
    """The runs that wait for the same cause."""

    cause: str
    runs: int
    next_try_at: str


class Live(TypedDict):
    """A run that is not done."""

    run: Run
    machine: Machine | None
    step: str | None
    heard_at: str | None
    silent_since: str | None
    notice_at: str | None
    bytes_produced: Annotated[dict[str, int], "By stream."]
    dollars_at_least: float | None
    dollars_at_most: float | None


class Top(TypedDict):
    """What is not over."""

    at: str
    states: Annotated[dict[str, int], "Runs by state."]
    machines: int
    dollars_an_hour: Annotated[float, "Of machines whose price is known."]
    unpriced: Annotated[int, "Machines whose price is not."]
    waiting: list[Queue]
    foreign: Annotated[list[str], "Machines of launches that this store never made."]
    hindrance: Annotated[str, "Why nothing is decided now, for example because the clock is wrong; else empty."]
    more: Annotated[int, "Runs that are not shown."]
    runs: list[Live]


class Server(TypedDict):
    """What the control plane says of itself."""

    at: Annotated[str, "Its clock, by which runs are timed."]
    served: Annotated[bool, "A daemon acts: the server itself, or another one on the same store."]
    unfinished: Annotated[bool, "A run of the caller's, or to an admin any machine or launch, is not over yet."]
    foreign: Annotated[list[str], "To an admin: machines of launches that this store never made."]
    hindrance: Annotated[str, "Why nothing is decided now, for example because the clock is wrong; else empty."]


class Phase(TypedDict):
    """A part of a run's time. Those that are not `beside` follow one another from created_at to the run's done_at."""

    name: Annotated[
        str,
        "queued, launching, pending, boot, pull, clone, setup, command, logs, ending (it has a result), silent (it has"
        " none), gone or closing",
    ]
    attempt: int
    rank: int
    beside: bool
    billed: bool
    began: str
    ended: str | None
    seconds: float | None
    source: str
    began_source: Annotated[str, "store, LaunchTime, listing, agent or transition reason"]
    began_error: Annotated[float, "The most seconds that the truth may be away."]
    ended_source: str | None
    ended_error: float | None


class Bill(TypedDict):
    """What one machine costs."""

    instance_id: str
    attempt: int
    rank: int
    instance_type: str
    zone: str
    market: str
    seconds_at_least: int
    seconds_at_most: int
    price: Price | None
    dollars_at_least: float | None
    dollars_at_most: float | None
    disk_gib: int | None
    disk_gib_seconds_at_least: int | None
    disk_gib_seconds_at_most: int | None
    disk_price: Price | None
    disk_dollars_at_least: float | None
    disk_dollars_at_most: float | None


class Receipt(TypedDict):
    """Where a run's time and money went."""

    run: str
    job: str
    owner: str
    outcome: Outcome | None
    exit_code: int | None
    process_exit_code: int | None
    provisional: Annotated[bool, "The run is not done."]
    created_at: str
    ended_at: str | None
    phases: list[Phase]
    machines: list[Bill]
    dollars_at_least: Annotated[float | None, "Of the machines, without their disks."]
    dollars_at_most: float | None
    disk_dollars_at_least: float | None
    disk_dollars_at_most: float | None
    advice: str | None


class Ami(TypedDict):
    """A machine image of the installation."""

    id: str
    name: str
    state: Annotated[machine_images.AmiState, "pending, available or failed"]
    reason: str | None
    created_at: str
    architecture: str
    disk_gib: int
    base: str
    agent: Annotated[str, "The sha256 of its archive."]
    agent_current: bool
    preloaded: Annotated[list[str], "name@digest"]
    in_use: bool


class Token(TypedDict):
    """An access token, without what lets anybody in."""

    id: str
    owners: list[str]
    role: Literal["admin", "user"]
    note: str
    state: Literal["valid", "expired", "revoked"]
    created_at: str
    created_by: Annotated[str, "A token's id, or `local:` and a Unix user."]
    expires_at: Annotated[str | None, "Null: never."]
    revoked_at: str | None


class Audit(TypedDict):
    """One change, stored with it."""

    id: str
    at: str
    who: Annotated[str, "A token's id, `local:` and a Unix user, or `schedule`."]
    source: Annotated[str, "The address that the call came from, or `local`."]
    what: Annotated[
        str,
        "apply, delete, schedule, unschedule, start, stop, takeover, create token, revoke token, bake AMI, use AMI or"
        " delete AMI",
    ]
    owner: Annotated[str | None, "Whose thing was changed; null: the installation's."]
    target: Annotated[str, "The job's name, or the id of the run, token or AMI."]


class Data(TypedDict):
    """Bytes: as text where they are UTF-8, and so that none is lost where they are not."""

    text: NotRequired[str]
    base64: NotRequired[str]


class Log(Data):
    """A piece of a stream, in `text` or `base64`; or, with `missing_at_least`, that bytes are nowhere."""

    attempt: int
    stream: str
    offset: int
    missing_at_least: NotRequired[Annotated[int | None, "From `offset` on; null where nobody knows how many."]]
