"""Define the tables: each row has a whole record as JSON, and the columns that queries use."""

from collections.abc import Mapping
from typing import Any, ClassVar

from sqlmodel import Field, Index, SQLModel, text

from provisioner.core.access import callers
from provisioner.core.commands import records as lists
from provisioner.core.commands import uploads
from provisioner.core.recipe import jobs
from provisioner.core.run import records
from provisioner.core.run.machines.costs import use_of
from provisioner.core.usage import amounts

#: The id of the newest migration. Alembic is imported only if the store lacks this migration.
HEAD = "0009"


class Document(SQLModel):
    id: str = Field(primary_key=True)
    version: int
    body: str


class JobRow(Document, table=True):
    __tablename__: ClassVar[str] = "job"
    owner: str
    name: str
    deleted: bool
    #: Whether the job has a schedule and is not deleted.
    scheduled: bool
    #: Bytes of the body.
    size: int
    __table_args__ = (
        # The bytes of an owner's jobs are summed from this index without reading the rows.
        Index("job_size", "owner", "size", sqlite_where=text("deleted = 0")),
        Index("job_name", "owner", "name", unique=True),
        Index("job_scheduled", "owner", "name", sqlite_where=text("scheduled = 1")),
    )


class RunRow(Document, table=True):
    __tablename__: ClassVar[str] = "run"
    job_id: str
    job_name: str
    key: str
    created_at: float
    done: bool = Field(index=True)
    owner: str
    state: str
    #: Empty until the run has ended.
    outcome: str
    #: Bytes of the body.
    size: int
    upload: str = Field(default="", sa_column_kwargs={"server_default": ""})
    __table_args__ = (
        # The uploads of an owner's unfinished runs are found in this index.
        Index("run_upload", "owner", "upload", sqlite_where=text("done = 0 AND upload <> ''")),
        # An owner's unfinished runs are counted and summed from this index, however many runs have ended.
        Index("run_size", "owner", "size", sqlite_where=text("done = 0")),
        # This index has the columns of all filters, so only the records of the wanted page are read.
        Index("run_page", "created_at", "id", "owner", "job_name", "job_id", "state", "outcome"),
        # For pages of one job's runs, however many runs other jobs have.
        Index("run_job", "job_id", "created_at", "id", "owner", "state", "outcome"),
        Index("run_key", "job_id", "key", "created_at", sqlite_where=text("key <> ''")),
    )


#: The column by which each field of a RunFilter selects runs.
FILTERED: Mapping[str, Any] = {
    "job": RunRow.job_name,
    "job_id": RunRow.job_id,
    "ids": RunRow.id,
    "states": RunRow.state,
    "outcomes": RunRow.outcome,
}


class NodeRow(Document, table=True):
    __tablename__: ClassVar[str] = "node"
    run: str = Field(index=True)
    attempt: int
    rank: int


class MachineRow(Document, table=True):
    __tablename__: ClassVar[str] = "machine"
    ended: bool = Field(index=True)
    #: The time for which a machine that has ended counts, and US dollars of an hour; 0 while it has not ended.
    used_from: float = Field(default=0.0, sa_column_kwargs={"server_default": "0"})
    used_until: float = Field(default=0.0, sa_column_kwargs={"server_default": "0"})
    hourly: float = Field(default=0.0, sa_column_kwargs={"server_default": "0"})
    #: Whether the usage of the machine as it is was saved, after it had ended.
    accounted: bool = Field(default=False, sa_column_kwargs={"server_default": "0"})
    __table_args__ = (
        # The cost of a day is summed from this index, however many machines ended earlier.
        Index("machine_used", "used_until", "used_from", "hourly", sqlite_where=text("ended = 1")),
        Index("machine_unaccounted", "id", sqlite_where=text("ended = 1 AND accounted = 0")),
    )


class LaunchRow(Document, table=True):
    __tablename__: ClassVar[str] = "launch"
    closed: bool = Field(index=True)


class DroughtRow(Document, table=True):
    __tablename__: ClassVar[str] = "drought"


