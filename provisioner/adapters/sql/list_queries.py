"""Queries for the records of lists of commands."""

from abc import abstractmethod
from collections.abc import Collection
from typing import Any

from sqlmodel import col, select, text

from provisioner.adapters.sql.rows import R
from provisioner.adapters.sql.tables import BlockRow, CommandListRow, RecordChunkRow, WorkerRow
from provisioner.core.commands.records import Block, CommandList, RecordChunk, Worker


class ListQueries:
    """The part of the store that reads lists of commands."""

    @abstractmethod
    def find(self, kind: type[R], query: Any) -> tuple[R, ...]:
        """Return the records that a query finds."""

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
