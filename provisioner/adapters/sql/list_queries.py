"""Queries for the records of lists of commands."""

from abc import abstractmethod
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import Connection
from sqlmodel import col, select, text

from provisioner.adapters.sql.rows import R
from provisioner.adapters.sql.tables import BlockRow, CommandListRow, RecordChunkRow, UploadRow, WorkerRow
from provisioner.core.commands.records import Block, CommandList, RecordChunk, Worker
from provisioner.core.commands.uploads import Upload
from provisioner.core.run.records import Record


class ListQueries:
    """The part of the store that reads lists of commands."""

    @abstractmethod
    def find(self, kind: type[R], query: Any) -> tuple[R, ...]:
        """Return the records that a query finds."""

    @abstractmethod
    def transaction(self, stored: Sequence[Record] = ()) -> AbstractContextManager[Connection]:
        """Return the context of one transaction."""

    def command_list(self, run: str) -> CommandList | None:
        found = self.find(CommandList, select(CommandListRow.body).where(CommandListRow.id == run))
        return found[0] if found else None

    def workers(self, run: str) -> tuple[Worker, ...]:
        found = self.find(Worker, select(WorkerRow.body).where(WorkerRow.run == run))
        return tuple(sorted(found, key=lambda worker: (worker.attempt, worker.rank)))

    def blocks(self, run: str, numbers: Collection[int]) -> tuple[Block, ...]:
        row = BlockRow
        query = select(row.body).where(row.run == run, col(row.number).in_(numbers))
        return self.find(Block, query.order_by(col(row.number)))

    def waiting_blocks(self, run: str, limit: int) -> tuple[Block, ...]:
        row = BlockRow
        # SQLite uses the partial index only if the query has the index's condition as text.
        query = select(row.body).where(row.run == run, text("waiting > 0"))
        return self.find(Block, query.order_by(col(row.number)).limit(limit))

    def record_chunks(self, run: str, first: int, last: int) -> tuple[RecordChunk, ...]:
        row = RecordChunkRow
        query = select(row.body).where(row.run == run, row.first <= last, row.last >= first)
        found = self.find(RecordChunk, query)
        return tuple(sorted(found, key=lambda each: (each.attempt, each.rank, each.offset)))

    def upload(self, id: str) -> Upload | None:
        found = self.find(Upload, select(UploadRow.body).where(UploadRow.id == id))
        return found[0] if found else None

    def unused_uploads(self, before: float, limit: int) -> tuple[Upload, ...]:
        row = UploadRow
        query = select(row.body).where(text("used = 0"), row.created_at < before)
        return self.find(Upload, query.order_by(col(row.created_at)).limit(limit))

    def drop_upload(self, id: str) -> bool:
        with self.transaction() as connection:
            found = connection.execute(text("DELETE FROM upload WHERE id = :id AND used = 0"), {"id": id})
        return found.rowcount == 1
