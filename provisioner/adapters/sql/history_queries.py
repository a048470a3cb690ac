"""Queries for pages of jobs, and for the past of jobs."""

import json
from abc import abstractmethod
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, func, text
from sqlmodel import col, select

from provisioner.adapters.sql.rows import R, of_owners
from provisioner.adapters.sql.tables import JobRow, RevisionRow
from provisioner.core.history.runs import PastRun
from provisioner.core.protocol.words import Outcome
from provisioner.core.recipe.jobs import Job, Revision
from provisioner.core.run.states import State
from provisioner.ports.store import JobFilter

#: The last runs of one job, found in the index `run_job`. SQLite reads the fields of the body without its other text
#: being decoded, because a run's recipe may have 256 KiB. The first attempt's nodes are found by the index of `node`.
_PAST = text(
    """
    SELECT id, created_at, state, outcome,
        json_extract(body, '$.job_revision', '$.ended_at', '$.dollars_at_least', '$.dollars_at_most') AS more,
        (SELECT min(json_extract(node.body, '$.bound_at')) FROM node WHERE node.run = run.id AND attempt = 1) AS began
    FROM run WHERE job_id = :job ORDER BY created_at DESC, id DESC LIMIT :count
    """
)


class HistoryQueries:
    """The part of the store that reads pages of jobs, and what was."""

    @abstractmethod
    def find(self, kind: type[R], query: Any) -> tuple[R, ...]:
        """Return the records that a query finds."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[Connection]:
        """Return the context of one transaction that only reads."""

    def jobs_page(self, which: JobFilter) -> tuple[Job, ...]:
        row = JobRow
        query = of_owners(select(row.body).where(col(row.deleted).is_(False)), row, which.owners)
        if which.search:
            name = func.lower(col(row.owner) + "/" + col(row.name))
            query = query.where(func.instr(name, which.search.lower()) > 0)
        if which.after:
            query = query.where(sqlalchemy.tuple_(col(row.owner), col(row.name)) > sqlalchemy.tuple_(*which.after))
        return self.find(Job, query.order_by(col(row.owner), col(row.name)).limit(which.limit))

    def revision(self, job: str, number: int) -> Revision | None:
        found = self.revisions(job, number + 1, 1)
        return found[0] if found and found[0].number == number else None

    def revisions(self, job: str, before: int | None, limit: int) -> tuple[Revision, ...]:
        row = RevisionRow
        query = select(row.body).where(row.job == job)
        if before is not None:
            query = query.where(col(row.number) < before)
        return self.find(Revision, query.order_by(col(row.number).desc()).limit(limit))

    def past_runs(self, jobs: Collection[str], count: int) -> tuple[PastRun, ...]:
        with self.reading() as connection:
            return tuple(run for job in jobs for run in _past(connection, job, count))


def _past(connection: Connection, job: str, count: int) -> Iterator[PastRun]:
    for row in connection.execute(_PAST, {"job": job, "count": count}):
        revision, ended_at, least, most = json.loads(row.more)
        outcome = Outcome(row.outcome) if row.outcome else None
        times = row.created_at, row.began, ended_at
        yield PastRun(row.id, job, revision, State(row.state), outcome, *times, least, most)
