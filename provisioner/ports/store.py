"""The contract with the memory of the installation.

Writes are versioned: a record whose stored version is not the one it was read at raises `Conflict`
and nothing of that `save` is written. With an `epoch`, `save` also proves in the same transaction
that the lease is still held under it, else `LeaseLost`. What is saved survives a power cut. `Transient`: nothing can be
written now, for want of space say, and nothing of it was.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from provisioner.core.access.callers import Audit, Token
from provisioner.core.access.owner_limits import UNLIMITED, OwnerLimits
from provisioner.core.protocol.messages import Outcome
from provisioner.core.recipe.jobs import Job
from provisioner.core.run.records import Event, KnownMachine, Launch, Live, Node, Record, Run
from provisioner.core.run.states import State

R = TypeVar("R", bound=Record)

#: Where a page ended: the time and the id of its last record.
Key = tuple[float, str]


@dataclass(frozen=True)
class RunFilter:
    """Which runs a page of them shows, the newest first."""

    #: Of jobs of this name.
    job: str = ""
    job_id: str = ""
    #: None: everybody's.
    owners: tuple[str, ...] | None = None
    #: Empty: in any.
    states: tuple[State, ...] = ()
    #: Of runs that have ended; empty: any, or none yet.
    outcomes: tuple[Outcome, ...] = ()
    #: `(created_at, id)` of the run that the page before ended with.
    after: Key | None = None
    limit: int = 50
    #: Of these whole ids; empty: of any.
    ids: tuple[str, ...] = ()


NEWEST = RunFilter()


@dataclass(frozen=True)
class Lease:
    """Who may act, under which epoch, and until when unless renewed."""

    epoch: int
    holder: str
    #: `daemon` promises to keep acting; a `command` only while it runs.
    kind: str
    expires_at: float


class Store(Protocol):
    def close(self) -> None:
        """Give up what is held; nothing else may be called afterwards."""

    def id(self) -> str:
        """This store's own id, given when it was first opened."""

    def acquire(self, holder: str, kind: str, now: float, seconds: float) -> Lease | None:
        """The lease under a new epoch, or None while another holds it."""

    def renew(self, lease: Lease, now: float, seconds: float) -> Lease:
        """The same lease, longer; raises LeaseLost when another took it."""

    def release(self, lease: Lease) -> None:
        """Let others act at once; no error when it is lost already."""

    def lease(self) -> Lease | None:
        """The lease as it stands, expired or not; None when its holder is known to be dead."""

    def save(self, records: Sequence[R], *, epoch: int | None = None, limits: OwnerLimits = UNLIMITED) -> tuple[R, ...]:
        """Write all records or none; return them as stored, with their new versions.

        Raises LimitReached if an owner of the jobs and runs would then exceed `limits`.
        """

    def changes(self) -> int:
        """A number that differs once another process has written since the last call; costs next to nothing."""

    def live(self) -> Live:
        """One consistent look at what is not over."""

    def job(self, owner: str, name: str) -> Job | None:
        """The job of that name that is not deleted."""

    def job_by_id(self, id: str) -> Job | None:
        """The job of that id, if it is not deleted."""

    def jobs(self, owners: Collection[str] | None = None) -> tuple[Job, ...]:
        """Those not deleted, by owner and name; everybody's, or these owners'."""

    def scheduled(self, owners: Collection[str] | None = None) -> tuple[Job, ...]:
        """Those of them that have a schedule."""

    def run(self, id: str) -> Run | None:
        """The run of that id."""

    def runs_like(self, prefix: str, owners: Collection[str] | None = None) -> tuple[Run, ...]:
        """Runs, of these owners alone, whose id begins with `prefix`; at most three, enough to tell one from many."""

    def runs(self, which: RunFilter = NEWEST) -> tuple[Run, ...]:
        """The newest runs first."""

    def outcomes(self) -> Mapping[Outcome, int]:
        """How many runs have ended with each."""

    def add_run(self, run: Run, since: float, also: Sequence[Record] = (), limits: OwnerLimits = UNLIMITED) -> Run:
        """Store a new run and what is new beside it, or give the job's run of the same idempotency key.

        That one was created after `since`; then nothing is stored. Raises LimitReached if the run's owner would then
        exceed `limits`; concurrent starts cannot exceed them either.
        """

    def nodes(self, *runs: str) -> tuple[Node, ...]:
        """All nodes of these runs, by run, attempt and rank."""

    def machines(self, ids: Collection[str]) -> tuple[KnownMachine, ...]:
        """Those of these ids that are known."""

    def launch(self, id: str) -> Launch | None:
        """The launch of that id, open or closed: is a machine's launch one of ours?"""

    def events(self, run: str) -> tuple[Event, ...]:
        """The run's story, oldest first."""

    def token(self, id: str) -> Token | None:
        """The access token of that id; costs microseconds."""

    def tokens(self) -> tuple[Token, ...]:
        """The newest first."""

    def audit(self, limit: int, before: Key | None = None) -> tuple[Audit, ...]:
        """The newest changes first, of those older than `before`."""

    def remembered(self, key: str) -> tuple[str, float] | None:
        """A cached value and when it was stored (see `remember`)."""

    def chosen(self, what: str) -> str:
        """What an operator has chosen, or empty: the truth, seen by every process at once."""

    def choose(self, what: str, value: str, also: Sequence[Record] = ()) -> None:
        """Let it be `value` from now on, and store what is new beside it; empty takes the choice back."""

    def remember(self, key: str, value: str, now: float) -> None:
        """Keep a value that can be had again from elsewhere: never truth, only speed."""
