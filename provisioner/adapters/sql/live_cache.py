"""Keep the live records in memory: a pass reads them several times, and few change in between."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection
from sqlmodel import col, select, text

from provisioner.adapters.sql import tables
from provisioner.core.commands.records import Batch, CommandList, Worker
from provisioner.core.protocol.codec import decode
from provisioner.core.run.machines.messages import in_time
from provisioner.core.run.records import Drought, KnownMachine, Launch, Live, Node, Record, Run, TemplateHealth

_UNFINISHED = select(tables.RunRow.id).where(col(tables.RunRow.done).is_(False))

#: The table of each kind of record, and the condition for the rows of live records.
_KEPT: Mapping[type[Record], tuple[Any, Any]] = {
    Run: (tables.RunRow, col(tables.RunRow.done).is_(False)),
    Node: (tables.NodeRow, col(tables.NodeRow.run).in_(_UNFINISHED)),
    Launch: (tables.LaunchRow, col(tables.LaunchRow.closed).is_(False)),
    KnownMachine: (tables.MachineRow, col(tables.MachineRow.ended).is_(False)),
    Drought: (tables.DroughtRow, True),
    TemplateHealth: (tables.TemplateHealthRow, True),
    CommandList: (tables.CommandListRow, col(tables.CommandListRow.id).in_(_UNFINISHED)),
    Worker: (tables.WorkerRow, col(tables.WorkerRow.run).in_(_UNFINISHED)),
    Batch: (tables.BatchRow, text("closed = 0")),
}

#: Maximum number of variables of one statement; SQLite allows more.
BATCH = 500


def record_of(kind: Any, body: str) -> Any:
    """Return the record in a stored body.

    Earlier releases stored the times in a machine's messages unchecked; these times are clamped to the machine's life.
    """
    found = decode(kind, body.encode())
    return in_time(found) if isinstance(found, Node) else found


class LiveCache:
    """The live records. Not thread-safe: callers hold the store's lock."""

    def __init__(self) -> None:
        #: By kind and id; empty until the first `catch_up`.
        self._records: dict[type[Record], dict[str, Any]] = {}
        self._live: Live | None = None

    def note(self, written: Iterable[Record]) -> None:
        """Update the cache with records that this store has just committed."""
        for item in written:
            known = self._records.get(type(item))
            if known is not None:
                self._live = None
                if _over(item):
                    known.pop(item.id, None)
                else:
                    known[item.id] = item

    def catch_up(self, connection: Connection) -> None:
        """Read the changes of other processes: the versions of all live records, and the bodies of changed records."""
        self._live = None
        for kind, (row, alive) in _KEPT.items():
            known = self._records.get(kind, {})
            versions = dict(connection.execute(select(row.id, row.version).where(alive)).all())
            news = [id for id, version in versions.items() if id not in known or known[id].version != version]
            for first in range(0, len(news), BATCH):
                batch = news[first : first + BATCH]
                for id, body in connection.execute(select(row.id, row.body).where(col(row.id).in_(batch))):
                    known[id] = record_of(kind, body)
            self._records[kind] = {id: known[id] for id in versions}

    def live(self) -> Live:
        """Return the live records: the same object while nothing has changed."""
        if self._live is None:
            runs = self._records[Run]
            # The nodes of a run that is done are not live, nor are its list and its workers.
            for kind in (Node, Worker):
                self._records[kind] = {id: each for id, each in self._records[kind].items() if each.run in runs}
            self._records[CommandList] = {id: each for id, each in self._records[CommandList].items() if id in runs}
            every = {kind: tuple(found.values()) for kind, found in self._records.items()}
            self._live = Live(
                runs=tuple(sorted(runs.values(), key=lambda run: run.created_at)),
                nodes=every[Node],
                launches=every[Launch],
                machines=every[KnownMachine],
                droughts=every[Drought],
                templates=every[TemplateHealth],
                lists=every[CommandList],
                workers=every[Worker],
                batches=every[Batch],
            )
        return self._live


def _over(item: Record) -> bool:
    match item:
        case Run():
            return item.done_at is not None
        case Launch():
            return item.closed_at is not None
        case KnownMachine():
            return item.ended_at is not None
        case Batch():
            return item.closed_at is not None
        case _:
            return False