class TemplateHealthRow(Document, table=True):
    __tablename__: ClassVar[str] = "template_health"


class EventRow(Document, table=True):
    __tablename__: ClassVar[str] = "event"
    run: str = Field(index=True)
    at: float


class TokenRow(Document, table=True):
    __tablename__: ClassVar[str] = "token"
    created_at: float


class SessionRow(Document, table=True):
    __tablename__: ClassVar[str] = "session"
    expires_at: float = Field(index=True)


class RevisionRow(Document, table=True):
    __tablename__: ClassVar[str] = "revision"
    job: str
    number: int
    owner: str
    #: Bytes of the body.
    size: int
    __table_args__ = (
        Index("revision_job", "job", "number"),
        # The bytes of an owner's revisions are summed from this index.
        Index("revision_size", "owner", "size"),
    )


class AuditRow(Document, table=True):
    __tablename__: ClassVar[str] = "audit"
    at: float
    __table_args__ = (Index("audit_page", "at", "id"),)


class CommandListRow(Document, table=True):
    #: The row's id is the run's.
    __tablename__: ClassVar[str] = "command_list"


class WorkerRow(Document, table=True):
    __tablename__: ClassVar[str] = "worker"
    run: str = Field(index=True)


class BatchRow(Document, table=True):
    __tablename__: ClassVar[str] = "batch"
    closed: bool
    # The open batches are read without the closed ones.
    __table_args__ = (Index("batch_open", "id", sqlite_where=text("closed = 0")),)


class BlockRow(Document, table=True):
    __tablename__: ClassVar[str] = "command_block"
    run: str
    number: int
    #: Number of commands that wait.
    waiting: int
    __table_args__ = (
        Index("command_block_number", "run", "number"),
        Index("command_block_waiting", "run", "number", sqlite_where=text("waiting > 0")),
    )


class RecordChunkRow(Document, table=True):
    __tablename__: ClassVar[str] = "record_chunk"
    run: str
    first: int
    last: int
    __table_args__ = (Index("record_chunk_commands", "run", "first", "last"),)


class UploadRow(Document, table=True):
    __tablename__: ClassVar[str] = "upload"
    owner: str
    created_at: float
    #: Bytes of the parts in the bucket, and of the body.
    size: int
    #: Whether a run was started with it.
    used: bool
    # The unused uploads of an owner are summed from this index, and the old ones are found in it.
    __table_args__ = (Index("upload_unused", "owner", "created_at", "size", sqlite_where=text("used = 0")),)


class MachineUsageRow(Document, table=True):
    #: The row's id is the machine's.
    __tablename__: ClassVar[str] = "machine_usage"


class UsageRow(SQLModel, table=True):
    """The sums of the usage of machines, in whole numbers. Usage is read only here, however many runs there were."""

    __tablename__: ClassVar[str] = "usage"
    #: The dimensions.
    day: int = Field(primary_key=True)
    owner: str = Field(primary_key=True)
    job_id: str = Field(primary_key=True)
    job: str = Field(primary_key=True)
    user: str = Field(primary_key=True)
    instance_type: str = Field(primary_key=True)
    market: str = Field(primary_key=True)
    use: str = Field(primary_key=True)
    tags: str = Field(primary_key=True)
    #: The number of parts in the sums; a row without parts is deleted.
    parts: int
    seconds_at_least: int
    seconds: int
    seconds_at_most: int
    dollars_at_least: int
    dollars: int
    dollars_at_most: int
    disk_dollars_at_least: int
    disk_dollars: int
    disk_dollars_at_most: int
    reserved_dollars: int
    unpriced_seconds: int
    unpriced_disk_seconds: int
    # A period's rows are next to each other: without a row id, the table is sorted by its key.
    __table_args__ = ({"sqlite_with_rowid": False},)


