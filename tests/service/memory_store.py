"""The store as plain dictionaries, for the simulated worlds; it passes the contract suite of the real store."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeVar, cast

from provisioner.core.access.callers import Audit, Session, Token
from provisioner.core.access.owner_limits import UNLIMITED, OwnerLimits, Usage
from provisioner.core.commands.records import Batch, Block, CommandList, RecordChunk, Worker
from provisioner.core.commands.uploads import Upload
from provisioner.core.errors import Conflict, LeaseLost, LimitReached
from provisioner.core.history.runs import PastRun
from provisioner.core.not_found import no_upload
from provisioner.core.protocol.codec import encode
from provisioner.core.protocol.words import Outcome
from provisioner.core.recipe.jobs import KEPT_BYTES, KEPT_REVISIONS, Job, Revision
from provisioner.core.run.machines.costs import use_of
from provisioner.core.run.records import Drought, Event, KnownMachine, Launch, Live, Node, Record, Run, TemplateHealth
from provisioner.core.usage.amounts import SUMMED, Amounts, MachineUsage, PriceRange, keys_of, merged, prices_of
from provisioner.ports.ids import Ids
from provisioner.ports.store import NEWEST, JobFilter, Key, Lease, RunFilter, UsageFilter

R = TypeVar("R", bound=Record)


class MemoryStore:
    """provisioner.ports.store.Store for one process; `changes` counts every write."""

    def __init__(self, ids: Ids) -> None:
        self.store_id = ids.new()
        self._records: dict[type[Record], dict[str, Record]] = {}
        self._notes: dict[str, tuple[str, float]] = {}
        self._lease: Lease | None = None
        self._writes = 0
        #: The version of each machine whose usage was saved.
        self._accounted: dict[str, int] = {}
        #: Holders that were killed; they lose the lease at once.
        self.dead: set[str] = set()

    def close(self) -> None:
        pass

    def id(self) -> str:
        return self.store_id

    def acquire(self, holder: str, kind: str, now: float, seconds: float) -> Lease | None:
        held = self._lease
        if held and held.holder not in ("", holder) and held.expires_at > now and held.holder not in self.dead:
            self._lease = replace(held, expires_at=min(held.expires_at, now + seconds))
            return None
        self._lease = Lease((held.epoch if held else 0) + 1, holder, kind, now + seconds)
        return self._lease

    def renew(self, lease: Lease, now: float, seconds: float) -> Lease:
        self._prove(lease.epoch)
        self._lease = replace(lease, expires_at=now + seconds)
        return self._lease

    def release(self, lease: Lease) -> None:
        if self._lease and self._lease.epoch == lease.epoch:
            self._lease = replace(self._lease, holder="", expires_at=0.0)

    def lease(self) -> Lease | None:
        held = self._lease
        return None if held is None or not held.holder or held.holder in self.dead else held

    def _prove(self, epoch: int) -> None:
        if self._lease is None or self._lease.epoch != epoch or not self._lease.holder:
            raise LeaseLost("another process has taken over the control plane")

    def save(self, records: Sequence[R], *, epoch: int | None = None, limits: OwnerLimits = UNLIMITED) -> tuple[R, ...]:
        owners = {each.owner for each in records if isinstance(each, Job | Run | Upload)}
        before = {owner: self._usage(owner) for owner in owners}
        kept = {kind: dict(table) for kind, table in self._records.items()}
        stored = self._save(records, epoch)
        try:
            for owner in owners:
                limits.check(owner, before[owner], self._usage(owner))
        except LimitReached:
            self._records = kept
            raise
        return stored

    def _usage(self, owner: str) -> Usage:
        runs = self._where(Run, lambda run: run.owner == owner and run.done_at is None)
        jobs = self._where(Job, lambda job: job.owner == owner and job.deleted_at is None)
        using = {run.upload for run in runs}
        uploads = self._where(
            Upload, lambda each: each.owner == owner and (each.id in using or not self._uses(each.id))
        )
        size = sum(len(encode(each)) for each in (*runs, *jobs, *uploads)) + sum(each.size for each in uploads)
        return Usage(len(runs), size)

    def _uses(self, upload: str) -> bool:
        return bool(self._where(Run, lambda run: run.upload == upload))

    def _save(self, records: Sequence[R], epoch: int | None) -> tuple[R, ...]:
        if epoch is not None:
            self._prove(epoch)
        seen: dict[tuple[object, str], int] = {}
        for item in records:
            known = self._of(type(item)).get(item.id)
            version = seen.get((type(item), item.id), known.version if known else 0)
            if version != item.version or self._name_taken(item):
                raise Conflict(f"{type(item).__name__} {item.id} was changed by another process")
            seen[type(item), item.id] = item.version + 1
        stored = tuple(replace(item, version=item.version + 1) for item in records)
        for item in stored:
            self._of(type(item))[item.id] = item
            if isinstance(item, MachineUsage) and (machine := self._of(KnownMachine).get(item.id)):
                self._accounted[item.id] = machine.version
            self._trim(item)
        self._writes += 1
        return stored

    def lose(self, kind: type[Record], id: str) -> None:
        """Delete a record, as if it had not been stored."""
        del self._records[kind][id]

    def _trim(self, item: Record) -> None:
        gone = isinstance(item, Job) and item.deleted_at is not None
        for each in tuple(self._of(Revision).values()):
            old = isinstance(item, Revision) and each.job == item.job and each.number <= item.number - KEPT_REVISIONS
            if old or (gone and each.job == item.id):
                del self._records[Revision][each.id]
        if isinstance(item, Revision):
            every = self._where(Revision, lambda each: each.owner == item.owner)
            total = sum(len(encode(each)) for each in every)
            for each in every:
                if total > KEPT_BYTES:
                    total -= len(encode(each))
                    del self._records[Revision][each.id]

    def _name_taken(self, item: Record) -> bool:
        if not isinstance(item, Job) or item.deleted_at is not None:
            return False
        namesake = self.job(item.owner, item.name)
        return namesake is not None and namesake.id != item.id

    def _of(self, kind: type[R]) -> dict[str, R]:
        return cast(dict[str, R], self._records.setdefault(cast(type[Record], kind), {}))

    def _where(self, kind: type[R], fits: Callable[[R], bool]) -> tuple[R, ...]:
        return tuple(each for each in self._of(kind).values() if fits(each))

    def changes(self) -> int:
        return self._writes

    def live(self) -> Live:
        runs = self._where(Run, lambda run: run.done_at is None)
        unfinished = {run.id for run in runs}
        return Live(
            runs=tuple(sorted(runs, key=lambda run: run.created_at)),
            nodes=self._where(Node, lambda node: node.run in unfinished),
            launches=self._where(Launch, lambda launch: launch.closed_at is None),
            machines=self._where(KnownMachine, lambda machine: machine.ended_at is None),
            droughts=tuple(self._of(Drought).values()),
            templates=tuple(self._of(TemplateHealth).values()),
            lists=self._where(CommandList, lambda each: each.id in unfinished),
            workers=self._where(Worker, lambda worker: worker.run in unfinished),
            batches=self._where(Batch, lambda batch: batch.closed_at is None),
        )

    def job(self, owner: str, name: str) -> Job | None:
        found = self._where(Job, lambda job: (job.owner, job.name, job.deleted_at) == (owner, name, None))
        return found[0] if found else None

    def job_by_id(self, id: str) -> Job | None:
        found = self._of(Job).get(id)
        return found if found and found.deleted_at is None else None

    def jobs(self, owners: Collection[str] | None = None) -> tuple[Job, ...]:
        found = self._where(Job, lambda job: job.deleted_at is None and (owners is None or job.owner in owners))
        return tuple(sorted(found, key=lambda job: (job.owner, job.name)))

    def jobs_page(self, which: JobFilter) -> tuple[Job, ...]:
        wanted = which.search.lower()
        found = [job for job in self.jobs(which.owners) if wanted in f"{job.owner}/{job.name}".lower()]
        after = [job for job in found if which.after is None or (job.owner, job.name) > which.after]
        return tuple(after[: which.limit])

    def revision(self, job: str, number: int) -> Revision | None:
        return next(iter(self._where(Revision, lambda each: (each.job, each.number) == (job, number))), None)

    def revisions(self, job: str, before: int | None, limit: int) -> tuple[Revision, ...]:
        found = self._where(Revision, lambda each: each.job == job and (before is None or each.number < before))
        return tuple(sorted(found, key=lambda each: each.number, reverse=True)[:limit])

    def past_runs(self, jobs: Collection[str], count: int) -> tuple[PastRun, ...]:
        return tuple(self._past(run) for job in jobs for run in self.runs(RunFilter(job_id=job, limit=count)))

    def _past(self, run: Run) -> PastRun:
        bound = [node.bound_at for node in self.nodes(run.id) if node.attempt == 1]
        return PastRun(
            id=run.id,
            job_id=run.job_id,
            job_revision=run.job_revision,
            state=run.state,
            outcome=run.verdict.outcome if run.verdict and run.ended_at is not None else None,
            created_at=run.created_at,
            began_at=min(bound, default=None),
            ended_at=run.ended_at,
            dollars_at_least=run.dollars_at_least,
            dollars_at_most=run.dollars_at_most,
        )

    def scheduled(self, owners: Collection[str] | None = None) -> tuple[Job, ...]:
        return tuple(job for job in self.jobs(owners) if job.schedule)

    def run(self, id: str) -> Run | None:
        return self._of(Run).get(id)

    def runs_like(self, prefix: str, owners: Collection[str] | None = None) -> tuple[Run, ...]:
        found = self._where(Run, lambda run: run.id.startswith(prefix) and (owners is None or run.owner in owners))
        return tuple(sorted(found, key=lambda run: run.id)[:3])

    def outcomes(self) -> Mapping[Outcome, int]:
        ended = self._where(Run, lambda run: run.ended_at is not None)
        return Counter(run.verdict.outcome for run in ended if run.verdict)

    def runs(self, which: RunFilter = NEWEST) -> tuple[Run, ...]:
        def fits(run: Run) -> bool:
            outcome = run.verdict.outcome if run.verdict and run.ended_at is not None else None
            return (
                (not which.ids or run.id in which.ids)
                and which.job in ("", run.job_name)
                and which.job_id in ("", run.job_id)
                and (which.owners is None or run.owner in which.owners)
                and (not which.states or run.state in which.states)
                and (not which.outcomes or outcome in which.outcomes)
                and (which.after is None or (run.created_at, run.id) < which.after)
            )

        found = self._where(Run, fits)
        return tuple(sorted(found, key=lambda run: (run.created_at, run.id), reverse=True)[: which.limit])

    def add_run(self, run: Run, since: float, also: Sequence[Record] = (), limits: OwnerLimits = UNLIMITED) -> Run:
        def same(known: Run) -> bool:
            return (known.job_id, known.idempotency_key) == (run.job_id, run.idempotency_key)

        found = self._where(Run, lambda known: same(known) and known.created_at > since)
        if run.idempotency_key and found:
            return found[0]
        upload = self.upload(run.upload)
        if run.upload and (upload is None or upload.owner != run.owner):
            raise no_upload(run.upload)
        return cast(Run, self.save([run, *also], limits=limits)[0])

    def nodes(self, *runs: str) -> tuple[Node, ...]:
        found = self._where(Node, lambda node: node.run in runs)
        return tuple(sorted(found, key=lambda node: (node.run, node.attempt, node.rank)))

    def machines(self, ids: Collection[str]) -> tuple[KnownMachine, ...]:
        return self._where(KnownMachine, lambda machine: machine.id in ids)

    def spent(self, begins: float, ends: float) -> float:
        ended = self._where(KnownMachine, lambda machine: machine.ended_at is not None)
        return sum(use_of(each, ends).since(begins).until(ends).dollars for each in ended)

    def usage(self, which: UsageFilter, by: Sequence[str], most: int) -> Mapping[tuple[str, ...], Amounts]:
        found: dict[tuple[str, ...], Amounts] = {}
        for item in self._of(MachineUsage).values():
            for key, amounts in keys_of(item):
                told = dict(zip(SUMMED, key, strict=True))
                if which.first <= int(told["day"]) <= which.last and self._chosen(which, item):
                    group = tuple(told[name] for name in by)
                    found[group] = found.get(group, Amounts()) + amounts
        return dict(islice(found.items(), most + 1))

    def _chosen(self, which: UsageFilter, item: MachineUsage) -> bool:
        return which.owners is None or item.owner in which.owners

    def prices_used(self, which: UsageFilter) -> tuple[PriceRange, ...]:
        items = [each for each in self._of(MachineUsage).values() if self._chosen(which, each)]
        days = range(which.first, which.last + 1)
        return merged(
            price for each in items if any(part.day in days for part in each.parts) for price in prices_of(each)
        )

    def usages(self, ids: Collection[str]) -> tuple[MachineUsage, ...]:
        return self._where(MachineUsage, lambda item: item.id in ids)

    def unaccounted(self, limit: int, but: Collection[str] = ()) -> tuple[str, ...]:
        done = self._accounted
        ended = self._where(KnownMachine, lambda each: each.ended_at is not None and each.id not in but)
        return tuple(each.id for each in ended if done.get(each.id) != each.version)[:limit]

    def launch(self, id: str) -> Launch | None:
        return self._of(Launch).get(id)

    def events(self, run: str) -> tuple[Event, ...]:
        return tuple(sorted(self._where(Event, lambda event: event.run == run), key=lambda event: event.at))

    def command_list(self, run: str) -> CommandList | None:
        return self._of(CommandList).get(run)

    def workers(self, run: str) -> tuple[Worker, ...]:
        found = self._where(Worker, lambda worker: worker.run == run)
        return tuple(sorted(found, key=lambda worker: (worker.attempt, worker.rank)))

    def blocks(self, run: str, numbers: Collection[int]) -> tuple[Block, ...]:
        found = self._where(Block, lambda block: block.run == run and block.number in numbers)
        return tuple(sorted(found, key=lambda block: block.number))

    def waiting_blocks(self, run: str, limit: int) -> tuple[Block, ...]:
        found = self._where(Block, lambda block: block.run == run and block.waiting > 0)
        return tuple(sorted(found, key=lambda block: block.number)[:limit])

    def record_chunks(self, run: str, first: int, last: int) -> tuple[RecordChunk, ...]:
        found = self._where(RecordChunk, lambda each: each.run == run and each.first <= last and each.last >= first)
        return tuple(sorted(found, key=lambda each: (each.attempt, each.rank, each.offset)))

    def upload(self, id: str) -> Upload | None:
        return self._of(Upload).get(id)

    def unused_uploads(self, before: float, limit: int) -> tuple[Upload, ...]:
        found = self._where(Upload, lambda each: each.created_at < before and not self._uses(each.id))
        return tuple(sorted(found, key=lambda each: each.created_at)[:limit])

    def drop_upload(self, id: str) -> bool:
        if id not in self._of(Upload) or self._uses(id):
            return False
        del self._of(Upload)[id]
        self._writes += 1
        return True

    def token(self, id: str) -> Token | None:
        return self._of(Token).get(id)

    def tokens(self) -> tuple[Token, ...]:
        return tuple(sorted(self._of(Token).values(), key=lambda token: (token.created_at, token.id), reverse=True))

    def session(self, id: str) -> Session | None:
        return self._of(Session).get(id)

    def drop_sessions(self, before: float, id: str = "") -> None:
        table = self._of(Session)
        for each in [each for each in table.values() if each.expires_at < before or each.id == id]:
            del self._records[Session][each.id]

    def audit(self, limit: int, before: Key | None = None) -> tuple[Audit, ...]:
        found = self._where(Audit, lambda audit: before is None or (audit.at, audit.id) < before)
        return tuple(sorted(found, key=lambda audit: (audit.at, audit.id), reverse=True)[:limit])

    def remembered(self, key: str) -> tuple[str, float] | None:
        return self._notes.get(key)

    def chosen(self, what: str) -> str:
        return self._notes.get(f"chosen {what}", ("", 0.0))[0]

    def choose(self, what: str, value: str, also: Sequence[Record] = ()) -> None:
        self.save(also)
        self.remember(f"chosen {what}", value, 0.0)

    def remember(self, key: str, value: str, now: float) -> None:
        self._notes[key] = (value, now)
        self._writes += 1
