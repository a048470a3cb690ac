"""The contract for the store of an installation's records.

Writes are versioned: if the stored version of a record differs from the one that was read, `save` raises `Conflict` and
writes nothing. With an `epoch`, `save` checks in the same transaction that the lease is held under this epoch, and
raises `LeaseLost` otherwise. Saved records survive a power failure. `Transient` means that the store cannot be written
now, for example because the disk is full, and that nothing was written.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from provisioner.core.access.callers import Audit, Session, Token
from provisioner.core.access.owner_limits import UNLIMITED, OwnerLimits
from provisioner.core.commands.records import Block, CommandList, RecordChunk, Worker
from provisioner.core.commands.uploads import Upload
from provisioner.core.history.runs import PastRun
from provisioner.core.protocol.words import Outcome
from provisioner.core.recipe.jobs import Job, Revision
from provisioner.core.run.records import Event, KnownMachine, Launch, Live, Node, Record, Run
from provisioner.core.run.states import State
from provisioner.core.usage.amounts import Amounts, MachineUsage, PriceRange

R = TypeVar("R", bound=Record)

#: The end of a page: the time and the id of its last record.
Key = tuple[float, str]


@dataclass(frozen=True)
class RunFilter:
    """Conditions that select the runs of a page, the newest first."""

    #: The job's name; empty: any.
    job: str = ""
    job_id: str = ""
    #: None: all owners.
    owners: tuple[str, ...] | None = None
    #: Empty: any state.
    states: tuple[State, ...] = ()
    #: Outcomes of runs that have ended; empty: all runs, also those that have not ended.
    outcomes: tuple[Outcome, ...] = ()
    #: `(created_at, id)` of the last run of the previous page.
    after: Key | None = None
    limit: int = 50
    #: Complete ids; empty: any.
    ids: tuple[str, ...] = ()

    def query(self) -> list[tuple[str, str]]:
        """Return the filter as query parameters of `GET /api/runs`, without the page's `cursor` and `limit`."""
        job = self.job or self.job_id
        return [
            *([("job", job)] if job else []),
            *(("owner", owner) for owner in self.owners or ()),
            *(("state", state) for state in self.states),
            *(("outcome", outcome) for outcome in self.outcomes),
            *(("id", id) for id in self.ids),
        ]


NEWEST = RunFilter()


@dataclass(frozen=True)
class UsageFilter:
    """Conditions that select usage: UTC days as numbers of days since 1970, both included, and owners."""

    first: int
    last: int
    #: None: all owners, and machines that worked for no run, whose owner is "".
    owners: tuple[str, ...] | None = None


@dataclass(frozen=True)
class JobFilter:
    """Conditions that select the jobs of a page, sorted by owner and name."""

    #: None: all owners.
    owners: tuple[str, ...] | None = None
    #: Text that `owner/name` contains, in any case; empty: any job.
    search: str = ""
    #: Owner and name of the last job of the previous page.
    after: tuple[str, str] | None = None
    limit: int = 50


@dataclass(frozen=True)
class Lease:
    """The right of one process to make passes. It expires at `expires_at` if it is not renewed."""

    epoch: int
    holder: str
    #: A `daemon` makes passes all the time, a `command` only while it runs.
    kind: str
    expires_at: float