class PriceUsedRow(SQLModel, table=True):
    """The lowest and highest price that an owner's usage of one day was computed with, and the prices' dates."""

    __tablename__: ClassVar[str] = "price_used"
    day: int = Field(primary_key=True)
    owner: str = Field(primary_key=True)
    disk: bool = Field(primary_key=True)
    instance_type: str = Field(primary_key=True)
    market: str = Field(primary_key=True)
    source: str = Field(primary_key=True)
    least: float
    most: float
    oldest: float
    newest: float
    __table_args__ = ({"sqlite_with_rowid": False},)


class LeaseRow(SQLModel, table=True):
    """The lease: at most one row, with id 1."""

    __tablename__: ClassVar[str] = "lease"
    id: int = Field(primary_key=True)
    epoch: int
    holder: str
    kind: str
    expires_at: float


class NoteRow(SQLModel, table=True):
    """The store's own id, the operators' choices, and cached values."""

    __tablename__: ClassVar[str] = "note"
    key: str = Field(primary_key=True)
    value: str
    stored_at: float


def row(item: records.Record, body: str) -> tuple[type[Document], dict[str, Any]]:
    """Return the record's table, and its row in this table with the version increased by one."""
    shared: dict[str, Any] = {"id": item.id, "version": item.version + 1, "body": body}
    size = len(body.encode())
    match item:
        case jobs.Job():
            deleted = item.deleted_at is not None
            # Keep a deleted job's row for its runs, but under another name, so that a new job can use the old name.
            name = f"{item.name} (deleted {item.id})" if deleted else item.name
            scheduled = item.schedule is not None and not deleted
            return JobRow, shared | {
                "owner": item.owner,
                "name": name,
                "deleted": deleted,
                "scheduled": scheduled,
                "size": size,
            }
        case records.Run():
            return RunRow, shared | {
                "job_id": item.job_id,
                "job_name": item.job_name,
                "owner": item.owner,
                "key": item.idempotency_key,
                "created_at": item.created_at,
                "done": item.done_at is not None,
                "state": item.state,
                "outcome": item.verdict.outcome if item.verdict and item.ended_at is not None else "",
                "size": size,
                "upload": item.upload,
            }
        case records.Node():
            return NodeRow, shared | {"run": item.run, "attempt": item.attempt, "rank": item.rank}
        case records.KnownMachine():
            # A machine that changes after its usage was saved is accounted for again.
            shared |= {"accounted": False}
            if item.ended_at is None:
                return MachineRow, shared | {"ended": False, "used_from": 0.0, "used_until": 0.0, "hourly": 0.0}
            use = use_of(item, item.ended_at)
            used = {"used_from": use.begins, "used_until": use.ends, "hourly": use.hourly}
            return MachineRow, shared | {"ended": True, **used}
        case records.Launch():
            return LaunchRow, shared | {"closed": item.closed_at is not None}
        case records.Drought():
            return DroughtRow, shared
        case records.TemplateHealth():
            return TemplateHealthRow, shared
        case records.Event():
            return EventRow, shared | {"run": item.run, "at": item.at}
        case callers.Token():
            return TokenRow, shared | {"created_at": item.created_at}
        case callers.Session():
            return SessionRow, shared | {"expires_at": item.expires_at}
        case jobs.Revision():
            return RevisionRow, shared | {"job": item.job, "number": item.number, "owner": item.owner, "size": size}
        case callers.Audit():
            return AuditRow, shared | {"at": item.at}
        case lists.CommandList():
            return CommandListRow, shared
        case lists.Worker():
            return WorkerRow, shared | {"run": item.run}
        case lists.Batch():
            return BatchRow, shared | {"closed": item.closed_at is not None}
        case lists.Block():
            return BlockRow, shared | {"run": item.run, "number": item.number, "waiting": item.waiting}
        case lists.RecordChunk():
            return RecordChunkRow, shared | {"run": item.run, "first": item.first, "last": item.last}
        case uploads.Upload():
            return UploadRow, shared | {
                "owner": item.owner,
                "created_at": item.created_at,
                "size": item.size + size,
                "used": False,
            }
        case amounts.MachineUsage():
            return MachineUsageRow, shared