class Store(Protocol):
    def close(self) -> None:
        """Release files and locks; no other method may be called afterwards."""

    def id(self) -> str:
        """Return the store's own id, which it got when it was first opened."""

    def acquire(self, holder: str, kind: str, now: float, seconds: float) -> Lease | None:
        """Return the lease, with a new epoch, for `seconds` from now; None if another process holds it."""

    def renew(self, lease: Lease, now: float, seconds: float) -> Lease:
        """Return the lease, extended to `now` + `seconds`; raises LeaseLost if another process has taken it."""

    def release(self, lease: Lease) -> None:
        """Release the lease, so that another process can acquire it at once; a lost lease is no error."""

    def lease(self) -> Lease | None:
        """Return the stored lease, expired or not; None if there is none or its holder is known to be dead."""

    def save(self, records: Sequence[R], *, epoch: int | None = None, limits: OwnerLimits = UNLIMITED) -> tuple[R, ...]:
        """Write all records or none; return them as stored, with their new versions.

        Of revisions, only the last KEPT_REVISIONS of a job and about KEPT_BYTES of an owner are kept, and none of a
        deleted job. Raises LimitReached if an owner of the jobs, runs and uploads would then exceed `limits`.
        """

    def changes(self) -> int:
        """Return a number that changes when another process writes; the call takes almost no time."""

    def live(self) -> Live:
        """Return a consistent snapshot of all unfinished records."""

    def job(self, owner: str, name: str) -> Job | None:
        """Return the owner's job of that name; None if there is none or it is deleted."""

    def job_by_id(self, id: str) -> Job | None:
        """Return the job of that id; None if there is none or it is deleted."""

    def jobs(self, owners: Collection[str] | None = None) -> tuple[Job, ...]:
        """Return the jobs that are not deleted, of these owners or (None) of all, sorted by owner and name."""

    def jobs_page(self, which: JobFilter) -> tuple[Job, ...]:
        """Return the selected jobs that are not deleted, sorted by owner and name."""

    def revision(self, job: str, number: int) -> Revision | None:
        """Return a revision of the job of that id; None if it is not stored."""

    def revisions(self, job: str, before: int | None, limit: int) -> tuple[Revision, ...]:
        """Return at most `limit` stored revisions of a job, the latest first; only numbers below `before`, if set."""

    def past_runs(self, jobs: Collection[str], count: int) -> tuple[PastRun, ...]:
        """Return the last `count` runs of each of these jobs, given by id; the runs of a job are the newest first.

        The recipes of the runs are not decoded.
        """

    def scheduled(self, owners: Collection[str] | None = None) -> tuple[Job, ...]:
        """Return the jobs that have a schedule and are not deleted, of these owners or (None) of all."""

    def run(self, id: str) -> Run | None:
        """Return the run of that id, or None."""

    def runs_like(self, prefix: str, owners: Collection[str] | None = None) -> tuple[Run, ...]:
        """Return at most three runs of these owners whose id begins with `prefix`: enough to detect an ambiguity."""

    def runs(self, which: RunFilter = NEWEST) -> tuple[Run, ...]:
        """Return the selected runs, the newest first."""

    def outcomes(self) -> Mapping[Outcome, int]:
        """Return the number of ended runs by outcome."""

    def add_run(self, run: Run, since: float, also: Sequence[Record] = (), limits: OwnerLimits = UNLIMITED) -> Run:
        """Store and return a new run with the records in `also`, or return the job's run of the same idempotency key.

        If such a run was created after `since`, nothing is stored; an older run does not count. Raises LimitReached if
        the run's owner would exceed `limits`; concurrent starts cannot exceed them either. Raises NotFound if the run's
        upload is not stored, or has another owner.
        """

    def nodes(self, *runs: str) -> tuple[Node, ...]:
        """Return all nodes of these runs, sorted by run, attempt and rank."""

    def machines(self, ids: Collection[str]) -> tuple[KnownMachine, ...]:
        """Return the stored machines that have one of these ids."""

    def spent(self, begins: float, ends: float) -> float:
        """Return the US dollars that machines which have ended cost between two Unix times, as far as prices are known.

        The same rules as in `use_of` apply.
        """

    def usage(self, which: UsageFilter, by: Sequence[str], most: int) -> Mapping[tuple[str, ...], Amounts]:
        """Return the sums of the stored usage by the values of these dimensions of SUMMED, in their order.

        Of more than `most` groups, returns some `most` + 1.
        """

    def prices_used(self, which: UsageFilter) -> tuple[PriceRange, ...]:
        """Return the known prices of the stored usage, one range for each type, market and source, in order."""

    def usages(self, ids: Collection[str]) -> tuple[MachineUsage, ...]:
        """Return the stored usage of the machines that have one of these ids.

        A saved MachineUsage replaces the stored one of its machine in all sums.
        """

    def unaccounted(self, limit: int, but: Collection[str] = ()) -> tuple[str, ...]:
        """Return the ids of at most `limit` machines that have ended and whose usage was not saved since, but `but`."""

    def launch(self, id: str) -> Launch | None:
        """Return the launch of that id, open or closed; None if this store did not make it."""

    def events(self, run: str) -> tuple[Event, ...]:
        """Return the events of the run's story, the oldest first."""

    def command_list(self, run: str) -> CommandList | None:
        """Return the list of the run's commands; None if it has a single command."""

    def workers(self, run: str) -> tuple[Worker, ...]:
        """Return all workers of the run's list, sorted by attempt and rank."""

    def blocks(self, run: str, numbers: Collection[int]) -> tuple[Block, ...]:
        """Return those of these blocks of the run's list that are stored, sorted by number."""

    def waiting_blocks(self, run: str, limit: int) -> tuple[Block, ...]:
        """Return at most `limit` blocks with commands that are handed out again, sorted by number."""

    def record_chunks(self, run: str, first: int, last: int) -> tuple[RecordChunk, ...]:
        """Return the chunks that may have a command from `first` to `last`, by attempt, rank and offset."""

    def upload(self, id: str) -> Upload | None:
        """Return the upload of that id, or None."""

    def unused_uploads(self, before: float, limit: int) -> tuple[Upload, ...]:
        """Return at most `limit` uploads that were made before this time and that no run uses, the oldest first."""

    def drop_upload(self, id: str) -> bool:
        """Delete the record of an upload that no run uses; return False if a run uses it, or it is not stored.

        `add_run` and this method exclude each other: no run is stored without its upload.
        """

    def token(self, id: str) -> Token | None:
        """Return the access token of that id, or None; takes microseconds."""

    def tokens(self) -> tuple[Token, ...]:
        """Return all access tokens, the newest first."""

    def session(self, id: str) -> Session | None:
        """Return the page's login of that id, or None; takes microseconds."""

    def drop_sessions(self, before: float, id: str = "") -> None:
        """Delete the logins that expire before this time, and the login of that id."""

    def audit(self, limit: int, before: Key | None = None) -> tuple[Audit, ...]:
        """Return at most `limit` audit records, the newest first; only those older than `before`, if it is set."""

    def remembered(self, key: str) -> tuple[str, float] | None:
        """Return a value that `remember` cached, and the Unix time at which it was stored; or None."""

    def chosen(self, what: str) -> str:
        """Return the operator's choice for `what`, or "". Every process sees a change at once."""

    def choose(self, what: str, value: str, also: Sequence[Record] = ()) -> None:
        """Store `value` as the choice for `what`, together with the records in `also`; "" removes the choice."""

    def remember(self, key: str, value: str, now: float) -> None:
        """Cache a value that can be obtained again. The cache only saves time, and never has the only copy."""
